"""A search: trial after trial, the comparison of the best with the default, and the end.

What is decided here follows from the runs in the order of trials and seeds, whatever the number of
workers, so that a search that was killed decides the same again from the same runs.
"""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.display.search import words
from orchestrator.display.silence import silence
from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    StoppedError,
    UserCodeError,
    WorkerError,
    unwritable,
)
from orchestrator.record.search import BASE, Arm, Objective, Search, Trial, TrialRun
from orchestrator.training.loop import EXIT_CODES, USER_CODE_EXIT
from orchestrator.tuning import plan as planning
from orchestrator.tuning import space
from orchestrator.tuning.journal import (
    ArmRunEnded,
    Compared,
    ComparisonStarted,
    SearchEnded,
    SearchEvent,
    SearchStore,
    SearchWarned,
    TrialEnded,
    TrialRunEnded,
    TrialStarted,
    advance,
)
from orchestrator.tuning.result import comparison, importance
from orchestrator.tuning.trials import objective as objectives
from orchestrator.tuning.trials import race
from orchestrator.tuning.trials.objective import Scale
from orchestrator.tuning.trials.pool import Pool, Ticket
from orchestrator.tuning.trials.recorded import Outcome

_NO_MODEL_EXIT = EXIT_CODES["exhausted"]


class Watcher(Protocol):
    """Shows what happens in a search."""

    def show(self, event: SearchEvent, search: Search) -> None:
        """Show one event; `search` is the search after it."""


def execute(
    config: Config,
    store: SearchStore,
    pool: Pool,
    watcher: Watcher,
    *,
    jobs: int,
    asked: Sequence[Mapping[str, Any]] = (),
    conclude: Callable[[Search], None] = lambda search: None,
) -> Search:
    """Take a search to its end.

    Args:
        config: the base config.
        store: the search's directory, new or reopened.
        pool: makes the runs.
        watcher: shows what happens.
        jobs: how many runs are made at a time.
        asked: hyperparameters of the user's model, as KerasTuner writes them.
        conclude: writes what the finished search leaves for people; its end is recorded only when
            that is there, so that a search which is killed before goes on and writes it.

    Returns:
        The finished search; also on an interrupt.

    Raises:
        OrchestratorError: an error that every trial would meet.
    """
    return _Searching(config, store, pool, watcher, jobs, asked, conclude).run()


