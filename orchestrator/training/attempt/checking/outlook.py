"""The checks that follow a training, brought forward to an epoch that foretells them.

What is asked is a function of the record and of the weights, so that an attempt that is resumed or
replayed ends at the same epoch.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TypeVar

from orchestrator.diagnosis.causes.after.dropout import (
    find_drowning_dropout,
    find_shifting_dropout,
)
from orchestrator.diagnosis.causes.after.dropped import dropping
from orchestrator.diagnosis.causes.finders import ask
from orchestrator.diagnosis.causes.plan import UNUSUAL, times_usual
from orchestrator.diagnosis.examine import Examination
from orchestrator.diagnosis.verdicts.outlook import (
    HALF,
    LATE,
    NEXT,
    SOON,
    Outlook,
    least_share,
    midterms,
    rests,
)
from orchestrator.model.build import plain_optimizers
from orchestrator.model.layers import undrawn
from orchestrator.model.outputs import own_way
from orchestrator.policy.kinds import is_deep_and_narrow
from orchestrator.policy.shortfall import OUTPUT
from orchestrator.record.checks import (
    AnyCheck,
    FindingsCheck,
    LearnedCheck,
    PredictionVarianceCheck,
)
from orchestrator.record.events import Warned
from orchestrator.record.records import DECLINE, Phase
from orchestrator.training.attempt.checking import check, moving_statistics
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.task import Task

_FAR_BELOW = 0.01
"""Of rates that are at most so many times the usual one, a tenth of the epochs tells; of others, on
which a long training may count, a quarter."""

C = TypeVar("C", bound=AnyCheck)


def ends_now(moment: Moment) -> bool:
    """Whether the checks after the training are taken now, for it would hardly pass at its end.

    Tells why. Only in the last phase, at a rate that stays the same. Not where BatchNorm's moving
    statistics may be late, for with time they arrive, nor where the policy may go on from an end.

    Args:
        moment: the end of an epoch.
    """
    if moment.task.config.restart.may_go_on() or not _stays_the_same(moment):
        return False
    with undrawn(moment.built.model):
        view = _View(held(moment))
        why = _stays_above(view) or _stays_behind(view) or _stays_dropped(view)
    if why is None or moving_statistics.lag(view.examined) is not None:
        return False
    count = f"{view.left} epoch{'s' * (view.left != 1)}"
    told = f"attempt {moment.task.attempt} ended {count} early: {why}"
    moment.emit(Warned(message=told))
    return True


def held(moment: Moment) -> Moment:
    """The attempt, held before its end to what the run will hold it to there.

    At a rate that is no usual one that is to learn as much as passes without a warning: of 31
    networks of which that is foreseen half way, two do. So it is with an output whose classes are
    cut off, each by itself: of 61 networks with relu, tanh or nothing under cross-entropy none did,
    and those with relu that had learnt more than half by then ended at 0.38 to 0.70. Of later
    attempts it is not known here whether they will be, for by then the trainings may have been dear
    enough to end, nor where the time may be up first.
    """
    task, limits = moment.task, moment.task.config.checks.learned
    if limits is None or task.attempt > 1 or task.config.restart.max_seconds is not None:
        return moment
    if not moment.now.count or not _stays_the_same(moment):
        return moment
    times = _times_usual(moment)
    unusual = times is not None and times > UNUSUAL and _by_rate(moment) is not None
    if not unusual and not _cuts_off_classes(moment):
        return moment
    strict = limits.model_copy(update={"fail_below": limits.warn_below})
    checks = task.config.checks.model_copy(update={"learned": strict})
    config = task.config.model_copy(update={"checks": checks})
    return dataclasses.replace(moment, task=dataclasses.replace(task, config=config))


def _cuts_off_classes(moment: Moment) -> bool:
    """Whether the only output does not fit its loss of classes, and the policy has an answer."""
    outputs, found = moment.built.outputs, moment.phases[0].find(FindingsCheck)
    return (
        len(outputs) == 1
        and outputs[0].form in ("categorical", "sparse")
        and found is not None
        and "loss_mismatch" in found.measured.causes
        and "loss_mismatch" in moment.task.config.restart.answered()
    )


@dataclasses.dataclass(frozen=True)
class _View:
    """What is seen of an attempt at the end of an epoch of its last phase."""

    moment: Moment

    @property
    def losses(self) -> list[float]:
        """Keras's loss of every epoch of the phase."""
        return [*self.moment.now.losses.values()]

    @property
    def done(self) -> int:
        return self.moment.now.count

    @property
    def left(self) -> int:
        """How many epochs are left."""
        return self.moment.epochs - self.done

    @functools.cached_property
    def examined(self) -> Examination:
        """The network as after the last epoch."""
        return check.examine_phase(self.moment)

    def find(self, kind: type[C]) -> C | None:
        """What a check says of the network now."""
        return next((each for each in self.examined.checks if isinstance(each, kind)), None)

    def find_before(self, kind: type[C]) -> C | None:
        """What a check said before the training."""
        return self.moment.phases[0].find(kind)


