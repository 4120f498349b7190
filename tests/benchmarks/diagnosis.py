"""What a diagnosis costs, as ratios to `model.predict` at the same batch size.

    python tests/benchmarks/diagnosis.py [--pairs 7] [dense] [early] [gradients] [resnet]

Each pair runs `predict` and the other in turn, in one process; the figure is the median of the
pairs' ratios, beside that of null pairs (`predict` against itself) that shows the machine's noise.
"Warm" uses a graph that was traced before, as the loop does from the second phase on and as
`predict` does; "cold" is `orchestrator.diagnose`, tracing included.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from orchestrator.config.sections.checks import Checks
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import Arguments, diagnose
from orchestrator.diagnosis.examine import examine
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.model.outputs import find_outputs

BATCH_SIZE = 1024


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def compare(
    name: str, base: Callable[[], object], others: dict[str, Callable[[], object]], pairs: int
) -> None:
    """Print the median ratio of each of the others to the base."""
    base()
    ratios: dict[str, list[float]] = {"null pair": [], **{each: [] for each in others}}
    times = []
    for _ in range(pairs):
        for each, function in {"null pair": base, **others}.items():
            plain = seconds(base)
            times.append(plain)
            ratios[each].append(seconds(function) / plain)
    click.echo(f"{name}: predict takes {statistics.median(times):.2f} s")
    for each, found in ratios.items():
        low, middle, high = min(found), statistics.median(found), max(found)
        click.echo(f"  {each:40} {middle:6.3f}   ({low:.3f} to {high:.3f}, {pairs} pairs)")


def dense(rows: int = 60_000) -> tuple[keras.Model, Rows]:
    """A classifier of 784 inputs that has learnt its classes."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 784)).astype(np.float32)
    y = (x @ generator.normal(size=(784, 10))).argmax(axis=1)
    keras.utils.set_random_seed(0)
    hidden = [keras.layers.Dense(width, activation="relu") for width in (512, 512, 256)]
    model = keras.Sequential(
        [keras.layers.Input((784,)), *hidden, keras.layers.Dense(10, activation="softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=256, epochs=1, verbose=0)
    return model, Rows(x=x, y=y)


def resnet(rows: int = 256, *, settled: bool = True) -> tuple[keras.Model, Rows]:
    """ResNet50 on small images.

    Args:
        rows: how many.
        settled: give BatchNorm the moving statistics of the images, as training does. Without
            them the prediction is constant in inference mode alone, and the diagnosis owes a
            second pass with the batches' statistics.
    """
    model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3), classes=10)
    model.compile("adam", "sparse_categorical_crossentropy")
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 64, 64, 3)).astype(np.float32)
    if settled:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.0
        model(x[:128], training=True)
    return model, Rows(x=x, y=generator.integers(0, 10, rows))


def warm(
    model: keras.Model, rows: Rows, *, batch_size: int = BATCH_SIZE, **options: Any
) -> Callable[[], object]:
    """A diagnosis in a graph that was traced before."""
    probe = Probe(model)
    outputs = find_outputs(model, Arguments(), rows)

    def look() -> object:
        return examine(probe, rows, outputs, Checks(), Evidence(), batch_size=batch_size, **options)

    look()
    return look


def obvious(model: keras.Model, rows: Rows, batch_size: int) -> Callable[[], object]:
    """A submodel that returns every activation, then NumPy."""
    inner = keras.Model(model.inputs, [layer.output for layer in model.layers])

    def count() -> object:
        found = inner.predict(rows.x, batch_size=batch_size, verbose=0)
        return [(each.reshape(-1, each.shape[-1]) > 0).sum(axis=0) for each in found]

    return count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    cases = ("dense", "early", "gradients", "resnet")
    parser.add_argument("cases", nargs="*", help="default: all", metavar="|".join(cases))
    parser.add_argument("--pairs", type=int, default=7)
    given = parser.parse_args(arguments)
    chosen = given.cases or cases
    if {"dense", "early", "gradients"} & set(chosen):
        model, rows = dense()

        def predict() -> object:
            return model.predict(rows.x, batch_size=BATCH_SIZE, verbose=0)

        others: dict[str, Callable[[], object]] = {}
        if "dense" in chosen:
            others["exhaustive, warm"] = warm(model, rows)
            others["exhaustive, cold: diagnose()"] = lambda: diagnose(model, rows.x, rows.y)
            others["a submodel and NumPy"] = obvious(model, rows, BATCH_SIZE)
        if "early" in chosen:
            others["until certain, warm"] = warm(model, rows, exhaustive=False, last=False)
            others["until certain, cold: diagnose()"] = lambda: diagnose(
                model, rows.x, rows.y, exhaustive=False
            )
        if "gradients" in chosen:
            others["with gradients, warm"] = warm(model, rows, gradients="always")
        compare("60,000 x 784, 512-512-256", predict, others, given.pairs)
    if "resnet" in chosen:
        model, rows = resnet()
        lagging, _ = resnet(settled=False)

        def predict_images() -> object:
            return model.predict(rows.x, batch_size=64, verbose=0)

        compare(
            "ResNet50, 256 images of 64 x 64",
            predict_images,
            {
                "exhaustive, warm": warm(model, rows, batch_size=64, last=False),
                "exhaustive, cold: diagnose()": lambda: diagnose(
                    model, rows.x, rows.y, batch_size=64
                ),
                "lagging statistics, warm: two passes": warm(
                    lagging, rows, batch_size=64, training_batch_size=64, last=False
                ),
            },
            max(given.pairs // 2, 3),
        )


if __name__ == "__main__":
    main()
