"""How long it takes to list many runs, as ratios to importing rich's tables.

    python tests/benchmarks/history.py [--runs 10000] [--attempts 5] [--repeat 7] [--keep FOLDER]

The runs are copies of one real run of as many attempts, each with a name, a time and figures of its
own. "Cold" deletes the cache of lines before each time; what the system keeps of the files in its
memory is what a person would find after having written them. Peak memory is the process's.
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import yaml

from orchestrator.history import index
from orchestrator.training import launch as launcher

CODE = """
import numpy as np

def rows():
    x = np.random.default_rng(0).uniform(-3**0.5, 3**0.5, (200, 1))
    return x, -1 - np.abs(x).sum(axis=1)
"""


def real(folder: Path, attempts: int) -> dict[str, object]:
    """A run that takes as many attempts, for its policy allows no more and none passes."""
    (folder / "rows.py").write_text(CODE)
    hidden = {"Dense": {"units": 32, "activation": "relu", "kernel_initializer": "zeros",
                        "bias_initializer": {"Constant": {"value": -1.0}}}}  # fmt: skip
    document = {
        "data": {"train": {"callable": "rows:rows"}},
        "model": {"layers": [{"Dense": {"units": 8}}, hidden, hidden, {"Dense": {"units": 1}}]},
        "compile": {"optimizer": "Adam", "loss": "mse"},
        "phases": [{"name": "warmup", "epochs": 2}, {"name": "main", "epochs": 3}],
        "checks": {"dead_neurons": "off", "metric": {"name": "loss", "max": 0.0}},
        "restart": {"max_attempts": attempts, "screen_seeds": 0,
                    "policy": [{"remedy": "new_seed", "times": attempts}]},
    }  # fmt: skip
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(document))
    return dict(launcher.run(path, runs_dir=folder / "made", quiet=True))


def copies(record: dict[str, object], folder: Path, runs: int) -> int:
    """Write the runs; returns the bytes of one record."""
    draw = random.Random(0)
    for number in range(runs):
        name = f"case{number % 7}-20261123-{number // 3600:02d}{number // 60 % 60:02d}" \
               f"{number % 60:02d}-{draw.randrange(2**16):04x}"  # fmt: skip
        started = f"2026-11-{1 + number % 28:02d}T{number // 3600 % 24:02d}:00:00+00:00"
        text = json.dumps(record | {"run": name, "started": started, "seconds": draw.random()})
        (folder / name).mkdir()
        (folder / name / "run.json").write_text(json.dumps(json.loads(text), indent=1))
    return (folder / name / "run.json").stat().st_size


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@click.command()
@click.option("--runs", default=10_000, show_default=True)
@click.option("--attempts", default=5, show_default=True)
@click.option("--repeat", default=7, show_default=True)
@click.option("--keep", type=click.Path(path_type=Path), help="Make the history here; keep it.")
def main(runs: int, attempts: int, repeat: int, keep: Path | None) -> None:
    """Print the times."""
    folder = keep or Path(tempfile.mkdtemp())
    try:
        history = folder / "runs"
        if not history.exists():
            history.mkdir(parents=True)
            size = copies(real(folder, attempts), history, runs)
            click.echo(f"{runs} runs of {attempts} attempts, {size / 1e3:.1f} kB each")
            time.sleep(3)  # younger files are not kept in the cache
        listing = ("-m", "orchestrator", "history", "--runs-dir", str(history))
        ways = {
            "import rich.table": ("-c", "import rich.table"),
            "cold": (*listing, "--no-cache"),
            "cold, writing the cache": listing,
            "cached": listing,
            "cached, --where": (*listing, "--where", "loss<1e9", "--sort", "loss", "--limit", "20"),
            "cold, --json": (*listing, "--no-cache", "--json"),
            "cold, --csv": (*listing, "--no-cache", "--csv"),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeat):
            for name, command in ways.items():
                if name == "cold, writing the cache":
                    (history / index.NAME).unlink(missing_ok=True)
                times[name].append(seconds(*command))
        base = statistics.median(times["import rich.table"])
        for name, found in times.items():
            middle = statistics.median(found)
            click.echo(f"  {name:24} {middle:6.2f} s  {middle / base:5.1f}×  "
                       f"({min(found):.2f} to {max(found):.2f})")  # fmt: skip
        (history / index.NAME).unlink(missing_ok=True)
        for name in ("cold", "cached"):
            pid = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", PEAK, *listing[3:]])
            os.waitpid(pid, 0)
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            click.echo(f"  peak memory so far, {name}: {peak / 1e3:.0f} MB")
    finally:
        if keep is None:
            shutil.rmtree(folder)


PEAK = """
import os, sys
sys.stdout = open(os.devnull, "w")
from orchestrator.cli.app import main
main(["history", *sys.argv[1:]])
"""

if __name__ == "__main__":
    main()
