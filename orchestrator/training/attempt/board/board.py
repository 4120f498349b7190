"""Writes for TensorBoard what happens in an attempt: units, checks and settings.

Losses, rates and histograms of the weights come from Keras's own callback, which writes into two
folders below the one that is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams import summary as plugin

from orchestrator.data.rows import Readable
from orchestrator.diagnosis.tracing.activity import Look
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.model.layers import undrawn
from orchestrator.record.checks import DeadNeuronsCheck, PredictionVarianceCheck
from orchestrator.record.records import Phase, Settings
from orchestrator.record.storage.directory import AS_CONFIGURED, Place
from orchestrator.training.attempt.board.files import CHECKS, VERDICTS, forget

_ROWS = 4096
"""So many rows are looked at after every epoch; the checks after a phase look at all."""

Signals = Callable[[], Mapping[str, Mapping[str, float]]]
"""Gives values of the last epoch's gradients for every layer, by what they are called."""


class Board(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes the event files of an attempt.

    Args:
        folder: gets them.
        number: the attempt's.
        remedy: the change from the attempt before it; None for the first.
        settings: what differs between attempts.
        rows: the training rows.
        probe: knows whether rows can be run through the model.
        model: the network.
        signals: gives what was seen of the gradients.
    """

    def __init__(
        self,
        folder: Path,
        *,
        number: int,
        remedy: str | None,
        settings: Settings,
        rows: Readable,
        probe: Probe,
        model: keras.Model,
        signals: Signals = dict,
    ) -> None:
        super().__init__()
        self._folder = folder
        self._name = f"{number:03d}-{remedy or AS_CONFIGURED}"
        self._columns = _columns(settings, remedy)
        self._rows = rows
        self._look = Look(model) if probe.can_measure else None
        self._signals = signals
        self._last = 0
        self._writer: Any = None

    def begin(self, place: Place, trained: int) -> None:
        """Begin, or go on from a place, whose attempt may have written more.

        Args:
            place: where the training begins.
            trained: epochs of the phases that are finished there.
        """
        forget(self._folder, place, trained)
        self._last = max(place.epoch - 1, 0)
        self._writer = tf.summary.create_file_writer(str(self._folder))
        with self._writer.as_default(step=0):
            hparams.hparams_config(
                hparams=[hparams.HParam(column) for column in _COLUMNS],
                metrics=[hparams.Metric(tag, group=group) for tag, group in _METRICS],
            )
            hparams.hparams(self._columns, trial_id=self._name)
        self._writer.flush()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Write what the units do."""
        self._last = epoch
        with self._writer.as_default(step=epoch):
            for tag, value in self._values():
                tf.summary.scalar(tag, value)
        self._writer.flush()

    def _values(self) -> Iterator[tuple[str, float]]:
        with undrawn(self.model):
            seen = {} if self._look is None else self._look.measure(self._rows, _ROWS)
        for name, activity in seen.items():
            yield f"dead_share/{name}", activity.dead_fraction
            if activity.lowest is not None and activity.highest is not None:
                yield f"pre_activation_lowest/{name}", activity.lowest
                yield f"pre_activation_highest/{name}", activity.highest
        for name, signals in self._signals().items():
            for what, value in signals.items():
                yield f"{what}/{name}", value

    def end_phase(self, index: int, phase: Phase, *, passed: bool) -> None:
        """Write what the checks after a phase found.

        Args:
            index: number of the phase, 0 for phase 0.
            phase: the phase.
            passed: whether the attempt has ended with it, and passed.
        """
        failed = phase.failure() is not None
        with self._writer.as_default(step=self._last):
            tf.summary.text(f"{VERDICTS}{index:02d}-{phase.phase}", _table(phase))
            if phase.epochs:
                for tag, value in _worth(phase):
                    tf.summary.scalar(f"{CHECKS}{tag}", value)
            if passed or failed:
                status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
                ended = plugin.session_end_pb(status).SerializeToString()
                tf.summary.experimental.write_raw_pb(ended)
        self._writer.flush()


_COLUMNS = ("change", "learning_rate_cap", "remedy", "seed")
"""Few enough for TensorBoard to show all of them from the start."""
_METRICS = (
    ("epoch_loss", "train"),
    ("epoch_loss", "validation"),
    (f"{CHECKS}dead_share", ""),
    (f"{CHECKS}skill", ""),
)
"""What attempts are compared by: the tag, and the folder below the attempt's."""


def _columns(settings: Settings, remedy: str | None) -> dict[str, float | str]:
    """What differs between attempts; a number that is not set leaves its place empty."""
    changes = [
        words.format(value)
        for name, (words, _) in Settings.WORDS.items()
        if name != "seed" and (value := getattr(settings, name)) is not None
    ]
    cap = settings.learning_rate_cap
    return {
        "change": ", ".join(changes) or "as configured",
        **({} if cap is None else {"learning_rate_cap": cap}),
        "remedy": remedy or AS_CONFIGURED,
        "seed": str(settings.seed),  # of which TensorBoard would show five digits
    }


def _table(phase: Phase) -> str:
    """The verdicts, in Markdown."""
    lines = ["| check | verdict | why |", "|---|---|---|"]
    for check in phase.checks:
        reason = check.reason.replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {check.check} | **{check.verdict}** | {reason} |")
    return "\n".join(lines)


def _worth(phase: Phase) -> Iterator[tuple[str, float]]:
    """What the checks measured, the worst layer and the worst output of each."""
    dead = phase.find(DeadNeuronsCheck)
    if dead is not None and dead.measured.dead_fraction is not None:
        yield "dead_share", dead.measured.dead_fraction
    varies = phase.find(PredictionVarianceCheck)
    outputs = () if varies is None else varies.measured.outputs
    if skills := [each.skill for each in outputs if each.skill is not None]:
        yield "skill", min(skills)
