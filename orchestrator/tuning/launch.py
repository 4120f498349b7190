"""From a config to a finished search: checks, worker processes, directory, trials."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.config.sections.checks import Gate
from orchestrator.config.sections.model import FactoryModel, GivenModel
from orchestrator.data import cache
from orchestrator.errors import InvalidError, Problem, UserCodeError, WorkerDiedError
from orchestrator.record import environment
from orchestrator.record.events import Event, Heartbeat
from orchestrator.record.search import BASE, Parameter, Search
from orchestrator.record.storage import archive
from orchestrator.training import launch as launcher
from orchestrator.training.attempt.task import Prepared
from orchestrator.training.executors import choice
from orchestrator.training.executors.executor import result_of
from orchestrator.training.interrupts import Interrupts
from orchestrator.training.recorded import origin
from orchestrator.training.recorded.user_files import digests
from orchestrator.training.work import ExploreWork
from orchestrator.tuning import journal, plan, search, space
from orchestrator.tuning.journal import SearchStore, SearchWarned
from orchestrator.tuning.result import tuned
from orchestrator.tuning.search import Watcher
from orchestrator.tuning.trials import objective as objectives
from orchestrator.tuning.trials import recorded
from orchestrator.tuning.trials.pool import Pool
from orchestrator.tuning.trials.recorded import Recorded
from orchestrator.tuning.trials.shelf import Shelf

_MOST_PROBES = 8
"""Configs of a space that are built before anything is trained."""


class Announcer(Watcher, Protocol):
    """A watcher that also tells what happens before the first trial."""

    def say(self, text: str) -> None:
        """Tell what is going on."""

    def begin(self, directory: Path, found: Search, config: Config) -> None:
        """Tell where the search is recorded, and how far it is."""


def launch(
    config: Config,
    *,
    runs_dir: Path,
    announcer: Announcer,
    interrupts: Interrupts,
    jobs: int = 1,
    fresh: bool = False,
    resumed: Path | None = None,
    command: str = "orchestrator.tune",
) -> tuple[Search, Path]:
    """Take a config to a finished search.

    Args:
        config: the config.
        runs_dir: folder of all runs.
        announcer: shown what happens.
        interrupts: entered by the caller.
        jobs: how many runs are made at a time.
        fresh: make every run, also where one with the same config, seed and data is recorded.
        resumed: directory of an interrupted search of this config, to go on with.
        command: what makes the search, for the comments of its config.

    Returns:
        The search and its directory.

    Raises:
        InvalidError: the config or the data is at fault; nothing was written.
        UserCodeError: the user's own code raised.
        StoppedError: Ctrl-C or its like before the search began; nothing was written.
    """
    planned = plan.plan_search(config)
    with contextlib.ExitStack() as stack:
        runs_dir = runs_dir.absolute()
        with launcher.writing_to(runs_dir):
            folder = stack.enter_context(cache.folder(runs_dir))
        executor = choice.choose_executor(interrupts)
        shelf = Shelf(executor, folder)
        first = plan.run_config(config, planned.seeds[0])
        shelf.rows(first)
        announcer.say("importing TensorFlow")
        asked: tuple[dict[str, Any], ...] = ()
        if isinstance(config.model, FactoryModel | GivenModel):
            asked = result_of(executor.run(ExploreWork(config=config), _ignore))
            planned = plan.plan_search(config, space.asked(asked))
        prepared = shelf.prepare(_with_metric(first, config))
        if resumed is None:
            _try_seeds(config, shelf, announcer)
            _try_space(config, planned, shelf)
        interrupts.patient = True
        interrupts.check()
        store = stack.enter_context(_open(config, planned, prepared, runs_dir, resumed))
        announcer.begin(store.paths.root, store.search, config)
        if resumed is not None:
            _tell_changes(store, config, announcer)
        made = Recorded(store.paths.runs, () if fresh else (runs_dir,))
        made.remove_unfinished()
        pool = stack.enter_context(
            Pool(
                executor,
                jobs=jobs,
                runs=store.paths.runs,
                shelf=shelf,
                recorded=made,
                interrupts=interrupts,
            )
        )

        def conclude(found: Search) -> None:
            if (best := found.best()) is not None:
                winner = config
                if best.trial != BASE:
                    winner = space.lay(config, best.values, found.space)
                tuned.write_files(config, winner, found, store.paths.root, command=command)

        found = search.execute(
            config, store, pool, announcer, jobs=jobs, asked=asked, conclude=conclude
        )
        return found, store.paths.root


def _open(
    config: Config, planned: Search, prepared: Prepared, runs_dir: Path, resumed: Path | None
) -> SearchStore:
    if resumed is None:
        found = environment.describe(Path(config.base), prepared.fingerprint, digests(config))
        units = objectives.planned_epochs(config) * prepared.rows
        with launcher.writing_to(runs_dir):
            return journal.create(
                runs_dir,
                search=replace(planned, plain_epochs_rows=units, versions=found["packages"]),
                config=config.source,
                resolved=config.dump(),
                environment=found,
            )
    then = archive.environment(resumed)
    changed = origin.changed_code(then, config)
    if changed:  # one that is older than the digests has the commit alone, of which it warns
        message = f"since the search began, {', '.join(changed)}"
        raise InvalidError([config.problem(("model",), message, "start a new search")])
    if then.get("data") != prepared.fingerprint:
        message = "the data is not what it was when the search began"
        raise InvalidError([config.problem(("data",), message, "start a new search")])
    return journal.reopen(resumed)


def _tell_changes(store: SearchStore, config: Config, announcer: Announcer) -> None:
    """Warn of what the trials from here on are not made with as those before were."""
    found = recorded.differences(archive.environment(store.paths.root), config)
    message = (
        f"the search began with {'; '.join(found)}: what trials from before and after are apart by "
        "is not their values alone"
    )
    if found and message not in store.search.warnings:
        event = SearchWarned(message=message)
        announcer.show(event, store.record(event))


def _with_metric(first: Config, config: Config) -> Config:
    """The config with a gate that nothing fails, so that a metric nobody logs is found at once."""
    name = objectives.metric(config)
    if name is None:
        return first
    gates = [*first.checks.metric, Gate(name=name, max=1e300)]
    checks = first.checks.model_copy(update={"metric": gates})
    return first.model_copy(update={"checks": checks})


def _try_seeds(config: Config, shelf: Shelf, announcer: Announcer) -> None:
    """Read the rows of every seed, where a split may hold back all that have some text.

    Raises:
        InvalidError: the rows of a seed cannot be trained on.
    """
    seeds = plan.base_seeds(config)
    stored = shelf.rows(plan.run_config(config, seeds[0]))
    if stored is None or not (stored.encoding.categories or stored.encoding.classes):
        return
    announcer.say("reading the rows of each seed")
    for seed in seeds[1:]:
        shelf.rows(plan.run_config(config, seed))


def _try_space(config: Config, planned: Search, shelf: Shelf) -> None:
    """Build a few models of the space, for what only Keras knows of a key or a value.

    Raises:
        InvalidError: with every parameter that leads to a config which cannot be built.
    """
    parameters = [each for each in planned.space if not each.path.startswith("restart.")]
    for values in _probes(parameters):
        if _objections(config, values, planned, shelf):
            break
    else:
        return
    problems = []
    for parameter in parameters:
        for values in _probes([parameter]):
            if objections := _objections(config, values, planned, shelf):
                message = f"{values[parameter.path]!r}: {objections[0].message}"
                key = ("tune", "space", parameter.path)
                problems.append(config.problem(key, message, objections[0].hint))
                break
    if problems:
        raise InvalidError(problems)
    # Only together they do not fit; a trial that meets that fails by itself.


def _probes(parameters: Iterable[Parameter]) -> Iterator[Mapping[str, Any]]:
    """Values that have both ends of every range, and every choice, between them."""
    ends = {each.path: space.ends(each) for each in parameters}
    count = max(map(len, ends.values()), default=0)
    for index in itertools.islice(range(count), _MOST_PROBES):
        yield {path: found[min(index, len(found) - 1)] for path, found in ends.items()}


def _objections(
    config: Config, values: Mapping[str, Any], planned: Search, shelf: Shelf
) -> tuple[Problem, ...]:
    try:
        changed = space.lay(config, values, planned.space)
        shelf.prepare(plan.run_config(changed, planned.seeds[0]))
    except InvalidError as error:
        return error.problems
    except (LookupError, UserCodeError, WorkerDiedError):
        return ()  # a trial that meets that fails by itself
    return ()


def _ignore(report: Event | Heartbeat) -> None:
    """Take a report of work that makes none."""
