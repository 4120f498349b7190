"""What the gradient watch costs a training step, against plain `model.fit` with nothing attached.

    python tests/benchmarks/watch.py [--seconds 20]

Three models of the same weights take turns, a call of Keras's training function each, in a new
order every time: one as it is, an identical one, which shows what chance does, and one that is
watched. A call is `steps_per_execution` steps. The figures are milliseconds of a plain call, and
what the others cost as a multiple of the plain one in the same turn: the median over the turns,
with the half width of its 95% interval.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import click
import keras
import numpy as np
import tensorflow as tf

from orchestrator.diagnosis.watch.gradients import GradientWatch

SIZES = (((784, 512, 512, 256), 128), ((16, 32, 32), 32))
"""Inputs and units of the layers, and rows of a batch."""
WAYS: Sequence[dict[str, Any]] = (
    {"steps_per_execution": 1},
    {"steps_per_execution": 16},
    {"steps_per_execution": 1, "jit_compile": True},
    {"steps_per_execution": 16, "jit_compile": True},
)
_FIRST = 5
"""Turns that are left out: TensorFlow traces and warms up."""


def stepping(sizes: Sequence[int], batch: int, ways: dict[str, Any], *, watched: bool) -> Any:
    """What trains a model by one call of its training function, and waits for it."""
    keras.utils.set_random_seed(0)
    hidden = (keras.layers.Dense(units, activation="relu") for units in sizes[1:])
    model = keras.Sequential([keras.Input((sizes[0],)), *hidden, keras.layers.Dense(1)])
    model.compile("adam", "mse", **{"jit_compile": False, **ways})
    model.optimizer.build(model.trainable_variables)
    if watched:
        GradientWatch(model).attach()
    model.make_train_function()
    x = np.random.default_rng(0).normal(size=(8 * batch, sizes[0])).astype("float32")
    rows = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(batch).cache().repeat()
    iterator = iter(rows.prefetch(2))

    def step() -> None:
        for value in model.train_function(iterator).values():
            value.numpy()

    return step


def seconds(step: Callable[[], None]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def compared(steps: dict[str, Callable[[], None]], limit: float) -> dict[str, list[float]]:
    """The times of each in the same turns, until so many seconds are over."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    random, end = np.random.default_rng(0), time.perf_counter() + limit
    for turn in itertools.count():
        if turn > 3 * _FIRST and time.perf_counter() > end:
            return found
        for name in random.permutation([*steps]):
            taken = seconds(steps[name])
            if turn >= _FIRST:
                found[name].append(taken)
    raise AssertionError  # there is no last turn


def ratio(times: Sequence[float], plain: Sequence[float]) -> str:
    """Median of the multiples, and how far its 95% interval reaches: by the sign test's ranks."""
    multiples = sorted(one / other for one, other in zip(times, plain, strict=True))
    count = len(multiples)
    reach = round(0.98 * count**0.5)
    low = multiples[max(count // 2 - reach, 0)]
    high = multiples[min(count // 2 + reach, count - 1)]
    return f"{statistics.median(multiples):.3f} ± {(high - low) / 2:.3f}"


@click.command()
@click.option("--seconds", "limit", default=20.0, help="How long each comparison takes.")
def main(limit: float) -> None:
    """Compare, and print a line for each size and way."""
    for (sizes, batch), ways in itertools.product(SIZES, WAYS):
        steps = {
            "plain": stepping(sizes, batch, ways, watched=False),
            "null": stepping(sizes, batch, ways, watched=False),
            "watched": stepping(sizes, batch, ways, watched=True),
        }
        found = compared(steps, limit)
        plain = found["plain"]
        click.echo(
            f"{'-'.join(map(str, sizes))}, batch {batch}, {ways}: "
            f"{1e3 * statistics.median(plain):.2f} ms, {len(plain)} turns; "
            f"null {ratio(found['null'], plain)}, watched {ratio(found['watched'], plain)}"
        )


if __name__ == "__main__":
    main()
