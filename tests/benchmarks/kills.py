"""Whether a run that is killed and resumed ends as one that was left alone, to the bit.

    python tests/benchmarks/kills.py [--kills 200] [--seed 0] [--jobs 1] [--folder FOLDER]

Three configs, each of three attempts or four of which the last passes, with an LSTM, BatchNorm,
Dropout, a schedule and callbacks that have a state. One keeps a snapshot of every epoch; the steps
of another are slow and its snapshots fall within epochs; in the third attempts are the best of a
race, and the last goes on from an epoch of another. Each runs once in peace. Then runs of it are
killed, one to six times each: the supervisor, the worker or the server between them, by SIGKILL
and now and then by SIGTERM or SIGINT; at a random moment, within milliseconds of a line of the
journal, or of a rename in an attempt's directory. Whatever is left is resumed, killed again, and
resumed to its end. Then SHA-256 over all weights of model.keras, and everything in run.json and
epochs.csv but times, restarts and names, must be what they are in the run that was left alone.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import click
import h5py  # type: ignore[import-untyped]
import numpy as np
import yaml

from orchestrator.record.events import (
    AttemptEnded,
    EpochEnded,
    Event,
    PhaseEnded,
    PhaseStarted,
    RacerEnded,
    RunEnded,
    RunResumed,
    RunStarted,
    Warned,
)
from orchestrator.record.records import INIT
from orchestrator.record.storage import archive, journal
from orchestrator.record.storage.directory import Paths

CODE = """
import os
import time

import keras
import numpy as np


def rows():
    random = np.random.default_rng(0)
    x = random.normal(size=(96, 5, 2)).astype("float32")
    return x, x.mean(axis=(1, 2))


class Slow(keras.callbacks.Callback):
    def __init__(self, seconds):
        super().__init__()
        self.seconds = seconds

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self.seconds)


def slow(seconds):
    return Slow(seconds)
"""
_SCHEDULE = {
    "ExponentialDecay": {"initial_learning_rate": 0.02, "decay_steps": 4, "decay_rate": 0.9}
}
CONFIG: dict[str, Any] = {
    "data": {"train": {"callable": "killed:rows"}, "validation": {"fraction": 0.25}},
    "model": {
        "layers": [
            {"LSTM": {"units": 6, "dropout": 0.1}},
            {"BatchNormalization": {"momentum": 0.5}},
            {"Dense": {"units": 8, "activation": "relu"}},
            {"Dropout": {"rate": 0.2}},
            {"Dense": {"units": 1}},
        ]
    },
    # The two attempts that have the rate of the phase `shock` end far off.
    "phases": [
        {"name": "settle", "epochs": 2},
        {"name": "shock", "epochs": 2, "learning_rate": 30.0},
        {"name": "main", "epochs": 4},
    ],
    "checks": {
        "metric": {"name": "loss", "max": 10.0, "phases": ["shock", "main"]},
        "prediction_variance": {"min_skill": -2.0},
        "findings": "off",
    },
    "restart": {
        "policy": [
            {"remedy": "new_seed", "times": 1},
            {"remedy": "lower_learning_rate", "factor": 1e-4},
        ]
    },
}
CONFIGS: dict[str, dict[str, Any]] = {
    "schedule": {
        **CONFIG,
        "compile": {"optimizer": {"Adam": {"learning_rate": _SCHEDULE}}, "loss": "mse"},
        "checkpoint_seconds": 0,
        "fit": {"callbacks": [{"EarlyStopping": {"monitor": "val_loss", "patience": 50}}]},
    },
    "plateau": {
        **CONFIG,
        "compile": {"optimizer": {"AdamW": {"learning_rate": 0.02}}, "loss": "mse"},
        "checkpoint_seconds": 0.1,
        "batch_size": 4,
        "fit": {
            "callbacks": [
                {"ReduceLROnPlateau": {"monitor": "loss", "patience": 1, "cooldown": 1}},
                {"killed:slow": {"seconds": 0.02}},
            ]
        },
    },
    # Two races, and then back to before the shock.
    "race": {
        **CONFIG,
        "compile": {"optimizer": {"Adam": {"learning_rate": _SCHEDULE}}, "loss": "mse"},
        "checkpoint_seconds": 0,
        "checks": {"prediction_variance": {"min_skill": -2.0}, "findings": "off"},
        "restart": {
            "policy": [
                "new_seed",
                "leaky_relu",
                {"remedy": "lower_learning_rate", "factor": 1e-4, "rewind": True},
            ]
        },
    },
}

Victim = Literal["supervisor", "worker", "server"]
Kind = Literal["time", "event", "rename"]
_POLL_SECONDS = 0.0005
_PATIENCE_SECONDS = 300.0
_MOST_STARTS = 12
_MOST_STRIKES = 6
_MOST_OF_WORKERS = 3
"""After so many deaths without progress an attempt has crashed at the next, and is another one."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Strike:
    """One kill that is to be."""

    victim: Victim
    """Who gets the signal."""
    number: signal.Signals
    """The signal."""
    kind: Kind
    """What is waited for: seconds, lines of the journal, or renames in an attempt's directory."""
    count: float
    """So many of them, from the strike before or the start of the process."""
    delay: float
    """Seconds to wait after that."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """One kill that was."""

    strike: Strike
    """What was planned."""
    place: str
    """What the run was doing, by its journal."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a run came to."""

    weights: str
    """SHA-256 over all weights of the model."""
    record: dict[str, Any]
    """Everything in run.json and epochs.csv that must be the same."""


