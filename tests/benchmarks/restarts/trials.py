"""Runs of a case: with the default policy, by reseeding alone, and with the best settings known.

All of them train in forks of one server, so that TensorFlow is imported once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from orchestrator.config import load as configs
from orchestrator.config import yaml12
from orchestrator.config.schema import Config
from orchestrator.config.sections.default_policy import DEFAULT_POLICY
from orchestrator.data.cache import Stored
from orchestrator.record.encoding import jsonable
from orchestrator.record.events import Event, Heartbeat, ReadingProgress
from orchestrator.record.records import Run
from orchestrator.training import launch
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.executors.executor import result_of
from orchestrator.training.executors.fork_server import ForkServer
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.work import PrepareWork
from tests.benchmarks.restarts import rows
from tests.benchmarks.restarts.case import MAX_ATTEMPTS, Case

Way = Literal["orchestrator", "reseeding", "oracle"]

RESEEDING: dict[str, Any] = {
    "checks": {"findings": "off"},
    "restart": {
        "max_attempts": MAX_ATTEMPTS,
        "screen_seeds": 1,
        "policy": [{"remedy": "new_seed", "times": MAX_ATTEMPTS - 1}],
    },
}
SCREENED = 1 / 3
"""Epochs that a candidate seed counts as."""
ONCE: dict[str, Any] = {"restart": {"max_attempts": 1}}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one way to a model came to, for one base seed."""

    seed: int
    passed: bool
    cost: float
    """In full trainings."""
    seconds: float
    """Of its attempts, with building and tracing."""
    skill: float | None
    """Lowest over the outputs; of the accepted model, or of the last attempt."""
    reference: float | None
    """What the closed form learns of that output; None where it is not measured by it."""
    attempts: int
    story: str = ""
    late: bool = False
    """Whether an attempt failed that had all of its epochs: only its end has shown it."""


class Laboratory:
    """Makes runs.

    Args:
        folder: gets configs, rows and runs; they are removed as they are read.
        interrupts: entered by the caller.
        without: `race`, `rewind`, remedies, or arguments of theirs such as `momentum`, that are
            switched off in runs of the orchestrator.
    """

    def __init__(self, folder: Path, interrupts: Interrupts, without: Sequence[str] = ()) -> None:
        self._without = _without(without)
        self._folder = folder
        self._interrupts = interrupts
        self._server = ForkServer(interrupts.check)
        self._server.start()
        self._numbers = itertools.count()
        self._known: dict[str, tuple[Prepared, Stored | None]] = {}
        self._preparing = threading.Lock()
        for module in ("rows", "networks"):
            shutil.copy(Path(__file__).with_name(f"{module}.py"), folder)
        for name, content in rows.FILES.items():
            (folder / name).write_text(content())

    def try_out(self, case: Case, seed: int, way: Way) -> Outcome:
        """Train a case one way."""
        changes = {
            "orchestrator": self._without,
            "reseeding": RESEEDING,
            "oracle": {**case.known, **ONCE},
        }[way]
        config = self._config(case.document(seed, **changes))
        prepared, stored = self._prepare(config)
        work = PrepareWork(config=config, folder=self._folder, stored=stored)
        runs = self._folder / f"runs-{next(self._numbers)}"
        run, _ = launch.launch_on(
            work, self._server, runs, _Silent(), self._interrupts, prepared=prepared
        )
        self._interrupts.check()  # a run that was stopped is no outcome
        shutil.rmtree(runs)
        found: dict[str, Any] = jsonable(run)
        outcome = read(found, case, seed)
        # Who only reseeds trains every network to the end.
        return (
            dataclasses.replace(outcome, cost=outcome.attempts) if way == "reseeding" else outcome
        )

    def _config(self, described: dict[str, Any]) -> Config:
        path = self._folder / f"config-{next(self._numbers)}.yaml"
        path.write_text(yaml12.dump(described))
        config = configs.load(path)
        path.unlink()
        return config

    def _prepare(self, config: Config) -> tuple[Prepared, Stored | None]:
        """Data and model are the same for all seeds, and looked at once."""
        key = config.model_copy(update={"seed": 0}).dump()
        with self._preparing:
            if key not in self._known:
                folder = self._folder / f"rows-{next(self._numbers)}"
                folder.mkdir()
                work = PrepareWork(config=config, folder=folder)
                self._known[key] = result_of(self._server.run(work, lambda _: None))
            return self._known[key]


