"""What is looked for before a training, and how long it takes beside running the rows through.

    python tests/benchmarks/findings.py [--rows 60000] [--columns 784] [--repeat 5]

The rows are images in all but name: ten classes, a third of the columns constant. Each repeat is a
new subject, as each attempt has one; the first one pays for TensorFlow's first traces. Told are the
medians, in seconds of wall clock and of processor time.
"""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Iterator

import click
import keras
import numpy as np

from orchestrator.config.schema import Config
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.causes.before.find import FINDERS
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.outputs import find_outputs

Times = dict[str, list[tuple[float, float]]]
"""Seconds of wall clock and of processor time, by what took them."""


@click.command()
@click.option("--rows", "count", default=60_000)
@click.option("--columns", default=784)
@click.option("--repeat", default=5)
def main(count: int, columns: int, repeat: int) -> None:
    """Print a table."""
    generator = np.random.default_rng(0)
    x = generator.random((count, columns), np.float32)
    x[:, : columns // 3] = 0
    given = Rows(x=x, y=generator.integers(10, size=count))
    plan = {
        "name": "digits",
        "base": ".",
        "data": {"train": {"npz": "digits.npz"}},
        "model": {"layers": ["Dense"]},
        "compile": {"loss": "sparse_categorical_crossentropy"},
        "batch_size": 128,
        "phases": [{"name": "main", "epochs": 5}],
    }
    config = Config.model_validate(plan)
    times: Times = {}
    for _ in range(repeat):
        model = _model(columns)
        outputs = find_outputs(model, config, given)
        probe = Probe(model)
        with _timing("every row through the model", times):
            measured = probe.measure(given)
        subject = Subject(
            model=model,
            outputs=outputs,
            rows=given,
            layers=measured.layers,
            flow=measured.flow,
            config=config,
            steps_per_epoch=given.num_batches(config.batch_size),
        )
        with _timing("all finders", times):
            for finder in FINDERS:
                with _timing(finder.__name__, times):
                    found = [*finder(subject)]
                for finding in found:
                    click.echo(f"false alarm: {finding.told}", err=True)
    for name, each in times.items():
        wall, processor = (statistics.median(column) for column in zip(*each, strict=True))
        first = each[0][0]
        click.echo(f"{name:34} {wall:7.3f} s wall  {processor:7.3f} s cpu  (first {first:.3f} s)")


def _model(columns: int) -> keras.Model:
    dense = keras.layers.Dense
    layers = [dense(512, "relu"), dense(128, "relu"), dense(10, "softmax")]
    model = keras.Sequential([keras.Input((columns,)), *layers])
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


@contextlib.contextmanager
def _timing(name: str, times: Times) -> Iterator[None]:
    begin = time.perf_counter(), time.process_time()
    yield
    passed = time.perf_counter() - begin[0], time.process_time() - begin[1]
    times.setdefault(name, []).append(passed)


if __name__ == "__main__":
    main()
