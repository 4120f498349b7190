"""What a large text file costs: a whole run beside a plain script, memory, and ten times the rows.

    python tests/benchmarks/reading.py [--rows 500000] [--pairs 5] [--large] [--keep FOLDER]

The table has 12 columns of numbers. Both sides train one epoch in batches of 4,096 and save the
model; they take turns, each in a process of its own, and the ratio is that of the medians. Peak
memory is that of each process of the run, less that of the same process of a run on 1,000 rows,
which is what TensorFlow and the packages take; the largest is told. `--large` also reads ten times
the rows, as a run does before TensorFlow is imported.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import pyarrow
from pyarrow import csv

COLUMNS = 12
SMALL_BYTES = 64e6
"""Processes with less memory are helpers, such as git."""
CONFIG = """
data: {train: {csv: FILE, target: y}, standardize: true}
model: {layers: [{Dense: {units: 64, activation: relu}}, {Dense: {units: 64, activation: relu}},
                 {Dense: {units: 1}}]}
compile: {optimizer: {Adam: {learning_rate: 0.003}}, loss: mse}
batch_size: 4096
phases: [{name: main, epochs: 1}]
"""
PLAIN = """
import sys, numpy as np, keras
from pyarrow import csv
keras.utils.set_random_seed(0)
table = csv.read_csv(sys.argv[1])
x = np.stack([table[name].to_numpy() for name in table.column_names if name != "y"], axis=1)
y = table["y"].to_numpy()
x = ((x - x.mean(axis=0)) / x.std(axis=0)).astype("float32")
dense = keras.layers.Dense
model = keras.Sequential([dense(64, "relu"), dense(64, "relu"), dense(1)])
model.compile(optimizer=keras.optimizers.Adam(0.003), loss="mse")
model.fit(x, y, batch_size=4096, epochs=1, verbose=0)
model.save(sys.argv[2])
"""
READ = """
import resource, sys, tempfile, time
from pathlib import Path
from orchestrator.config import load as configs
from orchestrator.data import cache, load
config = configs.load(sys.argv[1])
with tempfile.TemporaryDirectory(dir=sys.argv[2]) as folder:
    start = time.perf_counter()
    cache.save(load.load_lazily(config), Path(folder))
    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def write(folder: Path, rows: int) -> Path:
    """A config beside a table of so many rows."""
    draw = np.random.default_rng(0)
    path = folder / f"{rows}.csv"
    block = 500_000
    for start in range(0, rows, block):
        x = draw.normal(size=(min(block, rows - start), COLUMNS - 1))
        columns = {f"x{index}": x[:, index] for index in range(COLUMNS - 1)}
        table = pyarrow.table({**columns, "y": np.abs(x[:, 0]) + x[:, 1] * x[:, 2]})
        with path.open("ab") as file:
            csv.write_csv(table, file, csv.WriteOptions(include_header=start == 0))
    config = path.with_suffix(".yaml")
    config.write_text(CONFIG.replace("FILE", path.name))
    return config


def peak_of(pid: int) -> int:
    """Peak resident memory of a process in bytes; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(found[0].split()[1]) * 1024 if found else 0


def descendants(pid: int) -> list[int]:
    """The process and all that it has started, and those have."""
    found = [pid]
    for each in found:
        try:
            for tasks in Path(f"/proc/{each}/task").glob("*/children"):
                found += map(int, tasks.read_text().split())
        except OSError:  # it, or a thread of it, has ended meanwhile
            continue
    return found


def measure(command: Sequence[str]) -> tuple[float, list[int]]:
    """Seconds that a command takes, and the peak memory of its processes in order, in bytes."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    peaks: dict[int, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            for pid in descendants(process.pid):
                peaks[pid] = max(peaks.get(pid, 0), peak_of(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, errors = process.communicate()
    seconds = time.perf_counter() - start
    ended.set()
    watcher.join()
    if process.returncode:
        raise click.ClickException(errors.decode())
    return seconds, [peaks[pid] for pid in sorted(peaks) if peaks[pid] > SMALL_BYTES]


def orchestrate(config: Path) -> list[str]:
    """The command that takes the config to its run."""
    runs = config.parent / "runs"
    return [sys.executable, "-m", "orchestrator", str(config), "--runs-dir", str(runs), "--quiet"]


def read(config: Path) -> float:
    """Seconds that it takes to read the rows and to store them."""
    command = [sys.executable, "-c", READ, str(config), str(config.parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[0])


def compare_runs(config: Path, pairs: int) -> None:
    """Whole runs beside a plain script, in turn."""
    table, model = config.with_suffix(".csv"), config.parent / "plain.keras"
    plain, ours = [], []
    for _ in range(pairs):
        plain.append(measure([sys.executable, "-c", PLAIN, str(table), str(model)])[0])
        ours.append(measure(orchestrate(config))[0])
        click.echo(f"plain {plain[-1]:6.2f} s   orchestrate {ours[-1]:6.2f} s")
    ratio = statistics.median(ours) / statistics.median(plain)
    click.echo(f"ratio of the medians {ratio:.2f}, at most 1.5")


def compare_memory(config: Path, small: Path, rows: int) -> None:
    """Peak memory beside that of a run on next to no rows."""
    large, own = (measure(orchestrate(each))[1] for each in (config, small))
    over = max(peak - before for peak, before in zip(large, own, strict=True))
    arrays = rows * COLUMNS * 4
    limit = 3 * arrays + 150e6
    click.echo(f"memory over TensorFlow's own {over / 1e6:.0f} MB, at most {limit / 1e6:.0f} MB")


def compare_sizes(config: Path, large: Path, pairs: int) -> None:
    """Reading a table beside reading one of ten times the rows, in turn."""
    one, ten = [], []
    for _ in range(pairs):
        one.append(read(config))
        ten.append(read(large))
        click.echo(f"read {one[-1]:6.2f} s   ten times the rows {ten[-1]:6.2f} s")
    ratio = statistics.median(ten) / statistics.median(one)
    click.echo(f"ratio of the medians {ratio:.1f}, at most 11")


@click.command()
@click.option("--rows", default=500_000)
@click.option("--pairs", default=5)
@click.option("--large", is_flag=True, help="Read ten times the rows, too.")
@click.option("--keep", type=click.Path(path_type=Path), help="Where the tables stay.")
def main(rows: int, pairs: int, large: bool, keep: Path | None) -> None:
    """Print what a large text file costs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    folder = keep or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    try:
        configs = {count: folder / f"{count}.yaml" for count in (1000, rows, 10 * rows)}
        for count in (1000, rows, *([10 * rows] if large else [])):
            if not configs[count].exists():
                write(folder, count)
        compare_runs(configs[rows], pairs)
        compare_memory(configs[rows], configs[1000], rows)
        if large:
            compare_sizes(configs[rows], configs[10 * rows], pairs)
            compare_memory(configs[10 * rows], configs[1000], 10 * rows)
    finally:
        if keep is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