def _stays_above(view: _View) -> str | None:
    """Why a prediction that is worse than the best constant is foreseen to be so at the end.

    Of a loss that is below that of the best constant nothing is certain, nor of the sum of several
    losses.
    """
    task, outputs, losses = view.moment.task, view.moment.built.outputs, view.losses
    if len(outputs) != 1 or outputs[0].unjudged is not None:
        return None
    limit = _limit(task, view.find_before(PredictionVarianceCheck))
    if limit is None or not losses or not limit < losses[-1] < math.inf or min(losses) <= 0:
        return None
    seen = Outlook(losses=losses, level=losses[-1], limit=limit, left=view.left)
    if not seen.is_out_of_reach():
        return None
    found = view.find(PredictionVarianceCheck)
    if found is None or found.verdict != "fail":
        return None
    level, limit = _mean(found, "loss"), _limit(task, found)
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


@dataclasses.dataclass(frozen=True, slots=True)
class _Against:
    """Something that stands against a training."""

    told: str
    first: float = SOON
    """Share of the epochs after which what it has learnt tells."""
    little: float = SOON
    """Share of the epochs after which next to nothing fails, and before which nothing does."""
    times: float | None = None
    """How many times the usual rate its rate is, where it is that."""
    cut_off: bool = False
    """Whether an output is cut off, or by its loss: no gradient comes back from there, and a loss
    that rests does not fall again. Others rest on their way, too, at a third of what there is to
    learn, where that is linear."""


_NARROW = _Against(
    "most networks as deep and narrow are dead from the start", first=NEXT, little=LATE
)


def _stays_behind(view: _View) -> str | None:
    """Why a training is given up that has something against it, and has learnt too little."""
    known = _against(view)
    if known is None:
        return None
    still = known.cut_off and len(view.losses) > 1 and rests(view.losses)
    short = _short(view, known.first, known.times, rests=still, little=known.little)
    if short is None:
        return None
    return f"{known.told}; after {view.done} epochs: {short.reason}"


def _stays_dropped(view: _View) -> str | None:
    """Why a training is given up whose predictions are good with dropout alone, or drown in it.

    What is hardly better without dropout than a constant prediction is no good in the end, either,
    however well the loss falls, which is that with dropout; half way, nor is what has learnt less
    than passes: of 16 networks of three and four layers with dropout of 0.4, 15 had learnt less
    than half by then, and ended at 0.27 to 0.56, with the loss falling until the end. Of
    200 networks drawn with dropout of 0.1 to 0.5, 69 fail: 33 are given up so, after a quarter of
    their epochs on average, and all of these would have ended below a skill of 0.57. What drowns is
    told after a quarter; after a tenth some do that learn in the end.
    """
    moment, limits = view.moment, view.moment.task.config.checks.findings
    answered, probe = moment.task.config.restart.answered(), moment.built.probe
    if limits is None or "heavy_dropout" in limits.ignore or "heavy_dropout" not in answered:
        return None
    if not dropping(moment.built.model) or probe.has_batch_normalization or not probe.can_measure:
        return None
    short = _short(view, SOON, falling=True)
    if short is None:
        return None
    phase = Phase(
        phase=moment.name, epochs=view.done, seconds=0.0, metrics={}, checks=view.examined.checks
    )
    subject = check.subject(moment, phase, view.examined)
    below = least_share(short, moment.epochs, view.done, None)
    shifting = functools.partial(find_shifting_dropout, below=below)
    drowning = functools.partial(find_drowning_dropout, early=True)
    tells = view.done in midterms(moment.epochs, first=LATE)
    told = ask((shifting, drowning) if tells else (shifting,), subject)
    return None if not told else f"after {view.done} epochs, {told[0].reason}"


