"""What the live display shows at one moment, and what it shows after one more event. No I/O."""

from __future__ import annotations

import dataclasses
import functools
import math
import statistics
from collections.abc import Iterable, Mapping

from orchestrator.config.schema import Config
from orchestrator.display import words
from orchestrator.record.checks import DeadNeuronsCheck
from orchestrator.record.events import (
    AttemptResumed,
    AttemptStarted,
    Doing,
    EpochEnded,
    Event,
    Heartbeat,
    LayerShare,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    Preview,
    ScreeningProgress,
    TrainingProgress,
)
from orchestrator.record.records import Phase, Run, Settings

_POINTS = 512
"""Points of a curve that are kept; even, and far more than are drawn."""
_RECENT = 8
"""How many of the latest epochs give, by their median, the time that the next ones take."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """One logged value over the epochs of an attempt, in a bounded number of points."""

    points: tuple[float, ...] = ()
    """One for so many epochs as `each` says: the value of the last of them, or the first that is
    not finite."""
    each: int = 1
    """Epochs that a point stands for; the last one may stand for fewer."""
    epochs: int = 0
    """Epochs in all."""
    latest: float = math.nan
    """Value of the last epoch."""
    lowest: float = math.inf
    """Lowest finite value; infinite where there is none."""
    highest: float = -math.inf
    """Highest finite value; infinite where there is none."""

    def followed_by(self, value: float) -> Curve:
        """The curve after one more epoch."""
        points, each = self.points, self.each
        if self.epochs % each:
            points = (*points[:-1], _later(points[-1], value))
        else:
            if len(points) == _POINTS:
                points = tuple(map(_later, points[::2], points[1::2]))
                each *= 2
            points = (*points, value)
        finite = [value] if math.isfinite(value) else []
        return Curve(
            points=points,
            each=each,
            epochs=self.epochs + 1,
            latest=value,
            lowest=min(self.lowest, *finite, math.inf),
            highest=max(self.highest, *finite, -math.inf),
        )


def _later(before: float, value: float) -> float:
    """What stands for two points, one after the other."""
    return value if math.isfinite(before) else before


def curves_of(epochs: Iterable[EpochEnded]) -> Mapping[str, Curve]:
    """Each logged value over the epochs."""
    return functools.reduce(_followed, epochs, {})


def _followed(curves: Mapping[str, Curve], event: EpochEnded) -> Mapping[str, Curve]:
    return {
        name: curves.get(name, Curve()).followed_by(value) for name, value in event.metrics.items()
    }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A run at one moment, as the live display shows it. Times are seconds of a monotonic clock."""

    config: Config
    """The run's config."""
    run: Run
    """The run's record."""
    began: float
    """When the run began."""
    activity: str = "starting"
    """What goes on while no epoch is trained, and behind a colon how far it has come."""
    activity_began: float | None = None
    """When it began; None where that is of no interest."""
    phase: PhaseStarted | None = None
    """The phase that is trained or checked; None between phases and during `init`."""
    epoch: int = 0
    """Epochs of the phase that have ended."""
    fraction: float = 0.0
    """Share of the present epoch that is done, 0 to 1."""
    epoch_began: float = 0.0
    """When the present epoch began."""
    durations: tuple[float, ...] = ()
    """Seconds of the latest epochs, also of earlier attempts: the rows are the same."""
    first_progress: tuple[float, float] | None = None
    """When progress within the present epoch was first reported, and the share done by then."""
    guess: float | None = None
    """Seconds that an epoch takes, by the steps since the first report of progress. The time before
    that report is left out, for the first epoch begins with tracing the model."""
    curves: Mapping[str, Curve] = dataclasses.field(default_factory=dict)
    """Each logged value over the epochs of the attempt."""
    layers: tuple[LayerShare, ...] = ()
    """Dead units of each layer."""
    looked_at: str | None = None
    """The rows on which dead units were counted; None before any were counted in this attempt."""
    upper_bounds: bool = False
    """Whether further rows could show that some of the units counted as dead are not."""

    @property
    def planned(self) -> int:
        """Epochs of the present attempt if it passes."""
        return self._epochs(0)

    @property
    def phase_number(self) -> int:
        """Number of the present phase, counted from 1; 0 without one."""
        names = [plan.name for plan in self.config.phases]
        return 0 if self.phase is None else names.index(self.phase.phase) + 1

    def seconds_left(self, now: float) -> tuple[float, float] | None:
        """Time that the present phase and the whole attempt still take, without the checks.

        Args:
            now: the clock.

        Returns:
            Both in seconds; None while nothing is known of how long an epoch takes.
        """
        pace = statistics.median(self.durations) if self.durations else self.guess
        if pace is None or self.phase is None:
            return None
        epochs = self.phase.epochs - self.epoch
        # An epoch that takes longer than the others does not shorten those that follow.
        phase = max(epochs * pace - (now - self.epoch_began), (epochs - 1) * pace, 0.0)
        return phase, phase + self._epochs(self.phase_number) * pace

    def _epochs(self, first: int) -> int:
        """Epochs of the phases from the one at an index on, as the present attempt has them."""
        attempts = self.run.attempts
        settings = attempts[-1].settings if attempts else Settings(seed=self.config.seed)
        return sum(self.config.epochs_of(plan, settings) for plan in self.config.phases[first:])


