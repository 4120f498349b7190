"""Models in files: loaded as a config asks for, and saved so that plain Keras loads them.

What is saved takes raw inputs: the standardisation stands in front of the trained model.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import re
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import optree

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.model import FileModel
from orchestrator.data.rows import AnyRows, Scaling, is_text, leaves
from orchestrator.errors import InvalidError, UserCodeError, describe_error, unwritable
from orchestrator.model import keras_internals, layers

_UNPACKED = 100
"""An archive that has more than so many times its own size unpacked was made to do harm."""
_SMALL = 64_000_000
"""Bytes that do none."""


def deployable(model: keras.Model, scalings: Mapping[str, Scaling], rows: AnyRows) -> keras.Model:
    """The model that takes raw inputs, with the standardisation in front.

    Args:
        model: the trained model.
        scalings: the standardisation of each input that it was trained behind.
        rows: training rows, for the inputs' shapes and types.

    Returns:
        A model that plain `keras.models.load_model` loads; `model` itself without standardisation.
        A model of Keras's own classes is compiled as it was, with its optimizer's state; one of the
        user's own class is inside as it is, compiled, with all that it has beyond Keras's.
    """
    if not scalings:
        return model
    x, _, _ = rows.first(1)
    inputs, fronts = [], []
    for path, array in leaves(x):
        name = path.replace("/", "_")
        kind = "string" if is_text(array) else array.dtype.name
        dtype = "float32" if path in scalings else kind
        inputs.append(keras.Input(shape=array.shape[1:], dtype=dtype, name=name or "raw"))
        fronts.append(_standardized(inputs[-1], name, scalings.get(path)))
    structure = optree.tree_structure(x)
    inner = _uncompiled(model)
    outputs = inner(optree.tree_unflatten(structure, fronts))
    whole = keras.Model(
        optree.tree_unflatten(structure, inputs),
        _named(outputs, model),
        name=f"standardized_{model.name}",
    )
    if inner is not model:
        # The very optimizer, whose state belongs to the same weights: training can go on.
        arguments = keras_internals.compile_arguments(model)
        whole.compile(**{**arguments, "optimizer": model.optimizer})
    return whole


def _standardized(value: keras.KerasTensor, name: str, scaling: Scaling | None) -> Any:
    if scaling is None:
        return value
    front = keras.layers.Normalization(
        mean=scaling.mean,
        variance=scaling.variance,
        name=f"standardize_{name}" if name else "standardize",
        dtype="float32",
    )
    return front(value)


def _uncompiled(model: keras.Model) -> keras.Model:
    """The same layers in a model that is not compiled: Keras cannot load one optimizer twice."""
    if not layers.is_plain(model):
        return model
    inputs, outputs = keras_internals.structure(model)
    return keras.Model(inputs, outputs, name=model.name)


def _named(outputs: Any, model: keras.Model) -> Any:
    """The outputs under their own names, by which losses and metrics know them."""
    names: Sequence[str] = getattr(model, "output_names", ())
    if isinstance(outputs, keras.KerasTensor) and len(names) == 1:
        return keras.layers.Identity(name=names[0])(outputs)
    if not isinstance(outputs, list | tuple) or len(names) != len(outputs):
        return outputs
    return [
        keras.layers.Identity(name=name)(output)
        for name, output in zip(names, outputs, strict=True)
    ]


def obstacle(model: keras.Model, rows: AnyRows, path: Path | None = None) -> str | None:
    """Why plain Keras cannot load the model from its file, tried on a file.

    Args:
        model: a built model.
        rows: rows to compare predictions on.
        path: the file, which stays where Keras can load it; None for one that does not stay.

    Returns:
        The user's classes with what each lacks, or else what Keras says; None when it can, and the
        loaded model predicts the same.

    Raises:
        OSError: no file can be written.
    """
    if path is None:
        with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
            return obstacle(model, rows, Path(folder, "model.keras"))
    problem = _try_file(model, rows, path)
    if problem is not None:
        path.unlink(missing_ok=True)
    return problem


def _try_file(model: keras.Model, rows: AnyRows, path: Path) -> str | None:
    try:
        model.save(path)
        loaded = keras.saving.load_model(path)
        pairs = zip(_shown(model, rows), _shown(loaded, rows), strict=True)
        same = all(np.array_equal(before, after, equal_nan=True) for before, after in pairs)
    except Exception as error:
        if isinstance(error, OSError) and unwritable(error) is not None:
            raise
        said = f"{type(error).__name__}: {describe_error(error)}"
        return missing_for_saving(model) or said
    if not same:
        lacks = missing_for_saving(model) or "what it computes is not all in its config"
        return f"loaded again, it predicts otherwise: {lacks}"
    return None


@contextlib.contextmanager
def uncompiled(model: keras.Model) -> Iterator[None]:
    """While inside, the model is saved without what it was compiled with."""
    found = [layer for layer in keras_internals.all_layers(model) if getattr(layer, "compiled", 0)]
    for layer in found:
        layer.compiled = False
    try:
        yield
    finally:
        for layer in found:
            layer.compiled = True


def _shown(model: keras.Model, rows: AnyRows) -> list[Any]:
    """What a model predicts of a few rows; its weights where no row can be run through it."""
    if not layers.is_callable(model):
        return [*model.get_weights()]
    x, _, _ = rows.first(8)
    with _drawing_the_same(model):
        return [prediction for _, prediction in leaves(model(x, training=False))]


@contextlib.contextmanager
def _drawing_the_same(model: keras.Model) -> Iterator[None]:
    """While inside, what a model draws in inference is the same for any two of its kind.

    A `.keras` file has no states of generators, without which it draws as well.
    """
    found = [*keras_internals.seed_generators(model), keras_internals.global_generator()]
    states = [each.state for each in found if each is not None]
    before = [np.array(each) for each in states]
    for index, state in enumerate(states):
        state.assign(np.full(state.shape, index, state.dtype))
    try:
        yield
    finally:
        for state, value in zip(states, before, strict=True):
            state.assign(value)


def missing_for_saving(model: keras.Model) -> str | None:
    """What the user's own classes lack that `keras.models.load_model` needs."""
    found = []
    kinds = dict.fromkeys(type(layer) for layer in keras_internals.all_layers(model))
    for kind in kinds:
        if kind.__module__.partition(".")[0] == "keras":
            continue
        lacks = []
        if keras.saving.get_registered_name(kind) == kind.__name__:
            lacks.append("the decorator keras.saving.register_keras_serializable()")
        parameters = inspect.signature(kind.__init__).parameters.values()
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            lacks.append("**kwargs in __init__, handed on to super().__init__")
        elif len(parameters) > 2 and "get_config" not in vars(kind):
            lacks.append("get_config with its own arguments")
        if lacks:
            found.append(f"class {kind.__name__} lacks {' and '.join(lacks)}")
    return "; ".join(found) or None


