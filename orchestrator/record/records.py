"""What is recorded: a run, its attempts, their phases and checks. No I/O.

The field names are the JSON keys of `run.json`. Records are never changed; `events.advance`
makes the next one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypedDict, TypeVar

import msgspec
from msgspec import Meta
from msgspec.structs import force_setattr, replace

from orchestrator.record.checks import AnyCheck, Check, LearnedCheck, PredictionVarianceCheck
from orchestrator.record.encoding import Record

SCHEMA = 1
"""Version of the record's shape; a reader refuses a greater one."""

JSON_SCHEMA = Path(__file__).with_name("record.schema.json")
"""The JSON schema of a run, for programs without ours; `tests/record_schema.py` makes it."""

INIT = "init"
"""Name of phase 0, which has no epochs."""

FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"
"""Pattern of a text that can be part of a file's name, and leads into no other folder."""

DECLINE = 0.2
"""Skill that is lost between two phases without notice (design, section 4)."""

DIVERGED = 3.0
"""An epoch's loss this many times that of the untrained network means that steps were too large: a
network that dies for want of luck goes to the loss of a constant, which is less."""

_OF_UNITS = ("dead_neurons", "prediction_variance", "learned")
"""Checks that dead units may make fail."""
_RAISED = 1.2
"""A learning rate that is so many times the one before has risen."""
_FAR = 0.5
"""Share of their norm by which weights have moved far in an epoch."""

C = TypeVar("C", bound=Check)

RunStatus = Literal["running", "passed", "exhausted", "invalid", "error", "interrupted"]
AttemptStatus = Literal["running", "passed", "failed", "crashed", "interrupted"]
Cause = Literal[
    "one_unit_softmax",
    "unreachable_targets",
    "loss_mismatch",
    "wrong_labels",
    "broadcast_shapes",
    "no_effect",
    "lost_signal",
    "held_at_zero",
    "initialization",
    "fixed_seed",
    "unscaled_inputs",
    "distant_targets",
    "constant_columns",
    "missing_values",
    "unrelated_targets",
    "unusual_start",
    "unusual_rate",
    "slow_statistics",
    "heavy_dropout",
    "few_steps",
    "undertrained",
    "rate_too_low",
    "oscillating",
    "lagging_statistics",
    "over_regularised",
    "too_small",
    "overfitting",
    "dead_branch",
    "constant_reconstruction",
]
"""What a finding may point to; the README says of each how it is found and what to do."""

NEAR_USUAL = 10.0
"""Up to so many times its usual rate an optimizer is at a usual one still."""

CONFIRMED: frozenset[Cause] = frozenset({"distant_targets", "unscaled_inputs", "heavy_dropout"})
"""Causes that are suspected before a training, and for which its failure is the evidence: a network
may well cope with them, and so a policy goes by what was found after."""

FailureKind = Literal[
    "non_finite",
    "dead_at_init",
    "always_dead_at_init",
    "often_dead_at_init",
    "diverged",
    "died",
    "constant",
    "worse_than_baseline",
    "undertrained",
    "crippled",
    "metric",
    "crashed",
]
"""How an attempt failed:

- `non_finite`: weights, losses or predictions are not finite;
- `dead_at_init`: dead units cut the output off before any training, or it is not finite then;
- `always_dead_at_init`, beside it: so they do with every seed that was screened, or every seed
  gives the same network;
- `diverged`: failed by another check than `finite` and `metric` after the loss had shot up, or dead
  or constant in a phase at a rate far above that of a healthy one before, so that a step was too
  large; or much of the skill that it had after an earlier phase is lost;
- `died`: dead without that, or no row's output responds to the inputs any more;
- `constant`: constant, although units are alive and the output responds;
- `often_dead_at_init`, beside these two and the next three: five seeds or more had to be screened
  until one was alive, or most networks with layers as narrow are dead;
- `worse_than_baseline`: the prediction varies, and is worse than the best constant;
- `undertrained`: so it is, or it has learnt too little, and the loss was still falling at the end;
- `crippled`: alive, and it has learnt too little of what there is to learn;
- `metric`: a gate was missed;
- `crashed`: the worker was killed.
"""

