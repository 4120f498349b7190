"""Whether the last epochs of a long training cost as much as the first.

    python tests/benchmarks/epochs.py [--epochs 10000] [--block 1000] [--repeat 5] [--train]
                                      [--folder FOLDER]

Recorded are made-up epochs, by the real store in a run directory on a real disk. As timings swing
with the machine, single epochs take turns: one of the first, one of the last, and one of the first
of another run, which shows what chance does. The figures are milliseconds for one of the first
epochs, and what the others cost as a multiple: the median of the repetitions, the least and the
greatest. The processor's time leaves out the waiting for the disk.

With --train the first and the last epochs of a real `orchestrate` run are compared, too: a network
of two weights on 32 rows, so that there is little to hide behind. They cannot take turns, so what
counts is the processor's time, here that of the process that trains; the clock is that of the
journal. The first ten epochs, during which TensorFlow traces, are left out.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from orchestrator.record.events import AttemptStarted, EpochEnded, PhaseStarted
from orchestrator.record.records import Inputs, Settings
from orchestrator.record.storage import journal, store
from orchestrator.record.storage.directory import Paths
from orchestrator.record.storage.store import Store

CODE = """
import time
import keras
import numpy as np

def rows():
    x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    return x, 2 * x[:, 0]

class Clock(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        with open("processor.txt", "a") as file:
            print(time.process_time(), file=file)
"""
_TRACED = 10
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}


def started(folder: Path, epochs: int) -> Store:
    """A run directory whose attempt has so many epochs before it."""
    made = store.create(
        folder, name="epochs", config=b"", resolved="", environment={},
        inputs=Inputs(columns=("x",)), fingerprint=None,
    )  # fmt: skip
    attempt = AttemptStarted(
        attempt=1, settings=Settings(seed=0), remedy=None, cause=None, changed={}, passed_over=()
    )
    made.record(attempt)
    made.record(PhaseStarted(attempt=1, phase="main", epochs=epochs, learning_rate=0.01))
    return made


def record(made: Store, number: int) -> None:
    """Record one epoch."""
    names = ("loss", "mae", "val_loss", "val_mae")
    metrics = dict.fromkeys(names, 1 / number)
    made.record(
        EpochEnded(attempt=1, phase="main", epoch=number, learning_rate=0.01, metrics=metrics)
    )


def recorded(folder: Path, epochs: int, block: int) -> dict[str, list[list[float]]]:
    """Seconds of single epochs by each clock: the first, the last, and the first of another run."""
    found: dict[str, list[list[float]]] = {name: [[], [], []] for name in CLOCKS}
    with contextlib.ExitStack() as stack:
        runs = [stack.enter_context(started(folder, epochs)) for _ in range(3)]
        for number in range(1, epochs - block + 1):
            record(runs[1], number)
        for number in range(1, block + 1):
            for index, (made, before) in enumerate(zip(runs, (0, epochs - block, 0), strict=True)):
                begun = {name: clock() for name, clock in CLOCKS.items()}
                record(made, before + number)
                for name, clock in CLOCKS.items():
                    found[name][index].append(clock() - begun[name])
    return found


def trained(folder: Path, epochs: int, block: int) -> dict[str, list[float]]:
    """Seconds of one of the first and of one of the last epochs of a real run by each clock."""
    (folder / "line.py").write_text(CODE)
    document = {
        "data": {"train": {"callable": "line:rows"}},
        "model": {"layers": [{"Dense": {"units": 1}}]},
        "compile": {"optimizer": "SGD", "loss": "mse"},
        "phases": [{"name": "main", "epochs": epochs}],
        "fit": {"callbacks": ["line:Clock"]},
    }
    (folder / "line.yaml").write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "orchestrator", "line.yaml", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    (directory,) = (folder / "runs").glob("line-*")
    entries = journal.read(Paths(directory).journal)
    ends = {
        "clock": [entry.elapsed for entry in entries if isinstance(entry.event, EpochEnded)],
        "processor": [*map(float, (folder / "processor.txt").read_text().split())],
    }
    return {
        name: [
            (times[_TRACED + block] - times[_TRACED]) / block,
            (times[-1] - times[-1 - block]) / block,
        ]
        for name, times in ends.items()
    }


def show(name: str, found: Sequence[Sequence[float]]) -> None:
    """A line: milliseconds of one of the first epochs, and the others as multiples of it."""
    told = f"{name:<24}{1e3 * statistics.median(first for first, *_ in found):8.3f} ms"
    for column, title in enumerate(("last", "first of another")[: len(found[0]) - 1], start=1):
        ratios = sorted(row[column] / row[0] for row in found)
        told += f"   {title} {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
    click.echo(told)


@click.command()
@click.option("--epochs", default=10_000, show_default=True, help="Epochs of a run.")
@click.option("--block", default=1000, show_default=True, help="How many are first, or last.")
@click.option("--repeat", default=5, show_default=True, help="Repetitions.")
@click.option("--train", is_flag=True, help="Train, too.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the runs are made and deleted; default the system's temporary folder.",
)
def main(epochs: int, block: int, repeat: int, train: bool, folder: Path | None) -> None:
    """Compare the first and the last epochs of long runs."""
    ways = ("recorded", *(["trained"] if train else []))
    shown: dict[str, list[list[float]]] = {f"{way}, {name}": [] for way in ways for name in CLOCKS}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(dir=folder) as made:
            for name, kinds in recorded(Path(made), epochs, block).items():
                shown[f"recorded, {name}"].append([statistics.fmean(each) for each in kinds])
        if train:
            with tempfile.TemporaryDirectory(dir=folder) as made:
                for name, pair in trained(Path(made), epochs, block).items():
                    shown[f"trained, {name}"].append(pair)
    for name, found in shown.items():
        show(name, found)


if __name__ == "__main__":
    main()
