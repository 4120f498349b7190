"""Activations that no function of Keras has reported, by the operations that they consist of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf

from orchestrator.diagnosis.tracing.calls import activations
from orchestrator.diagnosis.tracing.calls.activations import Activation
from orchestrator.diagnosis.tracing.calls.call import Call, Stack
from orchestrator.diagnosis.tracing.calls.listener import COMPOSITES, smooth

_GATE_SHIFT = 3.0
"""relu6(x + 3) / 6 is the hard sigmoid of MobileNetV3 and its kin."""


def applied(
    calls: Sequence[Call],
    operations: Sequence[tuple[tf.Operation, Stack, Any]],
    graph: tf.Graph,
) -> list[Call]:
    """All applications of activations in a graph, in the order in which they were made.

    Args:
        calls: those that were reported, in any graph.
        operations: what no reported call has claimed, in any graph.
        graph: where to look.
    """
    found = [call for call in calls if call.counted.graph is graph]
    found += _bare([each for each in operations if each[0].graph is graph])
    order = {operation: index for index, operation in enumerate(graph.get_operations())}
    found.sort(key=lambda call: order[call.counted.op])
    for call in found:
        _recognize_gate(call)
    return found


def _bare(operations: Sequence[tuple[tf.Operation, Stack, Any]]) -> Iterator[Call]:
    """Activations that were not reported, such as `tf.nn.relu` in a `call` of the user's own."""
    for operation, stack, repeated in operations:
        if operation.type in ("Erf", "Erfc"):
            found = _gelu(operation)
        elif operation.type == "Sigmoid":
            found = _silu(operation)
        else:
            found = None
        if found is not None:
            yield Call(*found, stack, repeated)
        elif operation.type in activations.BARE:
            before, after = operation.inputs[0], operation.outputs[0]
            yield Call(activations.bare(operation), before, after, stack, repeated)


_Found = tuple[Activation, tf.Tensor, tf.Tensor]


def _silu(sigmoid: tf.Operation) -> _Found | None:
    """The silu that a sigmoid is part of: x · sigmoid(x), or x · sigmoid(1 · x)."""
    inner = sigmoid.inputs[0]
    factors = [inner, *(inner.op.inputs if inner.op.type == "Mul" else ())]
    product = _product(sigmoid.outputs[0], factors)
    if product is None:
        return None
    return (smooth(*COMPOSITES["silu"])(), *product)


def _gelu(erf: tf.Operation) -> _Found | None:
    """The gelu that an error function is part of: x / 2 · (1 + erf(x / √2)).

    TensorFlow's own is x / 2 · erfc(-x / √2).
    """
    scaled = erf.inputs[0]
    sources = [scaled]
    while sources[-1].op.type in ("Mul", "RealDiv", "Neg"):
        variable = [each for each in sources[-1].op.inputs if each.op.type not in ("Const", "Cast")]
        if len(variable) != 1:
            break
        sources.append(variable[0])
    sums = [each.outputs[0] for each in erf.outputs[0].consumers() if each.type == "AddV2"]
    sums += [
        half.outputs[0] for total in sums for half in total.consumers()
        if half.type == "Mul" and any(each.op.type == "Const" for each in half.inputs)
    ]  # fmt: skip
    for before in sources:
        halves = [before, *(each.outputs[0] for each in before.consumers() if each.type == "Mul")]
        for factor in (erf.outputs[0], *sums):
            product = _product(factor, halves)
            if product is not None:
                return (smooth(*COMPOSITES["gelu"])(), before, product[1])
    return None


def _product(one: tf.Tensor, factors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor] | None:
    """The first of the factors that a tensor is multiplied with, and the product."""
    for product in one.consumers():
        if product.type == "Mul":
            for factor in factors:
                if any(each is factor for each in product.inputs):
                    return factor, product.outputs[0]
    return None


def _recognize_gate(call: Call) -> None:
    """A relu6 of x + 3, as people write a hard sigmoid out, is that."""
    if call.activation.name != "relu6" or call.before.op.type not in ("AddV2", "Add"):
        return
    for tensor in call.before.op.inputs:
        value = tf.get_static_value(tensor)
        if value is not None and value.size == 1 and float(value.reshape(())) == _GATE_SHIFT:
            call.activation = activations.hard_sigmoid_gate()