def _short(
    view: _View,
    first: float,
    times: float | None = None,
    *,
    rests: bool = False,
    little: float = SOON,
    falling: bool = False,
) -> LearnedCheck | None:
    """`learned`, where it is asked after this epoch, and too little has been learnt to go on.

    Not where no attempt may follow.

    Args:
        view: what is seen of the attempt.
        first: share of the epochs that tells at the earliest.
        times: how many times the usual rate its rate is, where that stands against it.
        rests: whether its loss has come to rest.
        little: share of the epochs before which only what has learnt nothing fails.
        falling: whether half way a loss that falls is no excuse.
    """
    moment = view.moment
    if view.done not in midterms(moment.epochs, first=first):
        return None
    if moment.task.attempt >= moment.task.config.restart.max_attempts:
        return None
    found = view.find(LearnedCheck)
    if found is None:
        return None
    told = falling and view.done >= HALF * moment.epochs and found.measured.lenient is None
    if found.verdict != "fail" and not (told and found.is_behind()):
        return None
    share = found.share()
    below = least_share(found, moment.epochs, view.done, times, rests=rests, little=little)
    return None if share is None or below is None or not share < below else found


def _against(view: _View) -> _Against | None:
    """What stands against a training, of all that the policy has answers to."""
    moment = view.moment
    by_rate = _by_rate(moment)
    if by_rate is not None:
        return by_rate
    answered = moment.task.config.restart.answered()
    if "often_dead_at_init" in answered and is_deep_and_narrow(moment.phases):
        return _NARROW
    if _is_undone(moment):
        return _Against("what it had learnt in an earlier phase was lost", LATE)
    found = moment.phases[0].find(FindingsCheck)
    causes = () if found is None else found.measured.causes
    # What is learnt with much dropout is learnt slowly, and its loss tells little of inference.
    mute = {"heavy_dropout"} | ({"unusual_start"} if _is_unlearning(view) else set())
    told = (each for each in causes if each not in mute)
    named = next((each for each in told if each in answered), None)
    if named is None:
        return None
    return _Against(
        f"{named} was found before it",
        # In few epochs the first of them tell little: of 14, two learn what passes.
        HALF if "few_steps" in causes else SOON,
        # Of several outputs others may learn while the sum of the losses hardly falls.
        cut_off=named in OUTPUT and len(moment.built.outputs) == 1,
    )


def _is_unlearning(view: _View) -> bool:
    """Whether a loss that began far above that of the best constant is coming down to it in time.

    What is to be unlearnt first says nothing of what is learnt then. Of the sum of several losses
    it is not known what each comes down to.
    """
    limit = _limit(view.moment.task, view.find_before(PredictionVarianceCheck))
    losses = view.losses
    if len(view.moment.built.outputs) != 1 or limit is None or not min(losses) > 0:
        return False
    seen = Outlook(losses=losses, level=losses[-1], limit=limit, left=view.left)
    return seen.lowest <= limit < losses[-1]


def _is_undone(moment: Moment) -> bool:
    """Whether a phase has lost what others before had learnt, and the policy may go back there."""
    if not moment.task.config.restart.may_rewind():
        return False
    skills = [skill for phase in moment.phases[1:] if (skill := phase.skill()) is not None]
    return bool(skills) and max(skills) - skills[-1] > DECLINE


def _by_rate(moment: Moment) -> _Against | None:
    """What stands against a training by its rate alone."""
    config, times = moment.task.config, _times_usual(moment)
    answered, limits = config.restart.answered(), config.checks.findings
    if times is None or limits is None or {"unusual_rate", "undertrained"} & {*limits.ignore}:
        return None
    if times > UNUSUAL and "unusual_rate" in answered:
        return _Against(f"its rate is {times:,.0f} times the usual one", times=times)
    # A step is as long as all that momentum has gathered.
    gathers = float(getattr(plain_optimizers(moment.built.model)[0], "momentum", 0.0))
    long = times / (1 - gathers) if gathers < 1 else math.inf
    # A network that others have trained is tuned at such rates.
    if long < 1 / UNUSUAL and "undertrained" in answered and not moment.built.begins_trained:
        first = SOON if long <= _FAR_BELOW else LATE
        return _Against(f"its rate is {times:.2g} times the usual one", first, times=times)
    return None


def _times_usual(moment: Moment) -> float | None:
    """How many times the usual rate its rate is; None where that is not known."""
    return times_usual(plain_optimizers(moment.built.model)[0], moment.now.rates[-1])


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


def _stays_the_same(moment: Moment) -> bool:
    """Whether nothing changes the steps until the end."""
    built = moment.built
    optimizers = plain_optimizers(built.model)
    return (
        moment.is_last
        and len(optimizers) == 1
        and not optimizers[0].use_ema
        and own_way(built.model) is None
        and not moment.task.config.fit.callbacks
        and built.class_weight is None
        and built.rates.is_constant
        and len({*moment.now.rates}) == 1
    )
