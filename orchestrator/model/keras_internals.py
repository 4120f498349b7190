"""Everything private of Keras and TensorFlow that the package touches, and nothing else.

What a release of Keras may move without a word stands here alone: attributes that begin with an
underscore, and the modules under `keras.src`. Each function says what it touches and why there is
no public way. All of it was tried with Keras 3.10.0, 3.12.0, 3.14.0 and 3.15.1 on TensorFlow 2.21;
tests/model/test_keras_internals.py names each private part and fails when one is gone.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src import activations, backend
from keras.src.backend.common import global_state
from keras.src.ops import core as core_operations
from keras.src.ops import nn as operations
from keras.src.ops import numpy as array_operations
from keras.src.trainers import compile_utils
from keras.src.utils import naming

BACKEND_NN = backend.nn
"""`keras.src.backend.nn`: the functions that every activation of Keras calls in the end. The public
`keras.ops` are in front of them, and layers pass those by."""
BACKEND_NUMPY = backend.numpy
"""`keras.src.backend.numpy`: the same for `tanh`, which Keras keeps there."""
ActivationReLU = activations.activations.ReLU
"""`keras.src.activations.activations.ReLU`: makes `keras.activations.relu` with arguments."""
ActivationMish = activations.activations.Mish
"""`keras.src.activations.activations.Mish`: makes `keras.activations.mish`."""
ReluOperation = operations.Relu
"""`keras.src.ops.nn.Relu`: what `keras.ops.relu` leaves in a functional model; has no public
name."""
Relu6Operation = operations.Relu6
"""`keras.src.ops.nn.Relu6`: what `keras.ops.relu6` leaves in a functional model; has no public
name."""
ACTIVATION_OPERATIONS = (
    ActivationReLU,
    ReluOperation,
    Relu6Operation,
    operations.HardSigmoid,
    operations.Sigmoid,
    operations.Softmax,
    operations.Softplus,
    operations.Softsign,
    array_operations.Exp,
    array_operations.Tanh,
)
"""What the activations with bounds leave in a functional model where they are called as functions;
these classes of `keras.src.ops` have no public names."""
MOVING_OPERATIONS = (
    array_operations.ExpandDims,
    array_operations.GetItem,
    array_operations.Reshape,
    array_operations.Squeeze,
    array_operations.Transpose,
)
"""What functions leave there that give the values that they are given, in another shape; likewise.
"""

_NAME_COUNTS = "object_name_uids"
"""Where Keras's global state counts the names that it has given."""


def is_of_keras(value: Any) -> bool:
    """Whether a value's class is Keras's own and not the user's, by the module it is made in."""
    return type(value).__module__.startswith("keras.")


def is_functional(model: Any) -> bool:
    """Whether a model's class is `keras.src.models.Functional` itself, which has no public name."""
    return is_of_keras(model) and type(model).__name__ == "Functional"


def all_layers(layer: keras.Layer) -> list[keras.Layer]:
    """A layer or model and all layers inside it, however deep.

    Touches `Layer._flatten_layers`. The public `Model.layers` ends at the first level and leaves
    out the layers that a layer of the user's own holds.
    """
    return list(layer._flatten_layers())


def makes_integers(operation: Any) -> bool:
    """Whether a function applied in a functional model takes a number for the index that it is.

    Touches `keras.src.ops`: `core.Cast`, `nn.OneHot` and `nn.MultiHot` have no public names.
    """
    if isinstance(operation, core_operations.Cast):
        return bool(keras.backend.is_int_dtype(operation.dtype))
    return isinstance(operation, operations.OneHot | operations.MultiHot)


def inner_layers(layer: keras.Layer) -> list[keras.Layer]:
    """The layers that a layer holds itself, such as a wrapped layer or a recurrent cell.

    Touches `Layer._flatten_layers`; there is no public list of them.
    """
    return list(layer._flatten_layers(include_self=False, recursive=False))


def own_variables(layer: keras.Operation) -> list[keras.Variable]:
    """The weights that a layer was built with for training, without those of layers inside it.

    Touches `Layer._trainable_variables`. The public `trainable_variables` adds those of inner
    layers, and is empty for a frozen layer.

    Args:
        layer: a layer, or a function of Keras applied as one, which has none.
    """
    return list(getattr(layer, "_trainable_variables", ()))


