"""The initial weights of a model as a function of its seed, without building it anew.

Keras draws the seed of each initializer from Python's generator while the layers are made, and an
initializer returns the same values whenever it is called. So the weights that another seed gives
follow from the same initializers with other seeds, in one traced call.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from orchestrator.data.rows import Tree
from orchestrator.model import keras_internals, layers

Weights = list[npt.NDArray[Any]]

_DRAWS = 4096
"""How many draws from Python's generator are searched for the seed of an initializer."""


class Recorder:
    """Remembers which initializer filled which variable."""

    def __init__(self) -> None:
        self._initializers: dict[int, tuple[Any, keras.Variable]] = {}

    def note(self, variable: keras.Variable, initializer: Any) -> None:
        """Remember one variable."""
        self._initializers[id(variable)] = (initializer, variable)

    def initializer(self, variable: keras.Variable) -> Any:
        """What filled a variable; None where that is not known."""
        return self._initializers.get(id(variable), (None, None))[0]

    def recording(self) -> contextlib.AbstractContextManager[None]:
        """Remember the variables that are made inside."""
        return keras_internals.noting_initializers(self.note)


def reinitialize(model: keras.Model, name: str, x: Tree, recorder: Recorder) -> None:
    """Put an initializer on the kernels of hidden layers, and zeros on their biases.

    The kernel that makes an output is drawn as Keras does by default, where all its numbers are the
    same and not 0: it adds all units up, to a large sum where there are many. The seeds come from
    Python's generator, as those of Keras's own layers do.

    Args:
        model: a built model of any kind; changed in place.
        name: Keras's name of the initializer.
        x: a few rows, to find out which layer makes the output of a model of the user's own class.
        recorder: told of the initializers.

    Raises:
        ValueError: the initializer does not take a kernel of such a shape.
    """
    for _, variable, is_kernel in hidden_variables(model, x):
        initializer = keras.initializers.get(name if is_kernel else "zeros")
        variable.assign(_draw(initializer, variable))
        recorder.note(variable, initializer)
    for variable in _constant_kernels(_last_parts(model, x)):
        initializer = keras.initializers.GlorotUniform()
        variable.assign(_draw(initializer, variable))
        recorder.note(variable, initializer)


def _constant_kernels(given: Iterable[keras.Layer]) -> Iterator[keras.Variable]:
    """Trainable kernels of layers whose numbers are all the same, and not 0."""
    for layer in given:
        if not layer.trainable or isinstance(layer, _WITHOUT_KERNEL):
            continue
        for variable in keras_internals.own_variables(layer):
            if len(variable.shape) > 1 and "bias" not in variable.name:
                values = variable.numpy()
                if values.size > 1 and values.any() and (values == values.flat[0]).all():
                    yield variable


def _last_parts(model: keras.Model, x: Tree) -> list[keras.Layer]:
    """The layers that make the outputs, with those inside them."""
    return [part for layer in layers.last_layers(model, x) for part in layers.parts(layer)]


def _draw(initializer: Any, variable: keras.Variable) -> Any:
    """Values for a variable; TensorFlow decomposes no matrix in bfloat16, as `orthogonal` does."""
    decomposes = isinstance(initializer, keras.initializers.Orthogonal)
    half = decomposes and variable.dtype == "bfloat16"
    return initializer(tuple(variable.shape), dtype="float32" if half else variable.dtype)


def hidden_variables(
    model: keras.Model, x: Tree
) -> Iterator[tuple[keras.Layer, keras.Variable, bool]]:
    """Trainable kernels (True) and biases (False) of the layers that do not make the output.

    Args:
        model: a built model of any kind.
        x: a few rows, with which a model of the user's own class is called.
    """
    last = {id(part) for part in _last_parts(model, x)}
    seen: set[int] = set()
    for layer in keras_internals.all_layers(model):
        if id(layer) in last or not layer.trainable or isinstance(layer, _WITHOUT_KERNEL):
            continue
        variables = keras_internals.own_variables(layer)
        own = [each for each in variables if id(each) not in seen]
        seen.update(map(id, own))
        kernels = [each for each in own if len(each.shape) > 1 and "bias" not in each.name]
        for variable in own if kernels else ():
            if any(variable is kernel for kernel in kernels):
                if variable.name != "recurrent_kernel":  # relu is not what it is drawn for
                    yield layer, variable, True
            elif _is_bias(variable) and not hasattr(layer, "unit_forget_bias"):
                yield layer, variable, False


