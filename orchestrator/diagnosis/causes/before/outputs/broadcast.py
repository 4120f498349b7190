"""Losses and metrics of the user's own in which (n,) meets (n, 1), and silently makes (n, n)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model.keras_internals import compile_arguments, is_of_keras, loss_function
from orchestrator.model.outputs import Output
from orchestrator.record.records import Finding

_ROWS = 16
"""Rows on which a function is tried; not of a size that anything else has."""
_SAME = 1e-5
"""Relative difference up to which two figures in float32 are the same."""

_Array = npt.NDArray[Any]
_Function = Callable[[_Array, _Array], Any]


def find_broadcast_shapes(subject: Subject) -> Iterator[Finding]:
    """Losses and metrics that compare every target with every prediction.

    Then it makes no difference which target belongs to which row. A function that does not look at
    the targets does not care either, and one that compares rows on purpose does; so what counts is
    that the order matters as soon as targets and predictions have the same shape.
    """
    for index, output in enumerate(subject.outputs):
        _, y, _ = subject.few
        targets = output.compared_targets(y)
        if targets is None or not output.trained or index >= len(subject.predictions):
            continue
        rows = _rows(output, targets, subject.predictions[index])
        if rows is None:
            continue
        if output.loss is not None and not output.loss.is_keras:
            function = output.loss.function
            if _crosses(_as_is(function), _inner(function), *rows):
                yield _in_loss(subject, output, *rows)
        for metric in _own_metrics(subject):
            if _crosses(_metric(metric), _plain_metric(metric), *rows):
                yield _in_metric(subject, output, metric, *rows)


def _rows(output: Output, targets: _Array, predicted: _Array) -> tuple[_Array, _Array] | None:
    """Targets and predictions of a few rows, which differ from row to row; one number each."""
    if targets.size != len(targets) or predicted.size != len(predicted) or len(targets) < _ROWS:
        return None
    y = np.asarray(targets, np.float32)
    order = np.argsort(y.reshape(-1), kind="stable")
    y = y[order[np.linspace(0, len(y) - 1, _ROWS).astype(int)]]  # from the lowest to the highest
    if not np.ptp(y):
        return None
    within = predicted.min() >= 0 and predicted.max() <= 1
    draw = np.random.default_rng(0)
    p = draw.uniform(0.1, 0.9, _ROWS) if within else y.mean() + y.std() * draw.normal(size=_ROWS)
    return y, p.astype(np.float32).reshape(_ROWS, *predicted.shape[1:])


def _crosses(given: _Function, inner: _Function, y: _Array, p: _Array) -> bool:
    """Whether the targets' order matters only where their shape is the predictions'.

    Args:
        given: the function as Keras calls it.
        inner: the same without what Keras does to shapes before.
        y: targets, shape (rows,) or (rows, 1).
        p: predictions, shape (rows,) or (rows, 1).
    """
    if not _is_blind(given, y, p):
        return False
    flat, tall = (_ROWS,), (_ROWS, 1)
    return any(
        _is_blind(inner, y.reshape(of_y), p.reshape(of_p)) is False
        for of_y, of_p in ((tall, tall), (flat, flat), (flat, tall), (tall, flat))
    )


def _is_blind(function: _Function, y: _Array, p: _Array) -> bool | None:
    """Whether it makes no difference which target belongs to which row; None where it fails."""
    try:
        values = [
            float(keras.ops.mean(function(np.roll(y, shift, axis=0), p))) for shift in (0, 3, 7)
        ]
    except Exception:  # noqa: BLE001 - a function that does not take a shape says nothing
        return None
    if not np.isfinite(values).all():
        return None
    return bool(np.ptp(values) <= _SAME * max(np.abs(values).max(), 1e-12))


def _as_is(loss: keras.Loss) -> _Function:
    """A loss as Keras calls it, before it is reduced to one number."""
    tensor = keras.ops.convert_to_tensor
    return lambda y, p: loss(tensor(y), tensor(p))


def _inner(loss: keras.Loss) -> _Function:
    """What the user has written of it."""
    tensor = keras.ops.convert_to_tensor
    function = loss_function(loss) or loss.call
    return lambda y, p: function(tensor(y), tensor(p))


def _own_metrics(subject: Subject) -> list[Any]:
    """The metrics that are not Keras's: functions and objects."""
    model = subject.model
    if subject.trained_elsewhere or not model.compiled or len(subject.outputs) > 1:
        return []
    arguments = compile_arguments(model)
    given = [arguments.get("metrics"), arguments.get("weighted_metrics")]
    return [
        metric for metric in keras.tree.flatten(given) if callable(metric) and not _is_keras(metric)
    ]


def _is_keras(metric: Any) -> bool:
    function = loss_function(metric) if is_of_keras(metric) else metric
    module = getattr(function, "__module__", None) or type(function).__module__
    return is_of_keras(metric) and function is None or module.startswith("keras.")


def _metric(metric: Any) -> _Function:
    """A metric as Keras calls it."""
    tensor = keras.ops.convert_to_tensor
    made = metric if isinstance(metric, keras.Metric) else keras.metrics.MeanMetricWrapper(metric)

    def value(y: _Array, p: _Array) -> Any:
        made.reset_state()
        made.update_state(tensor(y), tensor(p))
        found = keras.ops.convert_to_numpy(made.result())  # a state itself may be what it returns
        made.reset_state()
        return found

    return value


def _plain_metric(metric: Any) -> _Function:
    """What the user has written of it."""
    if isinstance(metric, keras.Metric) and loss_function(metric) is None:
        return _metric(metric)
    function = loss_function(metric) or metric
    tensor = keras.ops.convert_to_tensor
    return lambda y, p: function(tensor(y), tensor(p))


def _shapes(y: _Array, p: _Array) -> str:
    """What meets, and what to write instead."""
    one, other = ("(n,)" if each.ndim == 1 else "(n, 1)" for each in (y, p))
    return f"targets of shape {one} and predictions of shape {other} come in"


def _in_loss(subject: Subject, output: Output, y: _Array, p: _Array) -> Finding:
    return subject.found(
        "broadcast_shapes",
        f"the loss {output.loss.name if output.loss else ''} of {output.named} compares every "
        f"target with every prediction: {_shapes(y, p)}, and inside (n,) meets (n, 1), which makes "
        "(n, n), so that no training can tell which target belongs to which row",
        _ADVICE,
        certain=True,
        key=subject.compiled("loss"),
    )


def _in_metric(subject: Subject, output: Output, metric: Any, y: _Array, p: _Array) -> Finding:
    name = getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__)
    return subject.found(
        "broadcast_shapes",
        f"the metric {name} of {output.named} compares every target with every prediction: "
        f"{_shapes(y, p)}, and inside (n,) meets (n, 1), which makes (n, n)",
        _ADVICE,
        key=subject.compiled("metrics"),
    )


_ADVICE = (
    "begin it with y_true = keras.ops.reshape(y_true, keras.ops.shape(y_pred)), and leave no axis "
    "out of one of them alone"
)
