"""The checks that follow a training, brought forward to an epoch at which their verdict is known.

What is asked is a function of the record and of the weights, so that an attempt that is resumed or
replayed ends at the same epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence

from orchestrator.config.schema import PhasePlan
from orchestrator.diagnosis.causes.plan import UNUSUAL, times_usual
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.verdicts.outlook import Outlook, is_late, midterms, stays_low
from orchestrator.model.build import plain_optimizers
from orchestrator.model.outputs import own_way
from orchestrator.policy import evidence
from orchestrator.record.checks import FindingsCheck, LearnedCheck, PredictionVarianceCheck
from orchestrator.record.events import Warned
from orchestrator.record.records import Phase
from orchestrator.training.attempt import check, moving_statistics
from orchestrator.training.attempt.build import Built, Loaded
from orchestrator.training.attempt.callbacks import Epochs
from orchestrator.training.attempt.task import Task
from orchestrator.training.executors.executor import Emit


def ends_now(
    task: Task,
    rows: Loaded,
    built: Built,
    plan: PhasePlan,
    trained: Sequence[Epochs],
    before: Sequence[Phase],
    emit: Emit,
    now: Epochs,
) -> bool:
    """Whether the checks after the training are taken now, for at its end they would fail, too.

    Asked after an epoch of the last phase, at a rate that stays the same. Not where BatchNorm's
    moving statistics may be late, for with time they arrive, nor where the policy may go on from
    an end.

    Args:
        task: the attempt.
        rows: its rows.
        built: its model.
        plan: the phase.
        trained: what the epochs of the phases before logged.
        before: these phases.
        emit: is told why.
        now: what the epochs of this phase logged until now.
    """
    if task.config.restart.may_go_on() or not _stays_the_same(task, built, plan, now):
        return False
    left = task.config.epochs_of(plan, built.settings) - now.count
    task = held(task, built, plan, now)

    @functools.cache
    def examine() -> Examination:
        return check.examine_phase(task, rows, built, plan, [*trained, now], before)

    moment = _Moment(task=task, built=built, before=before, now=now, left=left, examine=examine)
    why = _stays_above(moment) or _stays_behind(moment)
    if why is None or moving_statistics.lag(examine()) is not None:
        return False
    count = f"{left} epoch{'s' * (left != 1)}"
    emit(Warned(message=f"attempt {task.attempt} ended {count} early: {why}"))
    return True


def held(task: Task, built: Built, plan: PhasePlan, now: Epochs) -> Task:
    """The attempt, held before its end to what the run will hold it to there.

    At a rate that is no usual one that is to learn as much as passes without a warning: of 31
    networks of which that is foreseen half way, two do. Of later attempts it is not known here
    whether they will be, for by then the trainings may have been dear enough to end, nor where the
    time may be up first.

    Args:
        task: the attempt.
        built: its model.
        plan: the phase.
        now: what the epochs of this one logged until now.
    """
    limits = task.config.checks.learned
    if limits is None or task.attempt > 1 or task.config.restart.max_seconds is not None:
        return task
    if not now.count or not _stays_the_same(task, built, plan, now):
        return task
    times = times_usual(plain_optimizers(built.model)[0], now.rates[-1])
    if times is None or not times > UNUSUAL or _by_rate(task, built, times) is None:
        return task
    strict = limits.model_copy(update={"fail_below": limits.warn_below})
    checks = task.config.checks.model_copy(update={"learned": strict})
    config = task.config.model_copy(update={"checks": checks})
    return dataclasses.replace(task, config=config)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """The end of an epoch of the last phase."""

    task: Task
    built: Built
    before: Sequence[Phase]
    """The phases before this one."""
    now: Epochs
    """What the epochs of this one logged until now."""
    left: int
    """How many epochs are left."""
    examine: Callable[[], Examination]
    """Looks at the network as after the last epoch, once."""


def _stays_above(moment: _Moment) -> str | None:
    """Why a prediction that is worse than the best constant is certain to be so at the end.

    Of a loss that is below that of the best constant nothing is certain, nor of the sum of several
    losses.
    """
    if len(moment.built.outputs) != 1 or moment.built.outputs[0].unjudged is not None:
        return None
    losses = [*moment.now.losses.values()]
    limit = _limit(moment.task, moment.before[0].find(PredictionVarianceCheck))
    if limit is None or not losses or not limit < losses[-1] < math.inf or min(losses) <= 0:
        return None
    seen = Outlook(losses=losses, level=losses[-1], limit=limit, left=moment.left)
    if not seen.is_out_of_reach():
        return None
    found = next(
        (c for c in moment.examine().checks if isinstance(c, PredictionVarianceCheck)), None
    )
    if found is None or found.verdict != "fail":
        return None
    level, limit = _mean(found, "loss"), _limit(moment.task, found)
    if level is None or limit is None:
        return None
    # Where there is dropout or a penalty, inference is better than training.
    seen = dataclasses.replace(seen, level=min(level, losses[-1]), limit=limit)
    if not seen.is_out_of_reach():
        return None
    return (
        f"the loss is {seen.level:.4g}, and at three times its pace it would be {seen.lowest:.4g} "
        f"at the end, still clearly worse than a constant prediction's"
    )


_NARROW = "most networks as deep and narrow are dead from the start"
"""Such networks may rest for long on their way, so that a quarter of the epochs tells nothing."""


def _stays_behind(moment: _Moment) -> str | None:
    """Why a training is given up that has something against it, and has learnt too little by now.

    Not where no attempt may follow.
    """
    times = times_usual(plain_optimizers(moment.built.model)[0], moment.now.rates[-1])
    known = _against(moment.task, moment.built, moment.before, times)
    done, left = moment.now.count, moment.left
    if known is None or done not in midterms(done + left, early=known != _NARROW):
        return None
    if moment.task.attempt >= moment.task.config.restart.max_attempts:
        return None
    found = next((each for each in moment.examine().checks if isinstance(each, LearnedCheck)), None)
    if found is None or found.verdict != "fail":
        return None
    share, limit = found.share(), found.limits.fail_below
    if share is None or limit is None or not share < limit:  # what was lost since an earlier phase
        return None
    # Of a loss with a penalty in it the share that is left says nothing of the skill.
    if not is_late(done + left, done, times):
        losses = [*moment.now.losses.values()]
        worse = _is_worse_than_untrained(moment)
        if moment.built.model.losses or not stays_low(found, losses, left, worse=worse):
            return None
    return f"{known}; after {done} epochs: {found.reason}"


def _is_worse_than_untrained(moment: _Moment) -> bool:
    """Whether the loss is higher than before the training, in the last epoch and at its end."""
    now, before = (
        next((each for each in checks if isinstance(each, PredictionVarianceCheck)), None)
        for checks in (moment.examine().checks, moment.before[0].checks)
    )
    level, untrained = (None if each is None else _mean(each, "loss") for each in (now, before))
    if level is None or untrained is None:
        return False
    return min(level, [*moment.now.losses.values()][-1]) > untrained


def _against(task: Task, built: Built, before: Sequence[Phase], times: float | None) -> str | None:
    """What stands against a training from its beginning, of all that the policy has answers to.

    Args:
        task: the attempt.
        built: its model.
        before: the phases before this one.
        times: how many times the usual rate its rate is; None where that is not known.
    """
    by_rate = _by_rate(task, built, times)
    if by_rate is not None:
        return by_rate
    answered = task.config.restart.answered()
    if "often_dead_at_init" in answered and evidence.is_deep_and_narrow(before):
        return _NARROW
    found = before[0].find(FindingsCheck)
    causes = () if found is None else found.measured.causes
    # What is learnt with much dropout is learnt slowly, and its loss tells little of inference.
    told = (each for each in causes if each != "heavy_dropout")
    named = next((each for each in told if each in answered), None)
    return None if named is None else f"{named} was found before it"


def _by_rate(task: Task, built: Built, times: float | None) -> str | None:
    """What stands against a training by its rate alone."""
    answered, limits = task.config.restart.answered(), task.config.checks.findings
    if times is None or limits is None or {"unusual_rate", "undertrained"} & {*limits.ignore}:
        return None
    if times > UNUSUAL and "unusual_rate" in answered:
        return f"its rate is {times:,.0f} times the usual one"
    # A network that others have trained is tuned at such rates.
    if times < 1 / UNUSUAL and "undertrained" in answered and not built.begins_trained:
        return f"its rate is {times:.2g} times the usual one"
    return None


def _limit(task: Task, found: PredictionVarianceCheck | None) -> float | None:
    """The loss above which the prediction is clearly worse than the best constant.

    Not that of a skill which a training has to reach: on its way there its loss may rest.
    """
    limits = task.config.checks.prediction_variance
    constant = None if found is None else _mean(found, "constant_loss")
    if limits is None or found is None or constant is None:
        return None
    lowest = sum(each.lowest_loss or 0.0 for each in found.measured.outputs)
    lowest /= len(found.measured.outputs)
    return constant - min(limits.min_skill, 0.0) * (constant - lowest)


def _mean(found: PredictionVarianceCheck, name: str) -> float | None:
    """The mean over the columns of the output, as Keras takes it; None where one is not known."""
    values = [getattr(each, name) for each in found.measured.outputs]
    return None if not values or None in values else sum(values) / len(values)


def _stays_the_same(task: Task, built: Built, plan: PhasePlan, now: Epochs) -> bool:
    """Whether nothing changes the steps until the end."""
    optimizers = plain_optimizers(built.model)
    return (
        plan is task.config.phases[-1]
        and len(optimizers) == 1
        and not optimizers[0].use_ema
        and own_way(built.model) is None
        and not task.config.fit.callbacks
        and built.class_weight is None
        and built.rates.is_constant
        and len({*now.rates}) == 1
    )
