"""Whether the last epochs of a long training cost as much as the first.

    python tests/benchmarks/epochs.py [--epochs 10000] [--block 1000] [--repeat 5] [--train]
                                      [--folder FOLDER]

The middle column is the cost of one of the first epochs, the right one that of one of the last of
the same run as a multiple of it: the median of the runs, the least and the greatest. The store is
the real one, in a run directory on a real disk. The time of a sync swings with the disk, and all
time with what else the machine does, so the processor's time is shown as well. With --train the
epochs are those of a real `orchestrate` run in a process of its own, timed by its journal: a
network of two weights on 32 rows, so that there is little to hide behind.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import yaml

from orchestrator.record import journal, store
from orchestrator.record.directory import Paths
from orchestrator.record.events import AttemptStarted, EpochEnded, PhaseStarted
from orchestrator.record.records import Inputs, Settings

CODE = """
import numpy as np

def rows():
    x = np.linspace(-1, 1, 32, dtype="float32")[:, None]
    return x, 2 * x[:, 0]
"""


def recorded(folder: Path, epochs: int) -> list[tuple[float, float]]:
    """The clock and the processor's time when each epoch stood in a run directory."""
    made = store.create(
        folder,
        name="epochs",
        config=b"",
        resolved="",
        environment={},
        inputs=Inputs(columns=("x",)),
        fingerprint=None,
    )
    with made:
        made.record(
            AttemptStarted(
                attempt=1,
                settings=Settings(seed=0),
                remedy=None,
                cause=None,
                changed={},
                passed_over=(),
            )
        )
        made.record(PhaseStarted(attempt=1, phase="main", epochs=epochs, learning_rate=0.01))
        ends = [(time.perf_counter(), time.process_time())]
        for number in range(1, epochs + 1):
            value = 1 / number
            made.record(
                EpochEnded(
                    attempt=1,
                    phase="main",
                    epoch=number,
                    learning_rate=0.01,
                    metrics={"loss": value, "mae": value, "val_loss": value, "val_mae": value},
                )
            )
            ends.append((time.perf_counter(), time.process_time()))
    return ends


def trained(folder: Path, epochs: int) -> list[float]:
    """Seconds after which each epoch of a real run stood in its journal."""
    (folder / "line.py").write_text(CODE)
    document = {
        "data": {"train": {"callable": "line:rows"}},
        "model": {"layers": [{"Dense": {"units": 1}}]},
        "compile": {"optimizer": "SGD", "loss": "mse"},
        "phases": [{"name": "main", "epochs": epochs}],
    }
    (folder / "line.yaml").write_text(yaml.safe_dump(document))
    command = [sys.executable, "-m", "orchestrator", "line.yaml", "--quiet"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (directory,) = (folder / "runs").iterdir()
    entries = journal.read(Paths(directory).journal)
    return [
        entry.elapsed for entry in entries if isinstance(entry.event, PhaseStarted | EpochEnded)
    ]


def pair(ends: Sequence[float], block: int) -> tuple[float, float]:
    """Seconds of an epoch among the first and among the last ones."""
    return (ends[block] - ends[0]) / block, (ends[-1] - ends[-1 - block]) / block


def show(name: str, pairs: Sequence[tuple[float, float]]) -> None:
    """One line: seconds of a first epoch, and what a last one costs as a multiple."""
    ratios = sorted(last / first for first, last in pairs)
    first = statistics.median(first for first, _ in pairs)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})" if len(ratios) > 1 else ""
    click.echo(f"{name:<24}{1e3 * first:10.3f} ms{statistics.median(ratios):8.2f} {spread}")


@click.command()
@click.option("--epochs", default=10_000, show_default=True, help="Epochs of one run.")
@click.option("--block", default=1000, show_default=True, help="Epochs at either end.")
@click.option("--repeat", default=5, show_default=True, help="Runs of each kind.")
@click.option("--train", is_flag=True, help="Train, too.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the runs are made and deleted; default the system's temporary folder.",
)
def main(epochs: int, block: int, repeat: int, train: bool, folder: Path | None) -> None:
    """Time the first and the last epochs of long runs."""
    names = ("recorded", "recorded, processor", *(["trained"] if train else []))
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(dir=folder) as made:
            clocks = zip(*recorded(Path(made), epochs), strict=True)
            for name, ends in zip(("recorded", "recorded, processor"), clocks, strict=True):
                found[name].append(pair(ends, block))
        if train:
            with tempfile.TemporaryDirectory(dir=folder) as made:
                found["trained"].append(pair(trained(Path(made), epochs), block))
    for name, pairs in found.items():
        show(name, pairs)


if __name__ == "__main__":
    main()