def load_file(
    plan: FileModel, config: Config, seed: int, *, naming: str = "modules: [my_layers]"
) -> keras.Model:
    """The model of a `.keras` file, with its weights or with fresh ones.

    Args:
        plan: the file, and the modules with the user's own classes.
        config: names the place of a problem.
        seed: of fresh weights.
        naming: how the user names a module, for example.

    Raises:
        InvalidError: the file cannot be read, or holds no model.
        UserCodeError: a class of the user's own raised.
    """
    for index, module in enumerate(plan.modules):
        user_code.load_module(module, config, key=("model", "modules", index))
    key = ("model", "file")
    try:
        model = _load(config.path(plan.file))
        if plan.initial_weights == "fresh":
            described = keras.saving.serialize_keras_object(model)
            keras.utils.set_random_seed(seed)  # reading the file has drawn from the generators
            model = keras.saving.deserialize_keras_object(described, safe_mode=True)
    except Exception as error:
        if user_code.raised_in_user_code(error):
            raise UserCodeError(
                f"the model's own code raised {user_code.describe(error)}"
            ) from error
        raise InvalidError([config.problem(key, *_unreadable(error, naming))]) from error
    if not isinstance(model, keras.Model):
        message = f"expected a keras.Model in the file, received {type(model).__name__}"
        raise InvalidError([config.problem(key, message)])
    return model


def _load(path: Path) -> Any:
    """What is in a `.keras` file."""
    _expect_no_bomb(path)
    try:
        return keras.saving.load_model(path, safe_mode=True)
    except ValueError as error:
        # Keras refuses a model that was compiled and saved before its optimizer had any state.
        if not keras_internals.is_unbuilt_optimizer(error):
            raise
        model = keras.saving.load_model(path, safe_mode=True, compile=False)
        with zipfile.ZipFile(path) as archive:
            described = json.loads(archive.read("config.json"))
        model.compile_from_config(described["compile_config"])
        return model


def _expect_no_bomb(path: Path) -> None:
    """Refuse an archive that would fill memory or disk; Keras itself does not compress.

    Raises:
        ValueError: unpacked, it has many times its own size.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(each.file_size for each in archive.infolist())
    if unpacked > max(_UNPACKED * path.stat().st_size, _SMALL):
        raise ValueError(
            f"unpacked it has {unpacked / 1e6:,.0f} MB, more than {_UNPACKED} times its own size"
        )


def _unreadable(error: Exception, naming: str) -> tuple[str, str | None]:
    """Why Keras cannot load a file, and what to do."""
    text = describe_error(error)
    # What could not be made of a layer's config comes after the whole of it.
    _, _, reason = str(error).rpartition("Exception encountered: ")
    if "could not be deserialized properly" in text and reason:
        text = describe_error(ValueError(reason))
    # Inside a Sequential the reason comes after its whole config.
    missing = re.search(r"Could not locate (class|function) '(\w+)'", str(error))
    if missing:
        kind, name = missing.groups()
        return f"the file needs your own {kind} {name}", (
            "register it with the decorator keras.saving.register_keras_serializable() and name "
            f"its module, as in {naming}"
        )
    if "lambda" in text.lower():
        return f"cannot be loaded safely: {text}", "replace the Lambda by a layer of your own"
    # That there is a file, the config has made sure of.
    if "File not found" in text or "File format not supported" in text:
        return "expected a .keras file, received another kind of file, or a part of one", (
            "save the model with model.save('NAME.keras')"
        )
    return f"cannot be read as a .keras file: {text}", None


def input_names(model: keras.Model) -> list[str]:
    """Names of the inputs of a sequential or functional model; empty for another."""
    return [each.name for each in keras.tree.flatten(getattr(model, "inputs", None) or [])]


def digest(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 over the types, shapes and bytes of weights; NaNs are bytes like any others.

    Args:
        arrays: the weights in the model's order. What they are called and where they were saved
            makes no difference.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.name}{array.shape}".encode())
        # As bytes: types that NumPy itself does not know, such as bfloat16, have no buffer.
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{found.hexdigest()}"