class _Searching:
    """The state of a search while it is executed."""

    def __init__(
        self,
        config: Config,
        store: SearchStore,
        pool: Pool,
        watcher: Watcher,
        jobs: int,
        asked: Sequence[Mapping[str, Any]],
        conclude: Callable[[Search], None],
    ) -> None:
        self.config = config
        self.store = store
        self.pool = pool
        self.watcher = watcher
        self.jobs = jobs
        self.asked = asked
        self.conclude = conclude
        self.rows = store.search.plain_epochs_rows // objectives.planned_epochs(config)
        self.metric = objectives.metric(config)
        self._overhead = store.search.overhead_seconds
        self._number = 0
        self._done = {trial.trial: trial for trial in store.search.trials}

    def run(self) -> Search:
        """Take the search to its end; a full disk is one."""
        try:
            self._search()
            self._compare()
            return self._finish()
        except StoppedError as error:
            return self._stop(str(error))
        except OrchestratorError as error:
            self._end("error", str(error), exit_code=_exit_code(error))
            raise
        except OSError as error:
            told = unwritable(error)
            if told is None:
                raise
            return self._stop(told)

    # ------------------------------------------------------------------------ trials

    def _search(self) -> None:
        """Make the trials; the base config's runs are on their way while KerasTuner is imported."""
        search = self.store.search
        base = space.base_values(each for each in search.space if not each.hyperparameter)
        for seed in search.seeds[: self.jobs]:
            if BASE not in self._done or self._done[BASE].status == "running":
                self.pool.submit(planning.run_config(self.config, seed))
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")  # nothing else is asked for
        with silence():
            from orchestrator.tuning.trials import oracle  # noqa: PLC0415 - it imports TensorFlow

        def measure(values: Mapping[str, Any], seeds: int) -> tuple[Mapping[str, Any], float]:
            trial = self._trial(values, seeds)
            made = self.store.search.trials[: trial.trial]
            score = objectives.estimate(trial, made, self.store.search.objective)
            if score is None:
                raise oracle.TrialFailedError(trial.reason)
            return trial.values if trial.trial != BASE else values, score

        if base is None:
            self._trial({}, len(search.seeds))
        left = search.max_trials - (base is None)
        if left:  # of KerasTuner's oracles none at all would mean no limit
            oracle.search(
                oracle.Plan(
                    tuner=search.tuner,
                    objective=search.objective,
                    space=search.space,
                    asked=self.asked,
                    base=base,
                    max_trials=left,
                    seeds=len(search.seeds),
                    seed=1 + self.config.seed % (2**31),
                    folder=self.store.paths.oracle,
                ),
                measure,
            )
        if len(self.store.search.trials) < search.max_trials:
            self._warn(
                f"the space has no more values to try: "
                f"{len(self.store.search.trials)} trials were made of {search.max_trials}"
            )

    def _trial(self, values: Mapping[str, Any], budget: int) -> Trial:
        """Make a trial, or what is missing of one that was begun."""
        self._number += 1
        number = self._number
        known = self._done.get(number)
        if known is not None and known.status != "running":
            return known
        if known is None:
            self._record(TrialStarted(trial=number, values=dict(values)))
        else:
            values = known.values
        seeds = self.store.search.seeds
        seeds = seeds if number == BASE else seeds[:budget]
        try:
            changed = self.config
            if number != BASE:
                changed = space.lay(self.config, values, self.store.search.space)
        except (InvalidError, LookupError) as error:
            return self._end_trial(number, "failed", f"these values are invalid: {error}")
        with self._asked_for(changed, seeds) as outcomes:
            return self._take_runs(number, seeds, outcomes)

    def _take_runs(
        self, number: int, seeds: Sequence[int], outcomes: Iterator[Outcome | OrchestratorError]
    ) -> Trial:
        """Record the runs of a trial, one after the other, until it ends or is cut."""
        search = self.store.search
        have = len(self._current(number).runs)
        waiting: list[TrialRun] = []
        for index, seed in enumerate(seeds):
            if index >= have:
                waiting.append(self._measured(seed, next(outcomes), first=number == BASE))
                if number == BASE and not _is_plain(search.objective) and seed != seeds[-1]:
                    continue  # what a failed run counts is known with the last
                for each in waiting:
                    self._record(TrialRunEnded(trial=number, run=self._scored(each, waiting)))
                waiting = []
            trial = self._current(number)
            bad = next((each for each in trial.runs if each.score is None), None)
            if bad is not None:
                self._expect_score(bad, first=number == BASE)
                return self._end_trial(number, "failed", _why_none(bad))
            reason = self._cut(trial, index + 1, len(seeds))
            if reason is not None:
                return self._end_trial(number, "cut", reason)
        return self._end_trial(number, "completed", None)

    def _current(self, number: int) -> Trial:
        trial = self.store.search.trial(number)
        if trial is None:
            raise WorkerError(f"trial {number} was not recorded")
        return trial

    def _end_trial(
        self, number: int, status: Literal["completed", "cut", "failed"], reason: str | None
    ) -> Trial:
        score = None if status == "failed" else objectives.mean(self._current(number).runs)
        self._record(TrialEnded(trial=number, status=status, score=score, reason=reason))
        return self._current(number)

    def _cut(self, trial: Trial, done: int, planned: int) -> str | None:
        """Why a trial can no longer win."""
        search = self.store.search
        best = search.best()
        if trial.trial == BASE or best is None or not self.config.tune.cut or done >= planned:
            return None
        goal = [run.score for run in best.runs[:planned] if run.score is not None]
        return race.cut(
            [run.score for run in trial.runs[:done] if run.score is not None],
            goal,
            minimised=search.objective.direction == "min",
            least=objectives.least(search.objective, may_stop=bool(self.config.fit.callbacks)),
        )

    # -------------------------------------------------------------------------- runs

    @contextlib.contextmanager
    def _asked_for(
        self, config: Config, seeds: Sequence[int]
    ) -> Iterator[Iterator[Outcome | OrchestratorError]]:
        """The runs of a config in the order of the seeds, so many under way at a time as may be.

        Those that nobody has taken are ended in the end.
        """
        recorded = len(self.store.search.trials[-1].runs) if self.store.search.trials else 0
        waiting = collections.deque(seeds[recorded:])
        under_way: collections.deque[Ticket] = collections.deque()

        def outcomes() -> Iterator[Outcome | OrchestratorError]:
            while waiting or under_way:
                while waiting and len(under_way) < self.jobs:
                    under_way.append(
                        self.pool.submit(planning.run_config(config, waiting.popleft()))
                    )
                yield _outcome(under_way.popleft())

        try:
            yield outcomes()
        finally:
            for ticket in under_way:
                ticket.cancel()

    def _measured(
        self, seed: int, outcome: Outcome | OrchestratorError, *, first: bool
    ) -> TrialRun:
        """What a run has come to; an error that every trial would meet ends the search."""
        if isinstance(outcome, OrchestratorError):
            if first or isinstance(outcome, StoppedError):
                raise outcome
            return TrialRun(seed=seed, status="error", reason=str(outcome))
        run = outcome.run
        if run.status == "interrupted":
            raise StoppedError((run.conclusion or "the run was interrupted").partition(";")[0])
        if first and run.status not in ("passed", "exhausted"):
            raise _as_error(run.conclusion or "", run.exit_code)
        rows = self.rows if outcome.rows is None else outcome.rows
        found = objectives.measured(
            run, outcome.directory, self.config, rows=rows, metric=self.metric
        )
        relative = os.path.relpath(outcome.directory, self.store.paths.root)
        again = any(
            each.run == relative for trial in self.store.search.trials for each in trial.runs
        )
        return replace(found, seed=seed, run=relative, reused=outcome.reused or again)

    def _scored(self, run: TrialRun, others: Sequence[TrialRun]) -> TrialRun:
        search = self.store.search
        base = search.trial(BASE)
        seen = (*(() if base is None else base.runs), *others)
        scale = Scale.of(seen, search.objective)
        return replace(run, score=objectives.score(run, search.objective, scale))

    def _expect_score(self, run: TrialRun, *, first: bool) -> None:
        """Refuse an objective that the base config's models do not have."""
        if not first or run.status not in ("passed", "exhausted"):
            return
        names = [term.measure for term in self.store.search.objective.terms]
        if "skill" in names and run.skill is None and run.status == "passed":
            message = "the skill of this model is not judged, see its check prediction_variance"
        elif self.metric is not None and run.metric is None:
            message = f"Keras logs no {self.metric!r}"
        else:
            message = f"{' and '.join(names)}: not a finite number for the config as it is"
        hint = "choose cost, or a metric that Keras logs"
        raise InvalidError([self.config.problem(("tune", "objective"), message, hint)])

    # -------------------------------------------------------------------- comparison

    def _compare(self) -> None:
        """Compare the best trial with the default policy on fresh seeds."""
        search = self.store.search
        best = search.best()
        seeds = planning.base_seeds(self.config)[self.config.tune.seeds :]
        if best is None or not seeds:
            return
        default = space.lay(self.config, {space.POLICY: None})
        own = default.restart != self.config.restart
        arms: dict[Arm, Config] = {"default": default}
        if own and best.trial != BASE:
            arms["given"] = self.config
        if best.trial != BASE:
            arms["tuned"] = space.lay(self.config, best.values, search.space)
        elif own:
            arms["tuned"] = self.config
        else:
            return  # the base config is the default
        if search.comparison is None or search.comparison.seeds != seeds:
            self._record(ComparisonStarted(seeds=seeds, arms=tuple(arms)))
        self._run_arms(arms, seeds)
        found = self.store.search.comparison
        if found is not None and found.reason is None:
            compared = comparison.compare(
                seeds, found.arms, search.objective, winner=words.arm_name(search, "tuned")
            )
            self._record(Compared(comparison=compared))

    def _run_arms(self, arms: Mapping[Arm, Config], seeds: Sequence[int]) -> None:
        """Make the runs that are missing, seed by seed."""
        found = self.store.search.comparison
        have = {} if found is None else {arm.arm: len(arm.runs) for arm in found.arms}
        missing = [
            (arm, seed)
            for index, seed in enumerate(seeds)
            for arm in arms
            if index >= have.get(arm, 0)
        ]
        under_way: collections.deque[tuple[Arm, int, Ticket]] = collections.deque()
        waiting = collections.deque(missing)
        while waiting or under_way:
            while waiting and len(under_way) < self.jobs:
                arm, seed = waiting.popleft()
                ticket = self.pool.submit(planning.run_config(arms[arm], seed))
                under_way.append((arm, seed, ticket))
            arm, seed, ticket = under_way.popleft()
            run = self._scored(self._measured(seed, _outcome(ticket), first=False), ())
            self._record(ArmRunEnded(arm=arm, run=run))

    # --------------------------------------------------------------------------- end

    def _finish(self) -> Search:
        search = self.store.search
        best = search.best()
        found = search.comparison
        passed = best is not None and any(run.status == "passed" for run in best.runs)
        recommended: Literal["tuned", "default"] | None = None
        if found is not None:
            recommended = "tuned" if found.better else "default"
        elif best is not None and best.trial == BASE:
            recommended = "default"
        return self._end(
            "finished",
            _conclusion(search),
            exit_code=0 if passed else _NO_MODEL_EXIT,
            recommended=recommended,
        )

    def _stop(self, reason: str) -> Search:
        """End as interrupted, on a disk that may be full."""
        with contextlib.suppress(OSError, StoppedError):
            self._end(
                "interrupted",
                f"{reason}; what was recorded so far is kept, --resume goes on",
                exit_code=EXIT_CODES["interrupted"],
            )
        return self.store.search

    def _end(
        self,
        status: Literal["finished", "interrupted", "error"],
        conclusion: str,
        *,
        exit_code: int,
        recommended: Literal["tuned", "default"] | None = None,
    ) -> Search:
        finished = status == "finished"
        event = SearchEnded(
            status=status,
            conclusion=conclusion,
            recommended=recommended,
            effects=importance.parameter_effects(self.store.search) if finished else (),
            exit_code=exit_code,
            overhead_seconds=round(self._overhead + self.pool.idle_seconds, 3),
        )
        if finished:
            self.conclude(advance(self.store.search, event, elapsed=self.store.elapsed))
        self._record(event)
        return self.store.search

    def _warn(self, message: str) -> None:
        if message not in self.store.search.warnings:
            self._record(SearchWarned(message=message))

    def _record(self, event: SearchEvent) -> None:
        self.watcher.show(event, self.store.record(event))