Form = Literal["regression", "binary", "categorical", "sparse"]
"""How targets and predictions of an output are written: binary is one probability a column,
categorical one column a class, sparse a class index."""

Standardized = Literal["inputs", "targets", "inputs and targets"]
"""What the remedy `standardize` has scaled."""

Standardization = dict[str, dict[str, dict[str, list[float]]]]
"""Mean and variance of each column, under `inputs` by the path of the input, under `targets` by the
name of the output."""

Change = TypedDict(
    "Change",
    {
        "from": Annotated[Any, Meta(description="Value in the attempt before.")],
        "to": Annotated[Any, Meta(description="Value in this attempt.")],
    },
)
"""A setting that differs from the attempt before."""


class Settings(Record, kw_only=True):
    """What may differ between attempts."""

    WORDS: ClassVar[Mapping[str, tuple[str, str]]] = {
        "learning_rate_cap": ("learning rate at most {}", "rate ≤ {}"),
        "anneal": ("falling to {} of that", "→ × {}"),
        "learning_rate_factor": ("learning rates times {}", "rate × {}"),
        "momentum": ("momentum {}", "momentum {}"),
        "more_epochs": ("{} more epochs of the last phase", "+ {} epochs"),
        "negative_slope": ("leaky relu with slope {}", "slope {}"),
        "initializer": ("initializer {} and zero biases", "{}"),
        "dropout_cap": ("dropout at most {}", "dropout ≤ {}"),
        "clip_norm": ("gradients clipped to norm {}", "norm ≤ {}"),
        "standardize": ("{} standardised", "{} scaled"),
        "output_activation": ("activation: {} for the output", "activation: {}"),
        "output_loss": ("loss: {}", "loss: {}"),
        "seed": ("seed {}", "seed {}"),
    }
    """What a change of each is called, in full and on a narrow line, in the order of telling."""

    seed: int
    """Seed given to `keras.utils.set_random_seed` before the model is built."""
    learning_rate_cap: float | None = None
    """Every learning rate is min(rate, cap); None leaves the rates alone."""
    anneal: float | None = None
    """Share of the cap that is left of it in the last of a phase's epochs that the config gives it,
    over whose second half it falls evenly; None leaves the cap as it is."""
    learning_rate_factor: float | None = None
    """Every learning rate, schedules included, is multiplied by it before it is capped; None leaves
    the rates alone."""
    momentum: float | None = None
    """Momentum of Keras's SGD; None keeps the optimizer's own."""
    more_epochs: int | None = None
    """Epochs that the last phase has beyond those of the config; None for none."""
    negative_slope: float | None = None
    """Slope of the leaky relu that replaces hidden relu units; None keeps relu."""
    initializer: str | None = None
    """Name of the initializer put on hidden kernels, with zeros on hidden biases; None keeps the
    model's own."""
    dropout_cap: float | None = None
    """Every Dropout layer has min(its rate, this); None leaves the rates alone."""
    clip_norm: float | None = None
    """Norm that the gradients of a step, all taken together, are clipped to; None keeps the
    optimizer's own way."""
    standardize: Standardized | None = None
    """What is shifted and scaled inside the model, by mean and standard deviation over the training
    rows, so that it takes inputs and gives predictions in the units of the rows; None leaves what
    the config says."""
    output_activation: dict[str, str] | None = None
    """Keras's name of the activation that makes an output, by the output's name, which is empty
    where there is one; None keeps the model's own."""
    output_loss: dict[str, str] | None = None
    """Keras's name of the loss of an output, by its name likewise; None keeps the config's."""

    def changes(self, before: Settings) -> dict[str, Change]:
        """What differs from another attempt's settings, as `{name: {"from", "to"}}`."""
        return {
            name: {"from": getattr(before, name), "to": getattr(self, name)}
            for name in self.__struct_fields__
            if getattr(before, name) != getattr(self, name)
        }