@dataclasses.dataclass(kw_only=True)
class Story:
    """A run that was killed, and what became of it."""

    hits: list[Hit] = dataclasses.field(default_factory=list)
    """The kills, in order."""
    resumes: list[float] = dataclasses.field(default_factory=list)
    """Seconds from the start of each `resume` to its first epoch, or to its end."""
    differences: list[str] = dataclasses.field(default_factory=list)
    """What is not as in the run that was left alone."""


def write_config(folder: Path, name: str) -> Path:
    """One of `CONFIGS` in a file, beside its code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "killed.py").write_text(CODE)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(CONFIGS[name], sort_keys=False))
    return path


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """A process of `orchestrate`, whose output is kept for whoever asks why it failed."""
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", *map(str, arguments), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def the_run(runs: Path) -> Path | None:
    """The only run of a folder, once it is there."""
    found = [each for each in runs.glob("*") if each.name[0] != "."] if runs.is_dir() else []
    return found[0] if found else None


def outcome(directory: Path) -> Outcome:
    """What a run came to, without what may differ between two that are the same."""
    run = json.loads(Paths(directory).record.read_text())
    without = ("run", "started", "seconds", "restarts")
    epochs = {
        path.parent.name: path.read_text()
        for path in sorted(directory.glob("attempts/*/epochs.csv"))
    }
    record = {**_without(run, without), "epochs": epochs}
    return Outcome(weights=weights(directory / "model.keras"), record=record)


def _without(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {key: _without(each, names) for key, each in value.items() if key not in names}
    if isinstance(value, list):
        return [_without(each, names) for each in value]
    return value


def weights(model: Path) -> str:
    """SHA-256 over the names, types and values of all weights that a `.keras` file holds."""
    digest = hashlib.sha256()

    def add(name: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            array = np.asarray(found)
            digest.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())

    with zipfile.ZipFile(model) as file:
        content = io.BytesIO(file.read("model.weights.h5"))
    with h5py.File(content) as opened:
        opened.visititems(add)
    return digest.hexdigest()


def differences(found: Any, expected: Any, path: str = "") -> Iterator[str]:
    """Where two plain values are not the same."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            yield from differences(found.get(key), expected.get(key), f"{path}.{key}")
    elif isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        for index, pair in enumerate(zip(found, expected, strict=True)):
            yield from differences(*pair, f"{path}.{index}")
    elif found != expected:
        yield f"{path}: {str(found)[:200]!r} instead of {str(expected)[:200]!r}"


# ---------------------------------------------------------------------------- the kills


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


def pid_of(victim: Victim, supervisor: int) -> int | None:
    """The process that is meant; None where it is not there."""
    if victim == "supervisor":
        return supervisor
    for pid in children(supervisor):
        with contextlib.suppress(OSError):
            if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                if victim == "server":
                    return pid
                return next(iter(children(pid)), None)
    return None


class Watch:
    """Counts what a run has done since it was asked last."""

    def __init__(self, runs: Path) -> None:
        self._runs = runs
        self._renames = 0
        self._before: dict[Path, int] = {}
        self._start = dict.fromkeys(("time", "event", "rename"), 0.0)
        self.begin()

    def begin(self) -> None:
        """Count from here."""
        self._start = {kind: self._now(kind) for kind in self._start}

    def count(self, kind: Kind) -> float:
        """How many since."""
        return self._now(kind) - self._start[kind]

    def _now(self, kind: str) -> float:
        if kind == "time":
            return time.monotonic()
        directory = the_run(self._runs)
        if directory is None:
            return 0.0
        if kind == "event":
            with contextlib.suppress(OSError):
                return float(Paths(directory).journal.read_bytes().count(b"\n"))
            return 0.0
        for attempt in directory.glob("attempts/*"):
            with contextlib.suppress(OSError):
                changed = attempt.stat().st_mtime_ns
                self._renames += self._before.get(attempt) != changed
                self._before[attempt] = changed
        return float(self._renames)


