"""What an activation site is called, and on which axis its units are: by the layers around it."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from orchestrator.diagnosis.tracing.calls.call import Call, Stack
from orchestrator.model.keras_internals import own_variables


def is_channels_first(call: Call, model: keras.Model, stacks: Mapping[tf.Operation, Stack]) -> bool:
    """Whether a call's units are on axis 1, by the layer itself or by what its values come from.

    Args:
        call: the application of the activation.
        model: the model that was called.
        stacks: the layers around each operation of the graph.
    """
    if (call.after.shape.rank or 0) < 3:
        return False
    pending, seen = deque([call.after.op]), set()
    while pending:
        operation = pending.popleft()
        if operation in seen:
            continue
        seen.add(operation)
        for layer in _owners(stacks.get(operation, call.stack), model)[-1:]:
            known = getattr(layer, "data_format", None)
            if known is not None:
                return bool(known == "channels_first")
            if isinstance(layer, _WITH_AXIS):
                return bool(layer.axis == 1)
            if own_variables(layer):
                return False
        if operation.type in ("Reshape", "Transpose"):  # an axis is another one before it
            return False
        pending.extend(tensor.op for tensor in operation.inputs if tensor.dtype.is_floating)
    return False


_WITH_AXIS = (keras.layers.BatchNormalization, keras.layers.GroupNormalization)
"""Layers whose axis is that of the channels."""


def path(stack: Stack, model: keras.Model) -> str:
    """Readable path of the innermost layer in the model, such as `encoder/dense`.

    Args:
        stack: the layers and operations that were being called, outermost first.
        model: the model that was called.
    """
    return "/".join(each.name for each in _owners(stack, model)) or model.name


def _owners(stack: Stack, model: keras.Model) -> list[Any]:
    """The layers around a site, without the model itself and the layers that belong to a layer."""
    inner = list(stack[1:] if stack and stack[0] is model else stack)
    # A Dense's own activation layer and an LSTM's own cell are part of it, not layers inside it.
    while len(inner) > 1 and _is_part(inner[-1], inner[-2]):
        inner.pop()
    return inner


def _is_part(layer: Any, owner: Any) -> bool:
    own_cell = isinstance(owner, keras.layers.LSTM | keras.layers.GRU | keras.layers.SimpleRNN)
    if vars(owner).get("activation") is layer:
        return True
    return own_cell and owner.cell is layer