def _is_plain(objective: Objective) -> bool:
    """Whether the score of a run needs nothing but the run."""
    return all(term.measure in ("cost", "skill") for term in objective.terms)


def _outcome(ticket: Ticket) -> Outcome | OrchestratorError:
    try:
        return ticket.result()
    except OrchestratorError as error:
        return error


def _why_none(run: TrialRun) -> str:
    if run.status in ("passed", "exhausted"):
        return f"the run with seed {run.seed} has no value for the objective"
    return f"the run with seed {run.seed} failed: {run.reason}"


def _as_error(conclusion: str, exit_code: int | None) -> OrchestratorError:
    """How a run of the base config ended, as the error that ends the search."""
    if exit_code == USER_CODE_EXIT:
        return UserCodeError(conclusion)
    if exit_code == EXIT_CODES["invalid"]:
        return InvalidError([Problem(file="the config as it is", message=conclusion)])
    return WorkerError(conclusion.removeprefix("internal error: "))


def _exit_code(error: OrchestratorError) -> int:
    match error:
        case InvalidError():
            return EXIT_CODES["invalid"]
        case UserCodeError():
            return USER_CODE_EXIT
        case _:
            return EXIT_CODES["error"]


def _conclusion(search: Search) -> str:
    best = search.best()
    if best is None:
        return "no trial was completed"
    count = len(search.trials)
    trials = "1 trial" if count == 1 else f"{count} trials"
    if best.trial == BASE:
        return f"of {trials} the config as it is was best"
    return f"trial {best.trial} of {trials} was best"