def strike(planned: Strike, process: subprocess.Popen[bytes], watch: Watch) -> bool:
    """Wait for the moment and for the victim, and kill.

    Returns:
        Whether it was there before the run was over.
    """
    watch.begin()
    while watch.count(planned.kind) < planned.count:
        if process.poll() is not None:
            return False
        time.sleep(_POLL_SECONDS)
    time.sleep(planned.delay)
    while process.poll() is None:
        pid = pid_of(planned.victim, process.pid)
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, planned.number)
                return True
        time.sleep(_POLL_SECONDS)
    return False


def place(runs: Path) -> str:
    """What a run is doing, by the end of its journal."""
    directory = the_run(runs)
    if directory is None:
        return "before the run"
    events = [entry.event for entry in archive.events(directory)]
    told = [each for each in events if not isinstance(each, Warned)]
    phase = next((each for each in reversed(told) if isinstance(each, PhaseStarted)), None)
    match told[-1]:
        case RacerEnded():
            return "race"
        case RunStarted() | RunResumed() | AttemptEnded():
            return "between attempts"
        case PhaseStarted():
            return "epoch"
        case EpochEnded() as event:
            done = _epochs_done(told, event)
            return "check" if phase is not None and done == phase.epochs else "epoch"
        case PhaseEnded() as ended:
            is_last = ended.phase.phase == CONFIG["phases"][-1]["name"]
            return "saving" if is_last else "between phases"
        case RunEnded():
            return "after the end"
        case _:
            return INIT


def _epochs_done(told: Sequence[Event], last: EpochEnded) -> int:
    """Epochs of a phase that were trained."""
    before = sum(
        plan["epochs"]
        for plan in CONFIG["phases"][: [p["name"] for p in CONFIG["phases"]].index(last.phase)]
    )
    return last.epoch - int(before)


# ---------------------------------------------------------------------------- a run that is killed