def advance(scene: Scene, event: Event | Heartbeat, run: Run, now: float) -> Scene:
    """The scene after one more event.

    Args:
        scene: the scene so far.
        event: what happened.
        run: the run after it.
        now: the clock.

    Returns:
        The next scene; `scene` is unchanged.
    """
    following = _advance(dataclasses.replace(scene, run=run), event, now)
    if following.activity.partition(": ")[0] != scene.activity.partition(": ")[0]:
        return dataclasses.replace(following, activity_began=now)
    return following


def _advance(scene: Scene, event: Event | Heartbeat, now: float) -> Scene:
    match event:
        case AttemptStarted() | AttemptResumed():
            return dataclasses.replace(
                scene,
                activity="building the model",
                phase=None,
                curves={},
                looked_at=None,  # the layers stay on the screen, so that it keeps its height
            )
        case ModelBuilt():
            return dataclasses.replace(scene, activity="checking the untrained model")
        case PhaseStarted():
            return dataclasses.replace(
                scene,
                phase=event,
                epoch=event.done,
                fraction=0.0,
                first_progress=None,
                epoch_began=now,
                activity="",
            )
        case ScreeningProgress():
            return dataclasses.replace(scene, activity=words.screening(event))
        case Doing():
            return dataclasses.replace(scene, activity=words.doing(event))
        case TrainingProgress():
            return _after_step(scene, event.step / event.steps, now)
        case EpochEnded():
            return _after_epoch(scene, event, now)
        case Preview():
            return dataclasses.replace(
                scene,
                layers=event.layers,
                looked_at=f"the first {event.rows} rows",
                upper_bounds=True,
            )
        case PhaseEnded():
            return _after_phase(scene, event.phase)
        case _:
            return scene


def _after_step(scene: Scene, fraction: float, now: float) -> Scene:
    first_progress = scene.first_progress or (now, fraction)
    began, done = first_progress
    guess = (now - began) / (fraction - done) if fraction > done else scene.guess
    return dataclasses.replace(
        scene, activity="", fraction=fraction, first_progress=first_progress, guess=guess
    )


def _after_epoch(scene: Scene, event: EpochEnded, now: float) -> Scene:
    last = scene.phase is not None and scene.epoch + 1 >= scene.phase.epochs
    return dataclasses.replace(
        scene,
        epoch=scene.epoch + 1,
        fraction=0.0,
        first_progress=None,
        epoch_began=now,
        durations=(*scene.durations, now - scene.epoch_began)[-_RECENT:],
        curves=_followed(scene.curves, event),
        activity="checking" if last else "",
    )


def _after_phase(scene: Scene, phase: Phase) -> Scene:
    last = len(scene.run.attempts[-1].phases) > len(scene.config.phases)
    activity = "ending the attempt" if phase.failure() else "saving the model" if last else ""
    scene = dataclasses.replace(scene, phase=None, activity=activity)
    check = phase.find(DeadNeuronsCheck)
    if check is None or not check.measured.layers:
        return scene
    exact = check.measured.exact is not False
    return dataclasses.replace(
        scene,
        layers=tuple(
            LayerShare(layer=layer.layer, units=layer.units, dead=layer.counted_dead())
            for layer in check.measured.layers
        ),
        looked_at=f"{'all training rows' if exact else 'a sample of the rows'}, "
        f"after {phase.phase}",
        upper_bounds=not exact,
    )