def weight_penalty(model: keras.Model) -> float | None:
    """What regularizers of weights add to the loss as the weights are; None where there are none.

    Reads `Variable.regularizer`, as Keras does when it adds them up.
    """
    penalised = [each for each in model.trainable_variables if each.regularizer is not None]
    if not penalised:
        return None
    return sum(float(each.regularizer(each)) for each in penalised)


def seed_generators(model: keras.Model) -> list[keras.random.SeedGenerator]:
    """The generators of a model's dropout and noise layers, each once, in the order of the layers.

    Touches `Layer._seed_generators`. The public `variables` has the generators' states among all
    others, where only a name tells them apart.
    """
    found = {
        id(generator): generator
        for layer in all_layers(model)
        for generator in layer._seed_generators
    }
    return list(found.values())


def global_generator() -> keras.random.SeedGenerator | None:
    """The generator that `keras.random` draws from where it is given none; None before it does.

    Touches Keras's global state. The public functions would make one, which draws from Python's
    generator.
    """
    return global_state.get_global_attribute("global_seed_generator")


def dtype(name: str) -> np.dtype[Any]:
    """NumPy's type of a name, those of bfloat16 and float8 among them, which NumPy has not."""
    found: np.dtype[Any] = np.dtype(tf.as_dtype(name).as_numpy_dtype)
    return found


def origin(tensor: Any) -> tuple[keras.Operation, list[keras.KerasTensor]] | None:
    """The layer that made a symbolic tensor, and what it was made from.

    Touches `KerasTensor._keras_history` and `Operation._inbound_nodes`: the public `layer.input` is
    that of a layer's first use alone, and no public name leads from a tensor to its layer.

    Args:
        tensor: an output of a functional model.

    Returns:
        None where the tensor was not made by a layer.
    """
    history = getattr(tensor, "_keras_history", None)
    if history is None:
        return None
    node = history.operation._inbound_nodes[history.node_index]
    return history.operation, keras.tree.flatten(node.input_tensors)


def uses(
    tensor: Any,
) -> list[tuple[keras.Operation, list[keras.KerasTensor], list[keras.KerasTensor]]]:
    """The layers that take a symbolic tensor, each with all that it takes there and what it makes.

    Touches `KerasTensor._keras_history` and `Operation._outbound_nodes`: no public name leads from
    a tensor to what takes it.

    Args:
        tensor: one of a functional model.
    """
    found = []
    for node in tensor._keras_history.operation._outbound_nodes:
        given = keras.tree.flatten(node.input_tensors)
        if any(each is tensor for each in given):
            found.append((node.operation, given, keras.tree.flatten(node.output_tensors)))
    return found


def structure(model: keras.Model) -> tuple[Any, Any]:
    """Inputs and outputs of a sequential or functional model, as nested as it was made with them.

    Touches `Functional._inputs_struct` and `_outputs_struct`: the public `inputs` and `outputs` are
    flat lists, which lose the names of a dict.
    """
    inputs = getattr(model, "_inputs_struct", model.inputs)
    outputs = getattr(model, "_outputs_struct", model.outputs)
    return inputs, outputs


def compile_arguments(model: keras.Model) -> dict[str, Any]:
    """What a compiled model was compiled with, as objects.

    Touches `Trainer._compile_config`: the public `get_compile_config` turns the objects into text,
    from which a loss of the user's own that is not registered cannot be made again.
    """
    return dict(model._compile_config.config)


def compute_loss(model: keras.Model, x: Any, y: Any, returned: Any, weight: Any) -> Any:
    """The loss of a batch in training, with regularisation and what layers add.

    Touches `Trainer._compute_loss`: a public `compute_loss` of the user's own may not know the
    argument `training`, and only this says whether it does.
    """
    return model._compute_loss(x=x, y=y, y_pred=returned, sample_weight=weight, training=True)


def forget_initial_epoch(model: keras.Model) -> None:
    """Have `fit` begin with the epoch that it is told, whatever a callback has said.

    Touches `Trainer._initial_epoch`, which has no public name and goes before the argument of
    `fit`, in all that follow.
    """
    model._initial_epoch = None


def learning_rate(optimizer: keras.optimizers.Optimizer) -> Any:
    """The variable, schedule or function that gives an optimizer's learning rate.

    Touches `Optimizer._learning_rate`: the public `learning_rate` gives the present value alone.
    """
    return optimizer._learning_rate


