"""What snapshots and deterministic operations cost a training.

    python -m tests.benchmarks.snapshots [--seconds 60] [--huge]

Epochs with and without a `Keeper` are trained in turn, and a pair without one beside them, which
shows what the machine's noise is. Then one snapshot of a model is taken and written, for the bytes
of its state and the interval at which that makes a hundredth. At last, epochs are trained in turn
by two processes, with deterministic operations and without.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from orchestrator.data.rows import Rows
from orchestrator.data.streams.pipeline import Feed
from orchestrator.record.storage.directory import Place
from orchestrator.training.attempt import snapshots
from orchestrator.training.attempt.callbacks import EpochLog
from orchestrator.training.attempt.learning_rate import Rates
from orchestrator.training.attempt.snapshots import Keeper


@dataclasses.dataclass
class _Settings:
    seed: int = 0


@dataclasses.dataclass
class _Built:
    """What a keeper asks of `build.Built`."""

    model: Any
    rates: Any
    pipeline: Any
    settings: Any = dataclasses.field(default_factory=_Settings)
    findings: tuple[()] = ()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _model(units: int, inputs: int) -> Any:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dense(units, "relu"),
            keras.layers.Dense(1),
        ]
    )
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


def _built(units: int, inputs: int, rows: int, batch_size: int) -> Any:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, inputs)).astype(np.float32)
    y = rng.normal(size=(rows, 1)).astype(np.float32)
    model = _model(units, inputs)
    feed = Feed(Rows(x=x, y=y, weight=None), batch_size=batch_size, seed=0)
    return _Built(model=model, rates=Rates([model.optimizer], None), pipeline=feed)


def _epoch(built: Any, epoch: int, callbacks: list[Any]) -> float:
    data = built.pipeline.batches(epoch, 1)
    steps = built.pipeline.steps
    begun = time.perf_counter()
    built.model.fit(
        data,
        initial_epoch=epoch,
        epochs=epoch + 1,
        steps_per_epoch=steps,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
    )
    return time.perf_counter() - begun


def _in_turn(name: str, built: Any, seconds: float, checkpoint_seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keeper = Keeper(built, Path(folder), checkpoint_seconds, _say)
        log = EpochLog(lambda event: None, attempt=1, phase="main", rates=built.rates)
        keeper.start_phase([], log, [])
        times: dict[str, list[float]] = {"plain": [], "null": [], "kept": []}
        _epoch(built, 0, [])
        until, epoch = time.monotonic() + seconds, 1
        while time.monotonic() < until or epoch < 4:
            for kind in times:
                times[kind].append(_epoch(built, epoch, [log, keeper] if kind == "kept" else []))
                epoch += 1
    plain = sum(times["plain"])
    _say(
        f"{name}: {len(times['plain'])} epochs each of {statistics.median(times['plain']):.3f} s; "
        f"kept / plain {sum(times['kept']) / plain:.3f}, null pair "
        f"{sum(times['null']) / plain:.3f}"
    )


def _once(name: str, built: Any) -> None:
    _epoch(built, 0, [])
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        taken = snapshots.capture(Place(1, 1), built, [], [])
        captured = time.perf_counter()
        snapshots.write(taken, Path(folder))
        written = time.perf_counter()
        found = snapshots.newest(Path(folder), Place(1, 1))
        assert found is not None
        read = time.perf_counter() - written
    took = written - begun
    _say(
        f"{name}: {taken.size / 1e6:,.1f} MB; taken in {captured - begun:.3f} s, written in "
        f"{written - captured:.3f} s, read in {read:.3f} s: one every {max(30, 100 * took):,.0f} s"
    )


def _worker(deterministic: bool) -> None:
    """Train an epoch for each line that comes in, and answer with its seconds."""
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    built = _built(512, 784, 6400, 128)
    _epoch(built, 0, [])
    _say("ready")
    for epoch, _ in enumerate(sys.stdin, start=1):
        _say(str(_epoch(built, epoch, [])))


def _determinism(pairs: int) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.snapshots", "--worker"]
    workers = {
        name: subprocess.Popen(
            [*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for name in ("off", "null", "on")
    }
    times: dict[str, list[float]] = {name: [] for name in workers}
    for worker in workers.values():
        assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
    for _ in range(pairs):
        for name, worker in workers.items():
            assert worker.stdin is not None and worker.stdout is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            times[name].append(float(worker.stdout.readline()))
    for worker in workers.values():
        worker.kill()
        worker.wait()
    off = times["off"]
    for name in ("null", "on"):
        ratios = [one / other for one, other in zip(times[name], off, strict=True)]
        _say(f"deterministic {name}: median ratio {statistics.median(ratios):.3f} of {pairs} pairs")


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--huge", action="store_true", help="a state of 3 GB, too")
    parser.add_argument("--worker", choices=("on", "off", "null"))
    given = parser.parse_args()
    if given.worker:
        _worker(given.worker == "on")
        return
    _in_turn("small, every 30 s", _built(32, 16, 3200, 32), given.seconds, 30)
    _in_turn("small, every epoch", _built(32, 16, 3200, 32), given.seconds, 0)
    _in_turn("784-512-512, every 30 s", _built(512, 784, 6400, 128), given.seconds, 30)
    _once("784-512-512", _built(512, 784, 640, 128))
    if given.huge:
        _once("huge", _built(16000, 64, 64, 32))
    _determinism(given.pairs)


if __name__ == "__main__":
    main()