class Start(Record, kw_only=True, omit_defaults=True):
    """The state of an earlier attempt that an attempt goes on from."""

    attempt: Annotated[int, Meta(ge=1)]
    """Number of that attempt, which has trained the epoch itself."""
    epoch: Annotated[int, Meta(ge=1)]
    """Its epochs, over all phases, after whose end the attempt goes on."""
    revive: bool = False
    """Whether its dead units get fresh weights first."""


class UnitsLost(Record, kw_only=True):
    """The epoch in which most units of a layer fell silent that ended dead."""

    layer: str
    """Readable path of the layer in the model."""
    units: int
    """Number of its units."""
    lost: int
    """How many of them got their last gradient in this epoch."""
    alive: int
    """How many got one in it at all."""
    epoch: Annotated[int, Meta(ge=1)]
    """Number of the epoch, counted from 1 over all phases."""
    learning_rate: float
    """Highest rate of the epoch."""
    rate_before: float | None = None
    """Highest rate of the epoch before; None for the first."""
    loss_before: float | None = None
    """Loss of the epoch before; None for the first."""
    first: bool = False
    """Whether the epoch was the first of its phase."""
    gradient_norm: float | None = None
    """Norm over the units of all layers of their mean absolute gradient a step, before clipping."""
    moved_layer: str | None = None
    """The layer whose kernel moved most in the epoch, as a share of its norm before."""
    moved: float | None = None
    """That share."""

    @property
    def is_most(self) -> bool:
        """Whether that was half or more of those that were alive."""
        return 2 * self.lost >= self.alive

    @property
    def told(self) -> str:
        """Where and when, with what is known of the epoch, in one clause."""
        last = "the last " if self.lost == self.alive < self.units else ""
        units = f"{last}{self.lost} of {self.units} units"
        lost = f"layer {self.layer} lost {units} in epoch {self.epoch}"
        rate = f"{self.learning_rate:.3g}"
        if self.rate_before is not None and self.learning_rate > _RAISED * self.rate_before:
            after = ", right after the phase's" if self.first else ", as the"
            return f"{lost}{after} learning rate rose to {rate}"
        if self.moved is not None and self.moved_layer is not None and self.moved >= _FAR:
            share = f"{self.moved:.0f} times" if self.moved >= 2 else f"{self.moved:.0%} of"
            far = f"the weights of {self.moved_layer} moved by {share} their norm"
            return f"{lost}, in which {far} at learning rate {rate}"
        return f"{lost}, at learning rate {rate}"


class Failure(Record, kw_only=True):
    """Why an attempt did not pass."""

    check: str
    """Name of the first failing check, or `crashed`."""
    phase: str | None
    """Phase in which it failed; None when a worker died before its first phase."""
    reason: str
    """The check's reason, or what ended the worker."""
    lost: UnitsLost | None = None
    """When a layer lost most of its units, where the check has to do with that."""


class Candidate(Record, kw_only=True):
    """One seed whose network was looked at before training."""

    seed: int
    """The seed."""
    reason: str | None
    """Why its network cannot be trained; None when it can."""


class Racer(Record, kw_only=True):
    """A rung with a seed that was tried for a few epochs, beside others, to see which goes on."""

    remedy: str
    """The remedy."""
    rung: str
    """Key of the rung in the resolved config."""
    settings: Settings
    """The settings that it was given."""
    seed: int | None = None
    """The seed that it trained with, which screening may have chosen."""
    screened: int = 0
    """Candidate seeds that were looked at for it."""
    epochs: int = 0
    """Epochs that it trained; those of the one that goes on are among the attempt's."""
    share: float | None = None
    """What it had learnt by then of what the reference learns, over the outputs the least; None
    where that is not known."""
    loss: float | None = None
    """Training loss of its last epoch."""
    failure: Failure | None = None
    """Why it could not go on: it was lost on the way, or gave a constant."""
    reason: str | None = None
    """Why another one goes on; None for the one that does."""