def _without(names: Sequence[str]) -> dict[str, Any]:
    """The default way to restart with a part of it switched off."""
    if not names:
        return {}
    flags = {name: False for name in names if name in ("race", "rewind")}
    names = [each for each in names if each not in flags]
    policy = []

    def kept(rungs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        left = [each for each in rungs if each["remedy"] not in names]
        return [{key: value for key, value in each.items() if key not in names} for each in left]

    for entry in DEFAULT_POLICY:
        if "rungs" in entry:
            policy.append({**entry, "rungs": kept(entry["rungs"])})
        else:
            policy += kept([entry])
    return {"restart": {"max_attempts": MAX_ATTEMPTS, **flags, "policy": policy}}


@contextlib.contextmanager
def laboratory(without: Sequence[str] = ()) -> Iterator[Laboratory]:
    """A laboratory in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder, Interrupts() as interrupts:
        interrupts.patient = True
        yield Laboratory(Path(folder), interrupts, without)


class _Silent:
    """Shows nothing of a run."""

    def say(self, text: str) -> None:
        pass

    def read(self, progress: ReadingProgress) -> None:
        pass

    def begin(
        self,
        directory: Path,
        config: Config,
        *,
        replayed: int | None = None,
        resumed: Run | None = None,
    ) -> None:
        pass

    def show(self, event: Event | Heartbeat, run: Run) -> None:
        pass


def read(run: Mapping[str, Any], case: Case, seed: int) -> Outcome:
    """The outcome that a record tells of."""
    attempts = run["attempts"]
    passed = run["status"] == "passed"
    last = attempts[(run["accepted_attempt"] or len(attempts)) - 1]
    skill, reference = skills(last["phases"][-1]["checks"] if last["phases"] else [])
    story = " → ".join(map(_told, attempts))
    trained = sum(trained_epochs(attempt) for attempt in attempts)
    return Outcome(
        seed=seed,
        passed=passed,
        cost=(trained + SCREENED * run["screened_seeds"]) / case.epochs,
        seconds=sum(attempt["seconds"] for attempt in attempts),
        skill=skill,
        reference=reference,
        attempts=len(attempts),
        story=story if passed else f"{story} | {run['conclusion']}",
        late=any(_was_late(attempt, case) for attempt in attempts),
    )


def _was_late(attempt: Mapping[str, Any], case: Case) -> bool:
    """Whether an attempt failed at its end."""
    return attempt["failure"] is not None and case.epochs <= sum(
        phase["epochs"] for phase in attempt["phases"]
    )


def trained_epochs(attempt: Mapping[str, Any]) -> int:
    """Epochs that were really trained for an attempt, those of the losers of its race among them.

    An attempt that goes on from another's snapshot lists that one's phases and epochs as its own.
    """
    inherited: int = (attempt.get("start") or {}).get("epoch", 0)
    losers = [each for each in attempt.get("raced") or () if each["reason"] is not None]
    raced: int = sum(each["epochs"] for each in losers)
    listed: int = sum(phase["epochs"] for phase in attempt["phases"])
    return listed - inherited + raced


def skills(checks: list[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Skill of the worst output, and what the reference has there.

    Of the check `learned`, whose two are by the same measure; else under the loss that trains.
    """
    measured = {check["check"]: check["measured"].get("outputs", ()) for check in checks}
    shares = [each for each in measured.get("learned", ()) if each.get("share") is not None]
    if shares:
        worst = min(shares, key=lambda each: each["share"])
        return worst["skill"], worst["reference"]
    found = [each.get("skill") for each in measured.get("prediction_variance", ())]
    return min((each for each in found if isinstance(each, float)), default=None), None


def _told(attempt: Mapping[str, Any]) -> str:
    """An attempt, in a few words."""
    told = attempt["remedy"] or "start"
    start = attempt.get("start")
    if start:
        told += f" from {start['attempt']}@{start['epoch']}"
    if len(attempt["screened"]) > 1:
        told += f" ({len(attempt['screened'])} seeds)"
    if attempt.get("raced"):
        told += f" (raced {len(attempt['raced'])})"
    if attempt["failure"]:
        told += f": {attempt['failure']['check']} at {attempt['failure']['phase']}"
    return told


def save(path: Path, found: Mapping[str, Mapping[Way, list[Outcome]]]) -> None:
    """Write every outcome."""
    kept = {
        name: {way: [dataclasses.asdict(each) for each in ways[way]] for way in ways}
        for name, ways in found.items()
    }
    path.write_text(json.dumps(kept, indent=1))