def kill_and_resume(
    config: Path, runs: Path, strikes: Iterable[Strike], expected: Outcome
) -> Story:
    """Start a run, kill it as planned, resume it to its end, and compare."""
    story, waiting = Story(), collections.deque(strikes)
    watch, is_over, starts = Watch(runs), False, 0
    while not is_over:
        directory = the_run(runs)
        goes_on = directory is not None
        arguments = ("resume", directory) if directory is not None else (config, "--resume")
        begun = datetime.now(UTC)
        process = start(*arguments, "--runs-dir", runs)
        starts += 1
        while waiting and process.poll() is None:
            planned = waiting.popleft()
            if strike(planned, process, watch):
                if planned.victim == "supervisor":
                    process.wait(_PATIENCE_SECONDS)
                story.hits.append(Hit(strike=planned, place=place(runs)))
        _, said = process.communicate(timeout=_PATIENCE_SECONDS)
        if goes_on:
            story.resumes.append(_first_epoch(runs, begun))
        is_over = process.returncode in (0, 1, 2, 3, 4)
        if process.returncode not in (0, 75, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
            story.differences.append(f"exit code {process.returncode}: {said.decode()}")
        if starts == _MOST_STARTS:
            story.differences.append(f"not over after {starts} starts: {said.decode()}")
            break
    directory = the_run(runs)
    if directory is None or not (directory / "model.keras").exists():
        story.differences.append("there is no model")
        return story
    found = outcome(directory)
    if found.weights != expected.weights:
        story.differences.append(f"weights: {found.weights} instead of {expected.weights}")
    story.differences += differences(found.record, expected.record)
    return story


def _first_epoch(runs: Path, begun: datetime) -> float:
    """Seconds until a run that was resumed has trained an epoch; NaN where it has not."""
    directory = the_run(runs)
    if directory is not None:
        for entry in archive.events(directory):
            moment = datetime.fromisoformat(entry.time)
            if isinstance(entry.event, EpochEnded) and moment > begun:
                return (moment - begun).total_seconds()
    return float("nan")


def in_peace(config: Path, runs: Path) -> tuple[Outcome, float, int]:
    """A run that is left alone, the seconds that it takes, and the lines of its journal."""
    begun = time.monotonic()
    process = start(config, "--runs-dir", runs)
    _, said = process.communicate(timeout=_PATIENCE_SECONDS)
    directory = the_run(runs)
    if process.returncode != 0 or directory is None:
        raise SystemExit(f"the run that was left alone ended with {process.returncode}: {said!r}")
    lines = len(journal.read(Paths(directory).journal))
    return outcome(directory), time.monotonic() - begun, lines


def draw(random_: random.Random, seconds: float, lines: int) -> Iterator[Strike]:
    """One to six kills at random moments of a run, of workers no more than an attempt may lose."""
    workers = 0
    moments = sorted(random_.random() for _ in range(random_.randint(1, _MOST_STRIKES)))
    for since, moment in itertools.pairwise([0.0, *moments]):
        victim: Victim = random_.choices(("supervisor", "worker", "server"), (6, 4, 1))[0]
        workers += victim != "supervisor"
        if workers > _MOST_OF_WORKERS:
            victim = "supervisor"
        number = signal.SIGKILL
        if victim == "supervisor" and random_.random() < 0.25:
            number = random_.choice((signal.SIGTERM, signal.SIGINT))
        kind: Kind = random_.choices(("time", "event", "rename"), (2, 4, 2))[0]
        share = moment - since
        count = {
            "time": share * seconds,
            "event": max(1, round(share * lines)),
            # As many as there are lines: a rename for most epochs, and others between.
            "rename": max(1, round(share * lines)),
        }[kind]
        delay = random_.choice((0.0, random_.uniform(0, 0.003), random_.uniform(0, 0.3)))
        yield Strike(victim=victim, number=number, kind=kind, count=count, delay=delay)


def table(stories: Sequence[Story]) -> Iterator[str]:
    """How many kills there were, by who was killed and where, and what came of them."""
    hits = [(hit, not story.differences) for story in stories for hit in story.hits]
    victims: tuple[Victim, ...] = ("supervisor", "worker", "server")
    yield f"{'killed while':<18}" + "".join(f"{name:>12}" for name in victims) + f"{'equal':>10}"
    places = collections.Counter(hit.place for hit, _ in hits)
    for where in sorted(places):
        here = [(hit, equal) for hit, equal in hits if hit.place == where]
        counts = collections.Counter(hit.strike.victim for hit, _ in here)
        equal = sum(equal for _, equal in here)
        row = "".join(f"{counts[name]:>12}" for name in victims)
        yield f"{where:<18}{row}{f'{equal}/{len(here)}':>10}"
    signals = collections.Counter(hit.strike.number.name for hit, _ in hits)
    kinds = collections.Counter(hit.strike.kind for hit, _ in hits)
    yield f"{len(hits)} kills of {len(stories)} runs: {dict(signals)}, by {dict(kinds)}"
    yield f"equal: {sum(not story.differences for story in stories)} of {len(stories)} runs"
    seconds = [each for story in stories for each in story.resumes if each == each]
    if seconds:
        quartiles = statistics.quantiles(seconds, n=4) if len(seconds) > 1 else seconds * 3
        yield (
            f"resume to the first epoch: median {quartiles[1]:.1f} s, quartiles "
            f"{quartiles[0]:.1f} to {quartiles[2]:.1f} s, of {len(seconds)}"
        )


@click.command()
@click.option("--kills", default=200, show_default=True, help="How many at least.")
@click.option("--seed", default=0, show_default=True, help="Of the kills.")
@click.option("--jobs", default=1, show_default=True, help="How many runs at a time.")
@click.option("--config", "names", multiple=True, type=click.Choice(list(CONFIGS)), help="Which.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Where the runs are made and deleted; default the system's temporary folder.",
)
def main(kills: int, seed: int, jobs: int, names: tuple[str, ...], folder: Path | None) -> None:
    """Kill runs, resume them, and compare."""
    random_, stories = random.Random(seed), list[Story]()
    with tempfile.TemporaryDirectory(dir=folder) as made, ThreadPoolExecutor(jobs) as threads:
        root = Path(made)
        whole = {}
        for name in names or CONFIGS:
            config = write_config(root / name, name)
            whole[name] = (config, *in_peace(config, root / name / "runs"))
            click.echo(f"{name}: {whole[name][2]:.1f} s, {whole[name][3]} lines in peace")

        def one(number: int, name: str, strikes: Sequence[Strike]) -> Story:
            config, expected, _, _ = whole[name]
            runs = root / name / f"killed-{number}"
            story = kill_and_resume(config, runs, strikes, expected)
            for difference in story.differences:
                click.echo(f"run {number} ({name}): {difference}\n  {strikes}", err=True)
            return story

        number = 0
        while sum(len(story.hits) for story in stories) < kills:
            batch: list[Callable[[], Story]] = []
            for _ in range(jobs):
                name = list(whole)[number % len(whole)]
                _, _, seconds, lines = whole[name]
                strikes = list(draw(random_, seconds, lines))
                batch.append(lambda n=number, c=name, s=strikes: one(n, c, s))  # type: ignore[misc]
                number += 1
            stories += threads.map(lambda run: run(), batch)
            done = sum(len(story.hits) for story in stories)
            failed = sum(bool(story.differences) for story in stories)
            click.echo(f"{done} kills of {len(stories)} runs, {failed} differ", err=True)
    for line in table(stories):
        click.echo(line)
    sys.exit(any(story.differences for story in stories))


if __name__ == "__main__":
    main()