class Fix(Record, kw_only=True):
    """What a remedy writes instead, `fix_output` or `raise_learning_rate`."""

    output: str = ""
    """Name of the output; empty where there is one."""
    activation: str | None = None
    """Keras's name of the activation that is to make it; None for the one that it has."""
    loss: str | None = None
    """Keras's name of its loss; None for the one that it has."""
    standardize: bool = False
    """Whether its targets are to be standardised, too."""

    learning_rate_factor: float | None = None
    """How many times as high the learning rates are to be; None where they are not at fault."""
    factor_with_momentum: float | None = None
    """The same where SGD is given momentum, too; None where that is of no help."""
    usual_rate: float | None = None
    """The optimizer's usual rate, where the highest one is far above it; None where it is not."""

    @property
    def told(self) -> str:
        """What is to be written for the output, as in a config; empty for another fix."""
        lines = {"activation": self.activation, "loss": self.loss}
        return " and ".join(f"{key}: {value}" for key, value in lines.items() if value)


class Finding(Record, kw_only=True):
    """A cause that the evidence points to."""

    cause: Cause
    """Name of the cause."""
    reason: str
    """One clause for people: what was seen, and why it matters."""
    advice: str = ""
    """One clause for people: what to write instead. Empty in older records, whose reason ends with
    it."""
    certain: bool = False
    """Whether no training could succeed: no reachable prediction beats the best constant, or
    training can have no effect."""
    found: Literal["before", "after"] = "after"
    """Whether it was found before the training, or from what the training has shown."""
    key: str | None = None
    """Where the config says what is at fault, such as `model.layers.1.Dense.activation`; None where
    it is in the rows or in the user's code."""
    line: int | None = None
    """Line of that key in `config.yaml`; None where it is not written there."""
    fix: Fix | None = None
    """What would do of an output that cannot; None where that is not known."""
    final: bool | msgspec.UnsetType = msgspec.UNSET
    """Name of `certain` in older records; not written any more."""

    @property
    def told(self) -> str:
        """What was seen and what to do about it, in one sentence."""
        return f"{self.reason}: {self.advice}" if self.advice else self.reason

    def __post_init__(self) -> None:
        """Read an older record."""
        if self.final is not msgspec.UNSET:
            force_setattr(self, "certain", self.final)
            force_setattr(self, "final", msgspec.UNSET)


class Phase(Record, kw_only=True):
    """One finished phase of an attempt."""

    phase: Annotated[str, Meta(pattern=FILE_NAME)]
    """Name of the phase; part of a file's name."""
    epochs: int
    """Epochs trained in it; fewer than planned when the attempt was stopped early."""
    seconds: float
    """Training and checks together."""
    metrics: dict[str, float]
    """Keras's logged values at the phase's last epoch."""
    first_loss: float | None = None
    """Keras's loss of the first step, before its weights were changed."""
    highest_loss: float | None = None
    """Highest loss of an epoch."""
    lowest_loss: float | None = None
    """Lowest loss of an epoch, over all phases until then; where the phase has failed, its last
    epoch does not count."""
    lowest_epoch: int | None = None
    """The epoch with that loss, the newest of equals, counted from 1 over all phases."""
    weights: str | None = None
    """Digest of all weights at its end, `sha256:` and 64 hexadecimal digits; None in a record that
    is older than it."""
    lost: UnitsLost | None = None
    """The largest loss of units in an epoch, over all phases until then; where the phase has
    failed, after the epoch with the lowest loss if there is one. None where none was lost, or in a
    record that is older than it."""
    settled: bool = False
    """Whether BatchNorm's moving statistics were settled by forward passes before its checks."""
    checks: tuple[AnyCheck, ...]
    """Verdicts in the order of the checks."""

    def failure(self) -> Failure | None:
        """The first failing check, or None."""
        for check in self.checks:
            if check.verdict == "fail":
                lost = self.lost if check.check in _OF_UNITS else None
                return Failure(
                    check=check.check,
                    phase=self.phase,
                    reason=check.reason,
                    lost=lost if lost is not None and lost.is_most else None,
                )
        return None

    def find(self, kind: type[C]) -> C | None:
        """The check of a kind; None where it was not taken."""
        return next((check for check in self.checks if isinstance(check, kind)), None)

    def skill(self) -> float | None:
        """Lowest skill over the outputs; None where there is none, or one that is not finite."""
        check = self.find(PredictionVarianceCheck)
        outputs = () if check is None else check.measured.outputs
        skills = [output.skill for output in outputs if output.skill is not None]
        return min(skills) if skills and all(map(math.isfinite, skills)) else None

    def share(self) -> float | None:
        """Lowest share of the reference's skill, over the outputs; None where there is none."""
        check = self.find(LearnedCheck)
        return None if check is None else check.share()

    def without_units(self) -> Phase:
        """As `run.json` has it: without the lists with an entry for each unit."""
        return replace(self, checks=tuple(check.without_units() for check in self.checks))