def trained(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The weights that an optimizer was built for; empty for one that has no state yet.

    Touches `Optimizer._trainable_variables`: the public `variables` has the optimizer's own alone.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return list(getattr(inner, "_trainable_variables", ()))


def variable_key(optimizer: keras.optimizers.Optimizer, variable: Any) -> Any:
    """What an optimizer knows a variable by, be it Keras's or the TensorFlow variable inside it.

    Touches `Optimizer._var_key`: a step may hand over either, and no public name joins the two.
    """
    return optimizer._var_key(variable)


def untracked(value: Any) -> Any:
    """A plain container of what is in one of Keras's that track it; None for anything else.

    Looks for `keras.src.utils.tracking`, whose classes have no public name, and cannot be pickled.
    """
    if type(value).__module__ != "keras.src.utils.tracking":
        return None
    return next((kind(value) for kind in (dict, list, set) if isinstance(value, kind)), None)


def optimizer_config(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """The config of an optimizer, with the schedule or function of its rate as an object.

    Touches `Optimizer._learning_rate`: the public `get_config` turns that into text, and raises for
    a schedule of the user's own that has no `get_config`. A constant is the shortest number that
    is the same in single precision, in which Keras keeps it.
    """
    rate = optimizer._learning_rate
    if isinstance(rate, keras.Variable):
        value = float(str(np.float32(rate.numpy())))
        return {**optimizer.get_config(), "learning_rate": value}
    optimizer._learning_rate = 0.0
    try:
        return {**optimizer.get_config(), "learning_rate": rate}
    finally:
        optimizer._learning_rate = rate


def own_seed(initializer: Any) -> Any:
    """The seed that a random initializer was given; None where Keras has drawn it.

    Touches `RandomInitializer._init_seed`: the public `seed` is a number in both cases, and an
    initializer of the user's own need not have a `get_config`.
    """
    return getattr(initializer, "_init_seed", None)


def function_arguments(value: Any) -> dict[str, Any]:
    """The arguments that a loss or a metric hands to its function, such as Huber's delta.

    Touches `LossFunctionWrapper._fn_kwargs` and `MeanMetricWrapper._fn_kwargs`: up to Keras 3.15
    the public `get_config` leaves some of them out.
    """
    return dict(getattr(value, "_fn_kwargs", {}))


def resolve_loss(given: Any, y: Any, prediction: Any) -> keras.Loss:
    """The loss object that Keras makes of what a model was compiled with for an output.

    Touches `keras.src.trainers.compile_utils.get_loss`: the public `keras.losses.get` knows neither
    `crossentropy`, which depends on the shapes, nor wraps functions.

    Args:
        given: a name, a function, or a loss.
        y: targets of a few rows.
        prediction: what the model returned for them.
    """
    return compile_utils.get_loss(given, y, prediction)


def loss_function(loss: keras.Loss) -> Callable[..., Any] | None:
    """The function that a loss wraps, None for one of the user's own class.

    Touches `LossFunctionWrapper.fn`, which has no public name.
    """
    return getattr(loss, "fn", None)


def attached_logits(prediction: Any) -> Any:
    """The logits that Keras has noted with probabilities, to which its cross-entropies go back.

    Touches the attribute `_keras_logits` of tensors; None where there are none.
    """
    return getattr(prediction, "_keras_logits", None)


def attached_mask(prediction: Any) -> Any:
    """Keras's mask of a tensor, which its losses leave out rows and positions by; or None.

    Touches the attribute `_keras_mask` of tensors: `keras.src.backend.get_keras_mask`.
    """
    return backend.get_keras_mask(prediction)


def attach(prediction: Any, logits: Any, mask: Any) -> None:
    """Note logits and mask with a tensor as Keras does, where they are not None."""
    if logits is not None:
        prediction._keras_logits = logits
    if mask is not None:
        backend.set_keras_mask(prediction, mask)


def is_unbuilt_optimizer(error: Exception) -> bool:
    """Whether a file was refused because its optimizer had no state when the model was saved.

    Looks for `keras.src.optimizers` in the message: Keras raises a plain ValueError.
    """
    return "keras.src.optimizers" in str(error)


@contextlib.contextmanager
def fresh_names() -> Iterator[None]:
    """Give a layer the same name in every attempt, as in a program that builds its model once.

    What is made later gets none of the names that were given inside or before. Touches
    `keras.src.utils.naming.reset_uids` and the counts `object_name_uids` in
    `keras.src.backend.common.global_state`: the public `keras.utils.clear_session` clears traced
    functions and the counts of what was made before, too.
    """
    before = dict(global_state.get_global_attribute(_NAME_COUNTS) or {})
    naming.reset_uids()
    try:
        yield
    finally:
        counts = global_state.get_global_attribute(_NAME_COUNTS)
        for prefix, count in before.items():
            counts[prefix] = max(counts[prefix], count)


@contextlib.contextmanager
def noting_initializers(note: Callable[[keras.Variable, Any], None]) -> Iterator[None]:
    """Call a function with every variable that is made inside, and the initializer that filled it.

    Replaces `Variable._initialize_with_initializer` for a while: a built variable does not say
    where its first value came from.
    """
    original = keras.Variable._initialize_with_initializer

    def initialize(variable: keras.Variable, initializer: Any) -> None:
        note(variable, initializer)
        original(variable, initializer)

    keras.Variable._initialize_with_initializer = initialize
    try:
        yield
    finally:
        keras.Variable._initialize_with_initializer = original


class Replacements:
    """Attributes that are replaced for a while: of modules, classes, layers and graphs."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute until `undo`.

        A layer's goes through its `__dict__`, past Keras's tracking: a built layer refuses new
        state.
        """
        if isinstance(owner, keras.Layer):
            space = vars(owner)
            if name in space:
                self._undo.append(functools.partial(space.__setitem__, name, space[name]))
            else:
                self._undo.append(functools.partial(space.__delitem__, name))
            space[name] = value
        elif isinstance(owner, tf.Graph):  # what its class has shows again once it is taken away
            self._undo.append(functools.partial(delattr, owner, name))
            setattr(owner, name, value)
        else:
            before = inspect.getattr_static(owner, name)
            self._undo.append(functools.partial(setattr, owner, name, before))
            setattr(owner, name, value)

    def created_operations(self, graph: tf.Graph, see: Callable[[tf.Operation], None]) -> None:
        """Call a function with every operation that is added to a graph until `undo`.

        Replaces `Graph._create_op_internal`: the public `get_operations` lists them all, but the
        layers that are being called can be told only at the moment when one is added.
        """
        create = graph._create_op_internal

        def created(*args: Any, **kwargs: Any) -> tf.Operation:
            operation = create(*args, **kwargs)
            see(operation)
            return operation

        self.set(graph, "_create_op_internal", created)

    def function_calls(self, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Wrap the call of every `tf.function` until `undo`.

        Replaces `__call__` of the class that `tf.function` makes, which has no public name.
        """
        kind = type(tf.function(lambda: None))
        self.set(kind, "__call__", wrap(kind.__call__))

    def undo(self) -> None:
        """Put everything back, the last one first."""
        while self._undo:
            self._undo.pop()()


def function_nodes(graph: tf.Graph, name: str) -> list[Any]:
    """The nodes of a function that is called inside a graph, such as the body of a loop.

    Touches `Graph._get_function` and `cached_definition` of what it returns: the public
    `as_graph_def` writes out the whole graph for every look.

    Args:
        graph: the graph that calls it.
        name: name of the function.

    Returns:
        Its `NodeDef`s; none where the graph does not know the function.
    """
    function = graph._get_function(name)
    return [] if function is None else list(function.cached_definition.node_def)


def replace_input(operation: tf.Operation, index: int, tensor: tf.Tensor) -> None:
    """Let an operation of a graph that is still being made read another tensor.

    Touches `Operation._update_input`: what an operation reads has no public way to change, and a
    function of the user's own has read its activations before they can be told.
    """
    operation._update_input(index, tensor)


def scratch_graph() -> Any:
    """A graph to be thrown away, in which tensors of the graph around it can be used.

    Touches `tf.__internal__.FuncGraph`: in the public `tf.Graph` no tensor of another graph can be
    used, and a `tf.function` cannot be traced in the middle of what is being listened to.

    Returns:
        Its `as_default()` makes it the present graph.
    """
    return tf.__internal__.FuncGraph("scratch")