_WITHOUT_KERNEL = (
    keras.layers.BatchNormalization,
    keras.layers.Embedding,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.PReLU,
)
"""Layers whose weights of several axes are something else."""


def _is_bias(variable: keras.Variable) -> bool:
    """Whether a variable beside a kernel is added, as a bias is; a scale begins positive."""
    return "bias" in variable.name or not (variable.numpy() > 0).any()


class _Seed(keras.random.SeedGenerator):  # type: ignore[misc]
    """A seed that is a tensor; an initializer takes it where it takes a number."""

    def __init__(self, value: tf.Tensor) -> None:
        self._value = value

    def next(self, ordered: bool = True) -> tf.Tensor:
        """The state that Keras makes of a number."""
        return tf.stack([self._value, tf.zeros_like(self._value)])


class Replay:
    """The initial weights of a model under any seed.

    Args:
        model: as it was built, untrained.
        recorder: what was recorded while it was built.
        seed: what `keras.utils.set_random_seed` got before it was built.
    """

    def __init__(self, model: keras.Model, recorder: Recorder, seed: int) -> None:
        self._weights = model.weights
        self._initializers = [recorder.initializer(variable) for variable in self._weights]
        draws = {value: index for index, value in enumerate(_draws(seed, _DRAWS))}
        seeds = [getattr(each, "seed", None) for each in self._initializers]
        self._draws = [draws.get(seed) if isinstance(seed, int) else None for seed in seeds]
        self._used = 1 + max((each for each in self._draws if each is not None), default=-1)
        self._call = tf.function(self._values, autograph=False)
        self.faithful = self._is_faithful(seed)

    @property
    def fixed(self) -> list[str]:
        """Paths of the weights whose initializer was given a seed of its own."""
        return [
            variable.path
            for variable, initializer in zip(self._weights, self._initializers, strict=True)
            if isinstance(keras_internals.own_seed(initializer), int)
        ]

    def weights(self, seed: int) -> Weights:
        """The values that a fresh build has after `keras.utils.set_random_seed(seed)`."""
        seeds = tf.constant(_draws(seed, self._used), tf.uint32, shape=(self._used,))
        return [value.numpy() for value in self._call(seeds)]

    def _values(self, seeds: tf.Tensor) -> list[tf.Tensor]:
        values = []
        for variable, initializer, draw in zip(
            self._weights, self._initializers, self._draws, strict=True
        ):
            again = initializer
            if draw is not None:
                settings = {**initializer.get_config(), "seed": _Seed(seeds[draw])}
                again = type(initializer)(**settings)
            values.append(tf.cast(_draw(again, variable), variable.dtype))
        return values

    def _is_faithful(self, seed: int) -> bool:
        """Whether the model's own weights come out, to the bit."""
        if any(initializer is None for initializer in self._initializers):
            return False
        try:
            values = self.weights(seed)
        except Exception:  # noqa: BLE001 - an initializer of the user's own may do anything
            return False
        return same(values, [variable.numpy() for variable in self._weights])


def same(one: Weights, other: Weights) -> bool:
    """Whether two lists of weights are equal to the bit."""
    return len(one) == len(other) and all(map(np.array_equal, one, other))


def _draws(seed: int, count: int) -> list[int]:
    """The seeds that Keras draws first, after `keras.utils.set_random_seed(seed)`."""
    generator = random.Random(seed)
    return [generator.randint(1, 10**9) for _ in range(count)]