def finished(phases: Sequence[Phase], epoch: int) -> int:
    """See `Attempt.finished`."""
    return sum(end < epoch for end in itertools.accumulate(phase.epochs for phase in phases))


class Attempt(Record, kw_only=True):
    """One training under one set of settings."""

    attempt: int
    """Number, counted from 1."""
    status: AttemptStatus
    """How it ended, or `running`."""
    remedy: str | None = None
    """The remedy that led to it; None for the first."""
    rung: str | None = None
    """Key of the rung that led to it in the resolved config, such as `restart.policy.3.rungs.0`;
    None for the first, and in a record that is older than it."""
    start: Start | None = None
    """What it goes on from; None where it trains from the beginning. The phases and epochs before
    that are listed in it as those of the other attempt."""
    cause: Failure | None = None
    """The failure of the attempt before, which the remedy answers."""
    changed: dict[str, Change] = {}
    """Settings that differ from the attempt before: `{name: {"from", "to"}}`."""
    passed_over: tuple[str, ...] = ()
    """Rungs of the policy that could not be applied, each with its reason."""
    obstacles: dict[str, str] = {}
    """Remedies that its model cannot carry, each with the reason and the way out."""
    standardization: Standardization = {}
    """What a remedy has standardised inside its model."""
    sound_rate: float | None = None
    """A learning rate at which most networks train with its optimizer; None where none is known."""
    planned_rate: float | None = None
    """The highest rate of its longest phase, as the config has it; None where that is not known."""
    restarts: int = 0
    """How often its worker was started again."""
    settings: Settings
    """The settings."""
    failure: Failure | None = None
    """Why it failed or crashed."""
    screened: tuple[Candidate, ...] = ()
    """The candidate seeds that were looked at before it trained, in order; with none, or where all
    were rejected, it has the first one."""
    raced: tuple[Racer, ...] = ()
    """What was tried for a few epochs before it, in order: it goes on from the one that has no
    `reason`, and the others are no attempts."""
    findings: tuple[Finding, ...] = ()
    """What it points to: first what was found before its training, then what its failure shows."""
    learning_rates: dict[str, float] = {}
    """Highest learning rate of each phase so far."""
    phases: tuple[Phase, ...] = ()
    """Finished phases in order, `init` first."""
    seconds: float = 0.0
    """Wall-clock time."""

    def blamed_phase(self) -> str | None:
        """Name of the phase whose steps a failure comes from; None where it never trained.

        That is the first one after which much of the skill that was there before had gone, and
        otherwise the one that failed: a phase at a usual rate often fails by what one at too high
        a rate has left to it. Where findings say that a rate was far above the usual one, it is the
        phase that had it.
        """
        skills: list[float] = []
        for phase in self.phases[1:]:
            skill = phase.skill()
            if skill is not None and max(skills, default=skill) - skill > DECLINE:
                return phase.phase
            if skill is not None:
                skills.append(skill)
        failed = None if self.failure is None else self.failure.phase
        usual, rate = self.usual_rate(), self.learning_rates.get(failed or "")
        if usual is not None and rate is not None and rate <= NEAR_USUAL * usual:
            return max(self.learning_rates, key=lambda phase: self.learning_rates[phase])
        return failed

    @property
    def trained(self) -> int:
        """Epochs that it has trained itself in its finished phases, and the losers of its race."""
        before = 0 if self.start is None else self.start.epoch
        raced = sum(each.epochs for each in self.raced if each.reason is not None)
        return max(sum(phase.epochs for phase in self.phases) - before, 0) + raced

    def finished(self, epoch: int) -> int:
        """How many of its phases, `init` among them, were finished at an epoch's end.

        Args:
            epoch: its number, counted from 1 over all phases. Where a phase ends with it, that one
                is not finished: its checks come after.
        """
        return finished(self.phases, epoch)

    def was_improving(self) -> bool:
        """Whether it failed for having learnt too little, with its lowest loss at its end."""
        if self.failure is None or self.failure.check != "learned" or not self.phases:
            return False
        last = self.phases[-1]
        final = last.metrics.get("loss")
        if self.diverged():  # what falls back to where it began is not on its way
            return False
        if final is None or last.lowest_loss is None:
            return False
        # The last epoch of a phase that has failed is not among those of the lowest loss.
        counted = last.failure() is None
        return final < last.lowest_loss or (counted and final == last.lowest_loss)

    def usual_rate(self) -> float | None:
        """The optimizer's usual rate, where findings say that the highest one is far above it."""
        fixes = [each.fix for each in self.findings if each.cause == "unusual_rate" and each.fix]
        named = [each.usual_rate for each in fixes if each.usual_rate is not None]
        # Records of before have it as a share of the highest rate.
        highest = max(self.learning_rates.values(), default=0.0)
        factors = [each.learning_rate_factor for each in fixes if each.usual_rate is None]
        shares = [each * highest for each in factors if each is not None and each < 1]
        return min(named + shares, default=None)

    def diverged(self) -> bool:
        """Whether its last trained phase had an epoch with a loss far above the untrained one."""
        trained = [phase for phase in self.phases if phase.highest_loss is not None]
        if not trained:
            return False
        first, highest = trained[0].first_loss, trained[-1].highest_loss
        if first is None or highest is None:
            return False
        if first <= 0:  # a loss that goes below zero has no measure
            return not math.isfinite(highest)
        return not highest <= DIVERGED * first

    def told_findings(self) -> tuple[Finding, ...]:
        """What it points to, each once: training confirms what was suspected, or says more."""
        seen = {
            (each.cause, each.key) for each in self.findings if each.found == "after" and each.key
        }
        told = [
            each for each in self.findings
            if each.found == "after" or (each.cause, each.key) not in seen
        ]  # fmt: skip
        return tuple({each.told: each for each in reversed(told)}.values())[::-1]

    def skill(self) -> float | None:
        """Lowest skill over the outputs after its last phase; None where it never trained."""
        if not self.phases or self.phases[-1].phase == INIT:
            return None
        return self.phases[-1].skill()


