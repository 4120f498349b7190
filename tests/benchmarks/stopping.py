"""What looking for a dead network at the end of every epoch costs, as a share of the epoch's time.

python tests/benchmarks/stopping.py [--pairs 15]
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator, Sequence

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

ROWS = 1000


@click.command()
@click.option("--pairs", default=15, show_default=True)
def main(pairs: int) -> None:
    """Print how long the look at the end of an epoch takes beside the epoch."""
    networks = {"9×5": ([5] * 9, 1), "2×32": ([32] * 2, 1), "3×256": ([256] * 3, 64)}
    for name, (widths, columns) in networks.items():
        for dead in (False, True):
            shares = [*shares_of_an_epoch(widths, columns, dead=dead, pairs=pairs)]
            click.echo(
                f"{name}, {'dead' if dead else 'healthy'}: the look takes "
                f"{statistics.median(shares):.3f} of an epoch of {ROWS} rows "
                f"({min(shares):.3f} to {max(shares):.3f}, {pairs} pairs)"
            )


def shares_of_an_epoch(
    widths: Sequence[int], columns: int, *, dead: bool, pairs: int
) -> Iterator[float]:
    """Seconds of a look for a cut over those of an epoch, pair by pair."""
    import keras

    from orchestrator.config.sections.checks import Checks
    from orchestrator.data.rows import Rows
    from orchestrator.diagnosis.examine import non_finite_variables, why_lost
    from orchestrator.diagnosis.tracing.probe import Probe

    keras.utils.set_random_seed(0)
    options = {"activation": "relu", "kernel_initializer": "he_normal"}
    hidden = [keras.layers.Dense(width, **options) for width in widths]
    model = keras.Sequential([keras.layers.Input((columns,)), *hidden, keras.layers.Dense(1)])
    if dead:
        kernel, bias = hidden[-1].get_weights()
        hidden[-1].set_weights([kernel, bias - 1e3])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, columns)).astype(np.float32)
    y = np.abs(x).sum(axis=1)
    rows, probe = Rows(x=x, y=y), Probe(model)
    for pair in range(pairs + 1):
        start = time.perf_counter()
        model.fit(x, y, batch_size=64, verbose=0)
        middle = time.perf_counter()
        broken = non_finite_variables([("weight", model.weights)])
        why_lost(probe, rows, Checks(), non_finite=broken, training_batch_size=64)
        if pair:  # the first one traces
            yield (time.perf_counter() - middle) / (middle - start)


if __name__ == "__main__":
    main()
