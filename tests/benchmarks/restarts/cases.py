"""All cases: those of `repairable`, networks that are healthy, and some that nothing repairs."""

from __future__ import annotations

from tests.benchmarks.restarts import repairable
from tests.benchmarks.restarts.case import (
    Case,
    adam,
    convolutions,
    dense,
    dropped,
    epochs,
    network,
    normed,
    recurrent,
    rows,
    sgd,
    stack,
)
from tests.benchmarks.restarts.repairable import absolute, blobs, circles, images

HEALTHY = {
    "healthy": absolute(half="tuned", kind="healthy", about="2×32, Adam 1e-2",
                        model=stack(2, 32), data=rows("absolute"), optimizer=adam(0.01)),
    "weak": absolute(half="tuned", kind="healthy", model=stack(2, 32), data=rows("weak"),
                     about="2×32, 1% of the variance explainable", optimizer=adam(0.001)),
    "rare": circles(half="held_out", kind="healthy", about="4×32, 1% of the rows in the class",
                    data=rows("rare")),
    "dropout": absolute(
        half="held_out", kind="healthy", about="2×64 with dropout of 0.2",
        model=dropped(2, 64, 0.2),
    ),
    "normed_ok": absolute(half="tuned", kind="healthy", about="3×32 with BatchNorm",
                          model=normed(3, 32), optimizer=adam(0.01)),
    "residual_ok": absolute(half="held_out", kind="healthy", about="four residual blocks, normed",
                            model=network("residual", normed=True)),
    "conv_ok": images(half="tuned", kind="healthy", about="convolutions"),
    "conv_norm": images(half="held_out", kind="healthy", about="convolutions with BatchNorm",
                        model=convolutions(norm={})),
    "lstm_ok": absolute(half="held_out", kind="healthy", about="LSTM", model=recurrent("LSTM"),
                        data=rows("sequences"), phases=epochs(12), optimizer=adam(0.01)),
    "gru_ok": absolute(half="tuned", kind="healthy", about="GRU", model=recurrent("GRU"),
                       data=rows("sequences"), phases=epochs(12), optimizer=adam(0.01)),
    "classes_ok": blobs(half="tuned", kind="healthy", about="ten classes, SGD 0.1",
                        optimizer=sgd(0.1)),
    "outputs_ok": absolute(half="held_out", kind="healthy", about="two outputs on one trunk",
                           model=network("trunk"), data=rows("pair")),
    "unequal_ok": blobs(half="tuned", kind="healthy", about="classes of 800, 150 and 50 rows",
                        model=stack(3, 32, ends=3, end="softmax"), data=rows("unequal_blobs")),
    "transfer_ok": blobs(half="held_out", kind="healthy", about="a head on a frozen base",
                         model=network("transfer")),
    # Written together with `repairable.FRESH`.
    "brisk_ok": blobs(half="held_out", kind="healthy", about="ten classes, SGD 0.3",
                      optimizer=sgd(0.3)),
    "pixels_ok": images(half="held_out", kind="healthy", model=convolutions(norm={}),
                        about="convolutions with BatchNorm, pixels from 0 to 255",
                        data=rows("images", pixels=True)),
    "momentum_ok": absolute(half="held_out", kind="healthy", about="4×32, SGD 0.01 with momentum",
                            optimizer={"SGD": {"learning_rate": 0.01, "momentum": 0.9}}),
    "moved_ok": absolute(half="held_out", kind="healthy", about="2×32, targets around 5",
                         model=stack(2, 32), data=rows("moved", mean=5), optimizer=adam(0.01)),
}  # fmt: skip

HOPELESS = {
    "frozen": absolute(
        half="held_out", kind="hopeless", about="no layer trains",
        model={"layers": [dense(32, trainable=False), dense(1, "linear", trainable=False)]},
    ),
    "rounded": absolute(half="tuned", kind="hopeless", about="an output that is rounded",
                        model=network("rounded"), data=rows("absolute")),
}  # fmt: skip

CASES: dict[str, Case] = {**repairable.CASES, **HEALTHY, **HOPELESS}
