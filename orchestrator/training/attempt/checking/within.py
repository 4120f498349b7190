"""What is looked at within an epoch, which may last for hours.

The looks come after fixed numbers of steps, and hang on nothing else: an attempt that goes on in
another process ends at the same step.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from orchestrator.data.streams.pipeline import Feed
from orchestrator.diagnosis.watch.signals import SignalLog
from orchestrator.record.checks import Break
from orchestrator.training.attempt import snapshots
from orchestrator.training.attempt.building.build import Built

RUN = 64
"""Steps between two looks: a pass over the weights, where a step makes several, and each for many
rows."""
_KEPT = 4 * RUN
"""Steps between two states of a long epoch that are kept to find the one that breaks."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """A run of steps that has just ended, within an epoch."""

    epoch: int
    """Number of the epoch, counted from 1 over all phases."""
    first: int
    """Its first step, counted from 1."""
    last: int
    """Its last step."""


class LookWithin(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends an epoch, and the phase with it, soon after something has broken.

    Args:
        weights: knows whether a weight has turned NaN or infinite; None leaves that out.
        is_dead: tells whether a layer has died in a run; None leaves that out.
        tell: is told where weights broke, once.
        done: steps of the first epoch that were trained before.
        size: steps of one execution of Keras's.
    """

    def __init__(
        self,
        weights: Weights | None,
        is_dead: Callable[[Run], bool] | None,
        tell: Callable[[Break], None],
        *,
        done: int = 0,
        size: int = 1,
    ) -> None:
        super().__init__()
        self._weights = weights
        self._is_dead = is_dead
        self._tell = tell
        self._done = done
        self._step = done
        # The look before that came with the first execution which had ended a run.
        self._looked = math.ceil(done // RUN * RUN / size) * size
        self._epoch = 0

    def all_finite(self) -> bool:
        """Whether all weights are finite now, as far as that is looked at."""
        return self._weights is None or self._weights.all_finite()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note where the training is."""
        self._epoch = epoch + 1
        if self._weights is not None:
            self._weights.keep(self._epoch, self._done)

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Look where a run has ended; one execution of Keras's may have many steps."""
        self._step = self._done + batch + 1
        if self._step // RUN == self._looked // RUN:
            return
        run = Run(epoch=self._epoch, first=self._looked + 1, last=self._step)
        if self._broke(run) or (self._is_dead is not None and self._is_dead(run)):
            self.model.stop_training = True
        elif self._weights is not None and self._step // _KEPT != self._looked // _KEPT:
            self._weights.keep(self._epoch, self._step)
        self._looked = self._step

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Look at the last steps, and count them from the beginning again."""
        if self._looked < self._step:
            self._broke(Run(epoch=self._epoch, first=self._looked + 1, last=self._step))
        self._done = self._looked = self._step = 0

    def _broke(self, run: Run) -> bool:
        broken = None if self._weights is None else self._weights.broke(run)
        if broken is not None:
            self._tell(broken)
        return broken is not None


class Weights:
    """Finds the step in which a weight has turned NaN or infinite, and its rows.

    What is looked at are the weights: on a CPU relu makes zeros of NaN, and the loss stays finite.
    Where they have broken, the last steps are trained again one by one, which gives the same bits.

    Args:
        built: what is trained.
    """

    def __init__(self, built: Built) -> None:
        self._built = built
        weights = [each for each in built.model.weights if "float" in str(each.dtype)]

        def are_finite() -> Any:
            values = (keras.ops.convert_to_tensor(each) for each in weights)
            return keras.ops.all([keras.ops.all(keras.ops.isfinite(each)) for each in values])

        look = tf.function(are_finite, autograph=False)  # traced where it is needed first
        self._are_finite = look if weights else lambda: True
        self._kept: tuple[int, int, list[Any], list[Any]] | None = None

    def all_finite(self) -> bool:
        """Whether all are now."""
        return bool(self._are_finite())

    def keep(self, epoch: int, step: int) -> None:
        """Keep what the training is to be repeated from.

        Args:
            epoch: number of the epoch, counted from 1.
            step: steps of it that were trained.
        """
        self._kept = None
        if not isinstance(self._built.pipeline, Feed):  # whose batches do not come again
            return
        variables = snapshots.variables(self._built)
        size = sum(math.prod(each.shape) * 4 for each in variables)
        if size <= snapshots.room():
            self._kept = epoch, step, variables, snapshots.values(variables)

    def broke(self, run: Run) -> Break | None:
        """Where a weight has broken in the steps of a run; None where all are finite.

        The model is then left as the step that has broken it.
        """
        if self.all_finite():
            return None
        feed = self._built.pipeline
        first, last = self._retrace(run.last) or (0, 0)
        if not first:
            return Break(epoch=run.epoch, first=run.first, last=run.last)
        steps = range(first - 1, last)
        rows = (row for step in steps for row in feed.rows_of(run.epoch - 1, step))
        return Break(epoch=run.epoch, first=first, last=last, rows=tuple(rows))

    def _retrace(self, last: int) -> tuple[int, int] | None:
        """The first and last step of the execution that has broken a weight, counted from 1."""
        if self._kept is None:
            return None
        epoch, begun, variables, values = self._kept
        model, present = self._built.model, snapshots.variables(self._built)
        step = model.train_function
        # A `fit` or a step of the user's own may do without the one, and make more of the other.
        if step is None or [*map(id, present)] != [*map(id, variables)]:
            return None
        broken = snapshots.values(variables)
        _assign(variables, values)
        batches = iter(self._built.pipeline.batches(epoch - 1, 1, step=begun))
        size = model.steps_per_execution
        for done in range(begun, last, size):
            step(batches)
            if not self.all_finite():
                return done + 1, min(done + size, last)
        # What a callback of the user's has done to the weights no step repeats.
        _assign(variables, broken)
        return None


def _assign(variables: Sequence[Any], values: Sequence[Any]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def layer_died(
    signals: SignalLog, why_lost: Callable[[], str | None], tell: Callable[[str], None], steps: int
) -> Callable[[Run], bool]:
    """What looks exactly where nothing has come back to a layer in a run of steps.

    Only what the exact look finds ends anything: layers of a GAN or of a mixture of experts rest.

    Args:
        signals: knows what has come back.
        why_lost: looks, and says why training on is in vain, in one clause, or None.
        tell: is told what ends the epoch.
        steps: steps of an epoch; the look at its end is soon enough for the last ones.
    """

    def look(run: Run) -> bool:
        silent = signals.end_run()
        if not silent or not signals.may_look or steps - run.last < RUN:
            return False
        reason = why_lost()
        if reason is None:
            signals.looked_in_vain()
            return False
        named = " and ".join(silent[:3]) + (f" and {len(silent) - 3} more" * (len(silent) > 3))
        tell(
            f"nothing has come back to {named} in steps {run.first} to {run.last} of epoch "
            f"{run.epoch}, which ends there: {reason}"
        )
        return True

    return look
