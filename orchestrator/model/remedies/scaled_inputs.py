"""The remedy standardize, of inputs: where the standardisation may stand in front of a model.

Each input is asked for itself, for beside numbers a model may look indices up.
"""

from __future__ import annotations

from collections.abc import Mapping

import keras

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.data.rows import AnyRows, Tree, is_text, leaves, name_of
from orchestrator.model import keras_internals, layers
from orchestrator.model.keras_internals import dtype, makes_integers
from orchestrator.model.pretrained import keeps_weights, trained_layer

_TAKES_AS_GIVEN = (
    keras.layers.CategoryEncoding,
    keras.layers.Discretization,
    keras.layers.Embedding,
    keras.layers.HashedCrossing,
    keras.layers.Hashing,
    keras.layers.IntegerLookup,
    keras.layers.Masking,
    keras.layers.Normalization,
    keras.layers.Rescaling,
    keras.layers.StringLookup,
    keras.layers.TextVectorization,
)
"""Layers to which some value of an input is a name, a mark, or a number of a scale of its own."""

_BEHIND = "put a Rescaling or Normalization layer behind the other inputs"


def obstacle(model: keras.Model, config: Config, rows: AnyRows) -> str | None:
    """Why no input may be standardised in front of the model, with the way out.

    Args:
        model: the model as built, which has not been trained.
        config: the config.
        rows: training rows.

    Returns:
        One clause, or None where one of them may.
    """
    if config.data.standardize != "auto":
        return f"data.standardize is {str(config.data.standardize).lower()} in the config"
    if not layers.is_callable(model):
        return "the model has no call of its own, in front of which the scaling could stand"
    if isinstance(config.model, FileModel) and keeps_weights(config):
        return (
            f"the weights of {config.model.file} were trained on inputs of another scale: scale "
            "the rows as they were then"
        )
    trained = trained_layer(model, config)
    if trained is not None:
        return (
            f"layer {trained.name} was trained on inputs of a scale of its own: scale the rows as "
            "they were then"
        )
    found = left_out(model, rows)
    return None if None in found.values() else next(filter(None, found.values()), None)


def left_out(model: keras.Model, rows: AnyRows) -> dict[str, str | None]:
    """Why an input is not standardised in front of the model, by its path.

    Args:
        model: the model as built.
        rows: training rows.

    Returns:
        One clause with the way out, None for an input that is.
    """
    x, _, _ = rows.first(1)
    if not layers.is_plain(model):
        ends = layers.last_layers(model, rows.first(2)[0])
        inside = [each for each in keras_internals.all_layers(model) if each not in ends]
        taking = next((each for each in inside if isinstance(each, _TAKES_AS_GIVEN)), None)
        reason = None if taking is None else _takes(taking)
        return {path: _no_number(x, path) or reason for path, _ in leaves(x)}
    return {
        path: _no_number(x, path) or _taken(tensor) for path, tensor in _by_path(model, x).items()
    }


def _no_number(x: Tree, path: str) -> str | None:
    arrays = dict(leaves(x))
    if is_text(arrays[path]):
        return "the inputs are texts, which have no mean"
    if len(arrays) > 1 and arrays[path].dtype.kind != "f":
        return f"{name_of('x', path)} holds whole numbers, which are indices as a rule: {_BEHIND}"
    return None


def _by_path(model: keras.Model, x: Tree) -> dict[str, keras.KerasTensor]:
    """The input of a sequential or functional model that takes each array of the rows."""
    inputs, _ = keras_internals.structure(model)
    tensors = keras.tree.flatten(inputs)
    paths = [path for path, _ in leaves(x)]
    named = dict(leaves(inputs))
    if isinstance(x, Mapping) and not isinstance(inputs, Mapping):
        named = {each.name: each for each in tensors}
    if named.keys() >= {*paths}:
        return {path: named[path] for path in paths}
    return dict(zip(paths, tensors, strict=False))


def _taken(tensor: keras.KerasTensor) -> str | None:
    """Why the values of an input have to stay as they are given."""
    if dtype(tensor.dtype).kind in "iu":
        return f"an input of the model holds integers, which have no fractions: {_BEHIND}"
    taking = _taking(tensor)
    if taking is None:
        return None
    if makes_integers(taking):
        return f"{taking.name} makes indices of what it is given as it is: {_BEHIND}"
    return _takes(taking)


def _takes(layer: keras.Operation) -> str:
    kind = type(layer).__name__
    return f"layer {layer.name} ({kind}) takes what it is given as it is: {_BEHIND}"


def _taking(tensor: keras.KerasTensor) -> keras.Operation | None:
    """What takes the values of an input as they are, in front of any weights.

    Behind weights no value is a name any more, and what scales them is no scale of the input's.
    """
    pending, seen = [tensor], set[int]()
    leaving: dict[int, list[keras.KerasTensor]] = {}  # an inner model's outputs, by where they go
    while pending:
        tensor = pending.pop()
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        pending += leaving.get(id(tensor), [])
        for layer, given, made in keras_internals.uses(tensor):
            if layers.is_plain(layer):
                for inner, outer in zip(keras.tree.flatten(layer.outputs), made, strict=True):
                    leaving.setdefault(id(inner), []).append(outer)
                inputs = keras.tree.flatten(layer.inputs)
                pairs = zip(inputs, given, strict=False)
                pending += [inner for inner, outer in pairs if outer is tensor]
            elif makes_integers(layer) or _takes_as_given(layer):
                return layer
            elif not getattr(layer, "weights", ()):
                pending += made
    return None


def _takes_as_given(layer: keras.Operation) -> bool:
    return any(isinstance(each, _TAKES_AS_GIVEN) for each in layers.parts(layer))
