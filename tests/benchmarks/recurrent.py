"""What a diagnosis of recurrent layers costs, as ratios to `model.predict` at the same batch size.

    python -m tests.benchmarks.recurrent [--pairs 7] [--steps 200] [LSTM] [GRU]

Each pair runs `predict` and the other in turn, in one process; the figure is the median of the
pairs' ratios, beside that of null pairs (`predict` against itself) that shows the machine's noise.
"Warm" uses a graph that was traced before, as the loop does from the second phase on and as
`predict` does; "cold" is the first `orchestrator.diagnose` of a model, tracing included, in
seconds. The bar, on layers of 24 units over 200 steps and 128 rows: warm at most 5 times predict,
with gradients at most 12 times, cold at most 10 s.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras
import numpy as np

from orchestrator import diagnose
from orchestrator.data.rows import Rows
from tests.benchmarks.diagnosis import compare, seconds, warm

ROWS, COLUMNS, UNITS = 128, 8, 24


def recurrent(kind: str, activation: str, steps: int) -> tuple[keras.Model, Rows]:
    """A classifier of one recurrent layer, and its rows."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, steps, COLUMNS)).astype(np.float32)
    y = (x[:, :, 0].mean(axis=1) > 0).astype(np.int64)
    keras.utils.set_random_seed(0)
    layer = getattr(keras.layers, kind)(UNITS, activation=activation)
    output = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Sequential([keras.layers.Input((steps, COLUMNS)), layer, output])
    model.compile("adam", "binary_crossentropy")
    return model, Rows(x=x, y=y)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ("LSTM", "GRU")
    parser.add_argument("kinds", nargs="*", help="default: all", metavar="|".join(kinds))
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args(arguments)
    for kind in given.kinds or kinds:
        for activation in ("tanh", "relu"):
            model, rows = recurrent(kind, activation, given.steps)

            def predict(model: keras.Model = model, rows: Rows = rows) -> object:
                return model.predict(rows.x, batch_size=ROWS, verbose=0)

            cold = {
                "": seconds(lambda: diagnose(model, rows.x, rows.y)),  # noqa: B023 - called at once
                " with gradients": seconds(
                    lambda: diagnose(model, rows.x, rows.y, gradients=True)  # noqa: B023
                ),
            }
            others = {
                "exhaustive, warm": warm(model, rows, batch_size=ROWS),
                "with gradients, warm": warm(model, rows, batch_size=ROWS, gradients="always"),
            }
            compare(
                f"{kind}, {activation}, {given.steps} steps, {UNITS} units, {ROWS} rows",
                predict,
                others,
                given.pairs,
            )
            for name, each in cold.items():
                click.echo(f"  cold{name}: {each:.1f} s")


if __name__ == "__main__":
    main()
