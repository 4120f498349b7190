"""What causes are looked for in: a model, its rows, and the training that is planned."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import LayersModel
from orchestrator.config.yaml12 import Key
from orchestrator.data.rows import Batch, Readable, Rows, Scalings, leaves, num_rows, select
from orchestrator.diagnosis.causes.before.trial import Trial, try_step
from orchestrator.diagnosis.units import NO_FLOW, Flow, Layer
from orchestrator.model import keras_internals, pretrained
from orchestrator.model import layers as model_layers
from orchestrator.model.losses.returned import Origin
from orchestrator.model.outputs import Output
from orchestrator.record.records import Cause, Finding, Fix

SAMPLE_ROWS = 2000
"""Rows that are enough for a look at inputs and targets."""
_SAMPLE_NUMBERS = 2_000_000
"""Numbers of inputs that are looked at, at most."""
_RUN_ROWS = 256
"""Rows that are run through the model once more."""
_RUN_NUMBERS = 1_000_000
"""Numbers of inputs that are run through it, at most: a few images of a large network."""
_STEP_ROWS = 64
"""Rows that a step is tried with, without being taken."""
_STEP_NUMBERS = 300_000
"""Numbers of inputs that it is tried with, at most."""
_RUN_PRODUCTS = 200_000_000
"""Rows times weights, at most: of networks of millions a forward pass takes long."""
_LEAST_RUN = 8
"""Rows that are run through a model however large it is."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and its rows, before a training step.

    Every finder of this folder is a function of it; nothing here trains, and what is measured is
    measured once.
    """

    model: keras.Model
    """Built, and compiled where it is to be trained."""
    outputs: Sequence[Output]
    """Its outputs, with what trains each."""
    rows: Readable
    """The training rows as the model takes them, standardised where the config says so."""
    scalings: Scalings = dataclasses.field(default_factory=dict)
    """What has standardised the inputs, by the path of each."""
    layers: Sequence[Layer] = ()
    """What was counted at each activation site over all rows; empty where nothing was."""
    flow: Flow = NO_FLOW
    """Which of them feed which, and which make the outputs."""
    config: Config | None = None
    """The config; None for a model that comes from elsewhere, as in `check` and `diagnose`, which
    may be trained already and of whose training nothing is known."""
    learning_rate_cap: float | None = None
    """Every learning rate is min(rate, cap); None leaves the rates alone."""
    learning_rate_factor: float | None = None
    """Every learning rate is multiplied by it before; None leaves the rates alone."""
    schedule_stretch: float | None = None
    """Schedules take so many times as many steps; None leaves them as they are."""
    steps_per_epoch: int | None = None
    """Training steps of an epoch; None where there is no training."""

    @functools.cached_property
    def sample(self) -> Batch:
        """Inputs, targets and weights of at most 2,000 rows, spread evenly over all of them."""
        return self._spread(SAMPLE_ROWS, _SAMPLE_NUMBERS)

    @functools.cached_property
    def few(self) -> Batch:
        """The rows of the sample that may be run through the model once more, at most 256."""
        return _fewer(self.sample, min(_RUN_ROWS, self._most_rows), _RUN_NUMBERS)

    @property
    def many(self) -> Batch:
        """The rows of the sample that may be run through the model together, in a rare case."""
        return _fewer(self.sample, self._most_rows, _SAMPLE_NUMBERS)

    @property
    def _most_rows(self) -> int:
        weights = max(model_layers.count_parameters(self.model), 1)
        return max(_RUN_PRODUCTS // weights, _LEAST_RUN)

    @functools.cached_property
    def trial(self) -> Trial | None:
        """What a training step would be on at most 64 rows, without taking it.

        Where a loss leaves rows out they are of those that count. None where nothing is to be
        trained, and for a model with a `train_step` of its own.
        """
        own_step = type(self.model).train_step is not keras.Model.train_step
        if self.trained_elsewhere or own_step or not model_layers.is_callable(self.model):
            return None
        batch = _fewer(self.few, _STEP_ROWS, _STEP_NUMBERS)
        counting = None if self.whole is None else self._counting(self.whole.y, self.whole.weight)
        if self.whole is not None and counting is not None and counting.any():
            found = np.flatnonzero(counting)
            wanted = min(num_rows(batch[0]), len(found))
            batch = self.whole.batch(found[_evenly(len(found), wanted)])
        return try_step(self.model, batch)

    @functools.cached_property
    def whole(self) -> Rows | None:
        """All rows, where they are at hand."""
        return self.rows if isinstance(self.rows, Rows) else None

    def is_counting(self, batch: Batch) -> bool:
        """Whether any row of a batch counts, by its weight and by the labels of Keras's losses."""
        counting = self._counting(*batch[1:])
        return counting is None or bool(counting.any())

    def _counting(self, y: Any, weight: Any) -> npt.NDArray[np.bool_] | None:
        """Whether each row counts, shape (rows,); None where all do."""
        found = None if weight is None else _in_each_row(np.asarray(weight) > 0)
        labels = [
            _in_each_row(targets != output.ignored)
            for output in self.outputs
            if output.trained and output.ignored is not None
            for targets in [_own_targets(output, y)]
            if len(targets)
        ]
        if labels and len(labels) == sum(output.trained for output in self.outputs):
            labelled = np.any(labels, axis=0)
            found = labelled if found is None else found & labelled
        return None if found is None or found.all() else found

    @functools.cached_property
    def predictions(self) -> tuple[npt.NDArray[Any], ...]:
        """What the model predicts for `few` in inference, one array for each output."""
        predicted, _ = self._inferred
        return predicted

    @functools.cached_property
    def _inferred(self) -> tuple[tuple[npt.NDArray[Any], ...], tuple[npt.NDArray[Any] | None, ...]]:
        """The predictions for `few`, and Keras's mask of each."""
        if not model_layers.is_callable(self.model):
            return (), ()
        x, _, _ = self.few
        predicted, masks = model_layers.infer(self.model, x, _with_masks)
        return (
            tuple(keras.ops.convert_to_numpy(each) for each in predicted),
            tuple(None if each is None else keras.ops.convert_to_numpy(each) for each in masks),
        )

    def targets(self, index: int) -> npt.NDArray[Any]:
        """The targets of an output, by its number, of all rows that count or of a sample of them.

        Returns:
            Shape (rows, …), or (positions, …) where each position has a weight; no rows where it
            has none.
        """
        y, weight = getattr(self.rows, "y", None), getattr(self.rows, "weight", None)
        if y is None:
            _, y, weight = self.sample
        return _weighed(_own_targets(self.outputs[index], y), weight)

    def columns(self, index: int) -> npt.NDArray[Any]:
        """The targets of an output, by its number, of the positions that count in its loss.

        Returns:
            Shape (positions, columns). Those of `few` where Keras masks some, see `is_masked`; no
            positions where the targets do not have the output's columns.
        """
        shape = self.outputs[index].shape
        found, columns = self.targets(index), (shape[-1] or 1) if shape else 1
        if self.is_masked(index):
            _, y, weight = self.few
            found, mask = _own_targets(self.outputs[index], y), self._mask(index)
            if weight is not None and np.ndim(weight) < np.ndim(mask):
                weight = np.reshape(weight, (*np.shape(weight), *[1] * (mask.ndim - weight.ndim)))
            found = _weighed(found, mask if weight is None else mask * weight)
        return found.reshape(-1, columns) if found.size % columns == 0 else np.zeros((0, columns))

    def is_masked(self, index: int) -> bool:
        """Whether Keras's loss of an output leaves out positions, which only the model tells."""
        return self._mask(index) is not None

    def _mask(self, index: int) -> Any:
        """Keras's mask of an output for `few`, shape (rows, …); None where it has none."""
        predicted, masks = self._inferred
        mask = masks[index] if index < len(masks) else None
        fits = mask is not None and mask.shape == predicted[index].shape[: mask.ndim]
        return mask if fits else None

    def varies(self, index: int) -> bool:
        """Whether an output's targets vary, or are not known: only then is a constant at fault."""
        found = self.targets(index)
        return not len(found) or bool(np.any(found != found[:1]))

    def origin(self, index: int) -> Origin:
        """How an output is made, by its number; an empty one where that was not seen."""
        if index >= len(self.flow.made_by):
            return Origin()
        return Origin(end=self.flow.made_by[index], found=self.flow.logits[index])

    def last_layer(self, index: int, argument: str) -> Key:
        """Where the config describes what makes an output; empty where it does not.

        Args:
            index: number of the output.
            argument: the argument that is at fault.
        """
        chains = model_layers.output_chains(self.model)
        return self.place(chains[index][-1], argument) if index < len(chains) else ()

    def compiled(self, argument: str) -> Key:
        """Where the config says what the model is compiled with; empty where it does not."""
        given = None if self.config is None else self.config.compile
        return () if given is None else ("compile", argument)

    @property
    def starts_trained(self) -> bool:
        """Whether the weights are those of an earlier training, as far as the config can tell."""
        return self.config is None or pretrained.keeps_weights(self.config)

    @property
    def begins_trained(self) -> bool:
        """Whether it goes on from weights that another training has left, by those weights too."""
        return self.config is None or pretrained.begins_trained(self.model, self.config)

    @property
    def trained_elsewhere(self) -> bool:
        """Whether the model is not one that a config is about to train."""
        return self.config is None

    def found(
        self,
        cause: Cause,
        reason: str,
        advice: str,
        *,
        certain: bool = False,
        key: Key = (),
        fix: Fix | None = None,
    ) -> Finding:
        """A finding of this folder's.

        Args:
            cause: its name.
            reason: one clause: what was seen, and why it matters.
            advice: one clause: what to write instead.
            certain: no training could succeed.
            key: where the config says what is at fault; empty where it does not.
            fix: what would do of an output that cannot.
        """
        line = None if self.config is None or not key else self.config.problem(key, "").line
        return Finding(
            cause=cause,
            reason=reason,
            advice=advice,
            certain=certain,
            found="before",
            key=".".join(map(str, key)) if key and self.config is not None else None,
            line=line,
            fix=fix,
        )

    def place(self, layer: keras.Operation, argument: str | None = None) -> Key:
        """Where the config describes a layer; empty where it does not.

        Args:
            layer: a layer of the model, or one inside such a layer.
            argument: the argument that is at fault.
        """
        if self.config is None or not isinstance(self.config.model, LayersModel):
            return ()
        for index, (own, named) in enumerate(
            zip(self.model.layers, self.config.model.layers, strict=False)
        ):
            if any(part is layer for part in model_layers.parts(own)):
                key: Key = ("model", "layers", index, named.name)
                return (*key, argument) if argument in named.arguments else key
        return ()

    def _spread(self, most_rows: int, most_numbers: int) -> Batch:
        """Rows from all over: the first ones are often of one class."""
        first = self.rows.first(2)
        numbers = sum(array.size for _, array in leaves(first[0])) // num_rows(first[0])
        wanted = min(most_rows, max(most_numbers // max(numbers, 1), 2))
        if not isinstance(self.rows, Rows):
            return self.rows.first(wanted)
        return self.rows.batch(_evenly(len(self.rows), min(wanted, len(self.rows))))


def _with_masks(outputs: Any) -> tuple[list[Any], list[Any]]:
    found = [each for _, each in leaves(outputs)]
    return found, [keras_internals.attached_mask(each) for each in found]


def _own_targets(output: Output, y: Any) -> npt.NDArray[Any]:
    targets = output.targets(y) if leaves(y) else None
    return np.zeros(0) if targets is None else np.asarray(targets)


def _in_each_row(values: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Whether any value of each row is true."""
    return np.asarray(values.reshape(len(values), -1).any(axis=1))


def _weighed(targets: npt.NDArray[Any], weight: Any) -> npt.NDArray[Any]:
    """The targets with a weight above 0; all where weights are no rows' or positions' of theirs."""
    if weight is None or np.shape(weight) != targets.shape[: np.ndim(weight)]:
        return targets
    return targets[np.asarray(weight) > 0]


def _fewer(batch: Batch, most_rows: int, most_numbers: int) -> Batch:
    """Some rows of a batch, from all over it."""
    x, _, _ = batch
    count = num_rows(x)
    numbers = sum(array.size for _, array in leaves(x)) // max(count, 1)
    wanted = min(most_rows, max(most_numbers // max(numbers, 1), 2), count)
    return select(batch, _evenly(count, wanted))


def _evenly(count: int, wanted: int) -> npt.NDArray[np.int64]:
    """So many of `count` positions, from the first to the last, at uneven distances.

    Rows that come in turns, such as one of each class, are not met in step.
    """
    if wanted >= count:
        return np.arange(count)
    edges = np.linspace(0, count, wanted + 1).astype(np.int64)
    within = np.random.default_rng(0).random(wanted)
    return edges[:-1] + (within * np.diff(edges)).astype(np.int64)
