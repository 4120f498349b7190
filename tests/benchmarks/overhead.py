"""What a whole healthy run costs beside a script in plain Keras that does the same.

    python tests/benchmarks/overhead.py [--epochs 40] [--pairs 5] [--rows 20000] [--tensorboard]

Both read the same csv, the script with pandas; they split and standardise it, train 64-64-1 in
three phases with validation, and save at the end of each. Start-up and exit count. The commands
take turns: the script, the script again, which shows what chance does, and `orchestrate`. The
figures are seconds on the clock and of processor time, all processes together, and what the others
cost as a multiple of the script: the median over the turns, the least and the greatest. Before the
turns each runs once for a single epoch a phase, so that all bytecode is compiled.

With --tensorboard the script has `keras.callbacks.TensorBoard(histogram_freq=1)` in one column, and
`orchestrate` has `tensorboard: true`; each is also a multiple of the same command without.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click
import numpy as np
import yaml

SCRIPT = """
import sys
import keras
import numpy as np
import pandas as pd

epochs, board = int(sys.argv[1]), sys.argv[2:]
table = pd.read_csv("table.csv")
x = table.drop(columns="y").to_numpy("float32")
y = table["y"].to_numpy("float32")
order = np.random.default_rng(0).permutation(len(x))
held, train = order[: len(x) // 5], order[len(x) // 5 :]
x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((x.shape[1],)),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(64, activation="relu"),
    keras.layers.Dense(1),
])
model.compile(keras.optimizers.Adam(1e-3), "mse", metrics=["mae"])
for phase, rate in enumerate((1e-3, 5e-4, 1e-4)):
    model.optimizer.learning_rate = rate
    model.fit(
        x[train], y[train], batch_size=64, initial_epoch=phase * epochs,
        epochs=(phase + 1) * epochs, validation_data=(x[held], y[held]), verbose=0,
        callbacks=[keras.callbacks.TensorBoard(each, histogram_freq=1) for each in board],
    )
    model.save("script.keras")
"""
CONFIG = {
    "data": {
        "train": {"csv": "table.csv", "target": "y"},
        "validation": {"fraction": 0.2},
        "standardize": True,
    },
    "model": {
        "layers": [
            {"Dense": {"units": 64, "activation": "relu"}},
            {"Dense": {"units": 64, "activation": "relu"}},
            {"Dense": {"units": 1}},
        ]
    },
    "compile": {"optimizer": {"Adam": {"learning_rate": 1e-3}}, "loss": "mse", "metrics": ["mae"]},
    "batch_size": 64,
}
RATES = {"first": 1e-3, "second": 5e-4, "third": 1e-4}
CLOCKS = ("clock", "processor")


def prepare(folder: Path, rows: int) -> None:
    """Write the table and the script."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, 16)) * np.arange(1, 17)
    y = np.sin(x[:, 0]) + x[:, 1] * x[:, 2] / 6 + 0.1 * generator.normal(size=rows)
    names = ",".join([*(f"x{index}" for index in range(16)), "y"])
    table = np.column_stack([x, y])
    np.savetxt(folder / "table.csv", table, "%.6g", ",", header=names, comments="")
    (folder / "script.py").write_text(SCRIPT)


def commands(folder: Path, epochs: int, tensorboard: bool) -> dict[str, list[str]]:
    """The commands that take turns, the one that the others are compared with first."""
    phases = [{"name": n, "epochs": epochs, "learning_rate": r} for n, r in RATES.items()]
    (folder / f"run{epochs}.yaml").write_text(yaml.safe_dump({**CONFIG, "phases": phases}))
    script = [sys.executable, "script.py", str(epochs)]
    run = [sys.executable, "-m", "orchestrator", f"run{epochs}.yaml", "--quiet"]
    found = {"script": script, "script again": script, "orchestrate": run}
    if tensorboard:
        found["script, TensorBoard"] = [*script, "logs"]
        found["orchestrate, TensorBoard"] = [*run, "--set", "tensorboard=true"]
    return found


def cost(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Seconds on the clock and of the processor."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def compare(found: Sequence[float], base: Sequence[float]) -> str:
    """The median of the ratios, the least and the greatest."""
    ratios = sorted(one / other for one, other in zip(found, base, strict=True))
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


@click.command()
@click.option("--epochs", default=40, show_default=True, help="Epochs of each of three phases.")
@click.option("--pairs", default=5, show_default=True, help="How often all take their turn.")
@click.option("--rows", default=20_000, show_default=True, help="Rows of the table.")
@click.option("--tensorboard", is_flag=True, help="Compare with TensorBoard's files, too.")
def main(epochs: int, pairs: int, rows: int, tensorboard: bool) -> None:
    """Compare a run with a script in plain Keras."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder, rows)
        for command in commands(folder, 1, tensorboard).values():
            cost(command, folder)
        given = commands(folder, epochs, tensorboard)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in given}
        for turn in range(pairs):
            for name, command in given.items():
                found[name].append(cost(command, folder))
                seconds = " ".join(f"{each:.2f}" for each in found[name][-1])
                click.echo(f"turn {turn + 1}: {name}: {seconds} s", err=True)
    for index, clock in enumerate(CLOCKS):
        taken = {name: [each[index] for each in times] for name, times in found.items()}
        for name, times in taken.items():
            told = f"{clock:<10} {name:<26}{statistics.median(times):8.2f} s"
            without = name.removesuffix(", TensorBoard")
            if name != "script":
                told += f"   of the script {compare(times, taken['script'])}"
            if without != name:
                told += f"   of {without} {compare(times, taken[without])}"
            click.echo(told)


if __name__ == "__main__":
    main()