class Inputs(Record, kw_only=True):
    """What the saved model takes."""

    columns: tuple[str, ...] = ()
    """Names of the input columns in order; empty for arrays."""
    categories: dict[str, tuple[str, ...]] = {}
    """Categories of the text columns in the order of their encoding: an input has a column of 0 and
    1 for each, a class index of a target is a position in them."""
    standardization: dict[str, dict[str, list[float]]] = {}
    """Mean and variance of the columns of each input, by its path, as the saved model has them."""


class Run(Record, kw_only=True):
    """One config taken to a result."""

    schema: int = SCHEMA
    """Version of this record's shape."""
    run: str
    """Name of the run and of its directory."""
    status: RunStatus = "running"
    """How it ended, or `running`."""
    accepted_attempt: int | None = None
    """Number of the attempt that passed."""
    best_attempt: int | None = None
    """The accepted attempt, or else the one with the highest skill."""
    inputs: Inputs = Inputs()
    """What the saved model takes."""
    attempts: tuple[Attempt, ...] = ()
    """Every attempt, in order."""
    warnings: tuple[str, ...] = ()
    """What the user should know although nothing failed."""
    race: tuple[Racer, ...] = ()
    """What was tried so far for the next attempt; empty once that has begun."""
    conclusion: str | None = None
    """How the run ended, in words."""
    started: str | None = None
    """When the run began, UTC, ISO 8601."""
    seconds: float = 0.0
    """Wall-clock time from the start to the last event."""
    screened_seeds: int = 0
    """Candidate seeds whose networks were looked at before training, over all attempts."""
    exit_code: int | None = None
    """The exit code of the command that ended it."""
