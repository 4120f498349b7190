"""What a run is worth to a search: its cost, its model's skill or metric, as one number.

Everything is taken from the run's record and in units of the base config, whatever the trial has
changed: a trial trains the base config's epochs and is judged by its checks. A run that ends
without a model that passes counts its whole spending and a penalty beside it, as the penalised
averages of algorithm configuration do (PAR: F. Hutter et al., "ParamILS", Journal of Artificial
Intelligence Research 36 (2009), 267-306).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

from orchestrator.config.schema import Config
from orchestrator.config.sections.tune import MeasureTerm, MetricTerm
from orchestrator.errors import InvalidError, RecordError
from orchestrator.record.records import Attempt, Run
from orchestrator.record.search import BASE, Objective, Term, Trial, TrialRun
from orchestrator.record.storage import archive


def objective(config: Config) -> Objective:
    """What a config asks to make best.

    Raises:
        InvalidError: it asks for two metrics.
    """
    terms = []
    for part in config.tune.objective:
        match part:
            case MeasureTerm(measure=name):
                terms.append(
                    Term(
                        measure=name,
                        direction="max" if name == "skill" else "min",
                        weight=part.weight,
                    )
                )
            case MetricTerm(metric=name):
                terms.append(Term(measure=name, direction=part.direction, weight=part.weight))
    if len({term.measure for term in terms}) < len(terms) or len(_metrics(config)) > 1:
        message = "expected each measure once, and one metric at most"
        raise InvalidError([config.problem(("tune", "objective"), message)])
    penalty = config.tune.penalty
    return Objective(
        name=_name(terms),
        direction=terms[0].direction if len(terms) == 1 else "min",
        terms=tuple(terms),
        penalty=float(config.restart.max_attempts if penalty is None else penalty),
    )


def metric(config: Config) -> str | None:
    """The metric that the objective has; None where it has none."""
    return next(iter(_metrics(config)), None)


def _metrics(config: Config) -> list[str]:
    return [part.metric for part in config.tune.objective if isinstance(part, MetricTerm)]


def _name(terms: Sequence[Term]) -> str:
    if len(terms) == 1:
        return terms[0].measure
    text = ""
    for term in terms:
        sign = "-" if term.direction == "max" else "+"
        factor = "" if term.weight == 1 else f"{term.weight:g} × "
        text += f" {sign} {factor}{term.measure}"
    return text.removeprefix(" + ").strip()


def measured(
    run: Run, directory: Path, config: Config, *, rows: int, metric: str | None
) -> TrialRun:
    """What a finished run has cost and what its model is worth, without any score.

    Args:
        run: its record.
        directory: its directory.
        config: the base config, whose plain training is the unit of cost.
        rows: training rows.
        metric: the objective's metric.
    """
    epochs = _epochs(run, directory)
    attempt = _result(run)
    skill = None if attempt is None else attempt.skill()
    found = None
    if attempt is not None and metric is not None and attempt.phases:
        found = attempt.phases[-1].metrics.get(metric)
    return TrialRun(
        seed=run.attempts[0].settings.seed if run.attempts else 0,
        status=run.status,
        reason=None if run.status == "passed" else run.conclusion,
        attempts=len(run.attempts),
        epochs_rows=epochs * rows,
        seconds=run.seconds,
        cost=epochs / planned_epochs(config),
        skill=skill,
        metric=found,
    )


def planned_epochs(config: Config) -> int:
    """Epochs of one plain training."""
    return sum(phase.epochs for phase in config.phases)


def _epochs(run: Run, directory: Path) -> int:
    """Epochs that were trained, also those of attempts that crashed amid a phase."""
    try:
        counted = archive.epochs(directory)
    except RecordError:
        counted = {}
    if counted:
        shared = sum(each.start.epoch for each in run.attempts if each.start is not None)
        return sum(map(len, counted.values())) - shared
    return sum(attempt.trained for attempt in run.attempts)


def _result(run: Run) -> Attempt | None:
    """The attempt whose model the run gives, or comes nearest to one."""
    wanted = run.accepted_attempt or run.best_attempt
    return next((each for each in run.attempts if each.attempt == wanted), None)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scale:
    """What the first trial, the base config, tells about the units of the objective."""

    plain_seconds: float
    """Seconds of one plain training."""
    worst_metric: float | None
    """The worst value of the metric among its runs."""

    @classmethod
    def of(cls, runs: Iterable[TrialRun], objective: Objective) -> Scale:
        """The scale that the runs of the base config give."""
        done = [run for run in runs if run.cost]
        seconds = sum(run.seconds for run in done) / (sum(run.cost or 0 for run in done) or 1)
        values = [
            run.metric for run in runs if run.metric is not None and math.isfinite(run.metric)
        ]
        up = any(term.direction == "max" and _is_metric(term) for term in objective.terms)
        worst = (min(values) if up else max(values)) if values else None
        return cls(plain_seconds=seconds, worst_metric=worst)


def _is_metric(term: Term) -> bool:
    return term.measure not in ("cost", "seconds", "skill")


def score(run: TrialRun, objective: Objective, scale: Scale) -> float | None:
    """The number that a run enters the objective with, penalties included.

    Args:
        run: the run, passed or exhausted.
        objective: what is optimised.
        scale: its units.

    Returns:
        None where there is none: the run has no result, or its model no skill or no such metric.
    """
    if run.status not in ("passed", "exhausted") or run.cost is None:
        return None
    values = [_value(term, run, objective, scale) for term in objective.terms]
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    return _together(objective, [value for value in values if value is not None])


def _together(objective: Objective, values: Sequence[float]) -> float:
    if len(objective.terms) == 1:
        return objective.terms[0].weight * values[0]
    return sum(
        (-1 if term.direction == "max" else 1) * term.weight * value
        for term, value in zip(objective.terms, values, strict=True)
    )


def _value(term: Term, run: TrialRun, objective: Objective, scale: Scale) -> float | None:
    failed = run.status == "exhausted"
    match term.measure:
        case "cost":
            return (run.cost or 0.0) + (objective.penalty if failed else 0.0)
        case "seconds":
            return run.seconds + (objective.penalty * scale.plain_seconds if failed else 0.0)
        case "skill" if failed:
            return min(run.skill or 0.0, 0.0)  # no better than a constant
        case "skill":
            return run.skill
    found = run.metric if run.metric is not None and math.isfinite(run.metric) else None
    if not failed or found is None or scale.worst_metric is None:
        return scale.worst_metric if failed else found
    # There is no model that has this value: no better than the worst of the base config's.
    return (min if term.direction == "max" else max)(found, scale.worst_metric)


def least(objective: Objective, *, may_stop: bool = False) -> float | None:
    """The best score that any run can have; None where there is no bound.

    A run that passes has trained at least once, and no skill is above 1.

    Args:
        objective: what is optimised.
        may_stop: whether a training may end before its last epoch, as callbacks can have it.
    """
    bounds: list[float] = []
    for term in objective.terms:
        if _is_metric(term):
            return None
        passed = {"cost": 0.0 if may_stop else 1.0, "seconds": 0.0, "skill": 1.0}[term.measure]
        bounds.append(min(passed, objective.penalty) if term.measure == "cost" else passed)
    return _together(objective, bounds)


def mean(runs: Sequence[TrialRun]) -> float | None:
    """The score of a trial: the mean over its runs; None where one of them has none."""
    scores = [run.score for run in runs]
    if not scores or any(each is None for each in scores):
        return None
    return fmean(each for each in scores if each is not None)


def estimate(trial: Trial, trials: Sequence[Trial], objective: Objective) -> float | None:
    """The score that a trial would have on all seeds, as far as is known.

    Seeds differ in how hard they are, so that a mean over some of them does not compare with one
    over all. The base config has been tried on all: the trial's mean difference to it on the seeds
    that both have stays, and one that was cut is no better than the best.

    Args:
        trial: the trial, at its end.
        trials: all trials, the base config's among them.
        objective: what is optimised.
    """
    base = next((each for each in trials if each.trial == BASE), None)
    if trial.score is None or base is None or base.score is None:
        return trial.score
    on_the_same = mean(base.runs[: len(trial.runs)])
    if len(trial.runs) >= len(base.runs) or on_the_same is None:
        return trial.score
    found = trial.score + base.score - on_the_same
    winner = best(trials, objective)
    if trial.status != "cut" or winner is None or winner.score is None:
        return found
    return (max if objective.direction == "min" else min)(found, winner.score)


def better(one: float, other: float, objective: Objective) -> bool:
    """Whether a score is better than another."""
    return one < other if objective.direction == "min" else one > other


def best(trials: Iterable[Trial], objective: Objective) -> Trial | None:
    """The completed trial with the best score; of equals the earliest.

    Only those on all seeds are compared: some of Hyperband's trials have fewer, and may have a good
    score for no other reason.
    """
    completed = [trial for trial in trials if trial.status == "completed"]
    seeds = max((len(trial.runs) for trial in completed), default=0)
    found: Trial | None = None
    for trial in completed:
        if trial.score is None or len(trial.runs) < seeds:
            continue
        if found is None or found.score is None or better(trial.score, found.score, objective):
            found = trial
    return found
