"""The private parts of Keras and TensorFlow, one by one: which release moves one, fails here."""

import ast
from collections.abc import Callable, Iterator
from typing import Any

import keras
import pytest
import tensorflow as tf
from keras.src import activations, backend, models
from keras.src.backend.common import global_state
from keras.src.ops import nn as operations
from keras.src.trainers import compile_utils
from keras.src.utils import naming

from orchestrator.model import keras_internals
from tests.arrows import imports, modules

layers = keras.layers


def small() -> keras.Model:
    """A compiled model with one of everything."""
    x = keras.Input((3,), name="x")
    hidden = layers.Dense(2, activation="relu")(x)
    y = layers.Dense(1, name="y")(layers.Dropout(0.5)(hidden))
    model = keras.Model({"x": x}, {"y": y})
    model.compile("adam", keras.losses.Huber(delta=2.0))
    return model


def _graph() -> tf.Graph:
    return tf.function(lambda x: x).get_concrete_function(tf.TensorSpec((2,))).graph


PRIVATE: dict[str, Callable[[], Any]] = {
    "_flatten_layers": small,
    "_trainable_variables": lambda: layers.Dense(1),
    "_seed_generators": lambda: layers.Dropout(0.5),
    "_keras_history": lambda: small().outputs[0],
    "_inbound_nodes": lambda: small().layers[1],
    "_outbound_nodes": lambda: small().layers[0],
    "_inputs_struct": small,
    "_outputs_struct": small,
    "_compile_config": small,
    "_compute_loss": small,
    "_initial_epoch": small,
    "_learning_rate": keras.optimizers.Adam,
    "_var_key": keras.optimizers.Adam,
    "_init_seed": keras.initializers.HeNormal,
    "_fn_kwargs": keras.losses.Huber,
    "_keras_logits": lambda: keras.activations.softmax(tf.zeros((1, 2))),
    "_initialize_with_initializer": lambda: keras.Variable,
    "_create_op_internal": _graph,
    "_get_function": _graph,
    "_update_input": lambda: _graph().get_operations()[-1],
    "FuncGraph": lambda: tf.__internal__,
    "nn": lambda: backend,
    "numpy": lambda: backend,
    "Relu": lambda: operations,
    "Relu6": lambda: operations,
    "ReLU": lambda: activations.activations,
    "Mish": lambda: activations.activations,
    "Functional": lambda: models,
    "reset_uids": lambda: naming,
    "get_global_attribute": lambda: global_state,
    "get_keras_mask": lambda: backend,
    "set_keras_mask": lambda: backend,
    "get_loss": lambda: compile_utils,
    "fn": keras.losses.Huber,
}
"""What is touched, and where it is expected to be."""


@pytest.mark.parametrize("name", PRIVATE)
def test_it_is_where_it_was(name: str) -> None:
    owner = PRIVATE[name]()
    assert hasattr(owner, name), (
        f"Keras {keras.__version__} or TensorFlow {tf.__version__} has moved {name} of {owner!r}: "
        "mend orchestrator/model/keras_internals.py, or lower the upper bound in pyproject.toml"
    )


def test_every_private_part_is_named_here() -> None:
    tree = ast.parse(modules()["model.keras_internals"].read_text())
    touched = {name for name in _private_names(tree) if name != "_undo"}
    assert touched == {name for name in PRIVATE if name.startswith("_")}


def test_nothing_else_touches_them() -> None:
    names = {name for name in PRIVATE if name.startswith("_")}
    for module, path in modules().items():
        if module == "model.keras_internals":
            continue
        assert not [name for name in imports(path) if name.startswith(("keras.src", "keras._"))]
        assert not [name for name in imports(path) if name.startswith("tensorflow.python")]
        used = set(_private_names(ast.parse(path.read_text())))
        assert not used & names, f"{module} touches {used & names}: keras_internals is the place"
        if module.startswith(("model.", "diagnosis.")):
            own = _own_names(path.read_text())
            assert used <= own, f"{module} touches {used - own}: keras_internals is the place"


def _private_names(tree: ast.Module) -> Iterator[str]:
    """Names with an underscore in front that are looked up on something, as text too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        else:
            continue
        if name.strip("_") and name.startswith("_") and name.isidentifier() and name[1] != "_":
            yield name


def _own_names(source: str) -> set[str]:
    """Names with an underscore that a module itself gives: to attributes of self, to methods."""
    own = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.attr)
    return own


def test_all_layers_with_those_that_layers_hold() -> None:
    inner = layers.TimeDistributed(layers.Dense(2))
    model = keras.Sequential([keras.Input((4, 3)), keras.Sequential([inner])])
    found = keras_internals.all_layers(model)
    assert found[0] is model and inner in found and inner.layer in found
    assert keras_internals.inner_layers(inner) == [inner.layer]


def test_own_variables_leave_out_inner_layers_and_keep_frozen_ones() -> None:
    model = small()
    dense = model.layers[1]
    dense.trainable = False
    assert [each.name for each in keras_internals.own_variables(dense)] == ["kernel", "bias"]
    assert keras_internals.own_variables(model) == []
    assert keras_internals.own_variables(operations.Relu()) == []


def test_seed_generators() -> None:
    model = small()
    assert keras_internals.seed_generators(model) == [model.layers[2].seed_generator]


def test_origin_by_the_use_of_a_shared_layer() -> None:
    shared = layers.Dense(3)
    x = keras.Input((3,))
    first = shared(x)
    second = shared(first)
    assert keras_internals.origin(first) == (shared, [x])
    assert keras_internals.origin(second) == (shared, [first])
    assert keras_internals.origin(tf.constant(0.0)) is None


def test_structure_keeps_names() -> None:
    inputs, outputs = keras_internals.structure(small())
    assert list(inputs) == ["x"] and list(outputs) == ["y"]
    sequential = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    assert keras_internals.structure(sequential) == (sequential.inputs, sequential.outputs)


def test_compile_arguments_are_the_objects() -> None:
    model = small()
    found = keras_internals.compile_arguments(model)
    assert found["optimizer"] is model.optimizer
    assert isinstance(found["loss"], keras.losses.Huber)


def test_a_loss_that_does_not_know_the_argument_training() -> None:
    class Own(keras.Model):
        def call(self, x: Any) -> Any:
            return 2.0 * x

        def compute_loss(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> Any:
            return keras.ops.mean(y_pred - y)

    model = Own()
    model.compile("sgd")
    x = tf.ones((2, 1))
    assert float(keras_internals.compute_loss(model, x, 0 * x, model(x), None)) == 2


def test_learning_rate_is_the_schedule_itself() -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    assert keras_internals.learning_rate(keras.optimizers.SGD(schedule)) is schedule
    constant = keras_internals.learning_rate(keras.optimizers.SGD(0.5))
    assert float(constant) == 0.5


def test_own_seed_is_not_one_that_keras_draws() -> None:
    assert keras_internals.own_seed(keras.initializers.HeNormal(seed=4)) == 4
    assert keras_internals.own_seed(keras.initializers.HeNormal()) is None
    assert keras_internals.own_seed(keras.initializers.Zeros()) is None


def test_function_arguments_of_a_loss() -> None:
    assert keras_internals.function_arguments(keras.losses.Huber(delta=2.0))["delta"] == 2.0
    assert keras_internals.function_arguments(keras.metrics.AUC()) == {}


def test_fresh_names_inside_and_none_given_twice_after() -> None:
    prefix = layers.Dense(1).name
    with keras_internals.fresh_names():
        names = [layers.Dense(1).name for _ in range(2)]
    assert names == ["dense", "dense_1"]
    assert layers.Dense(1).name not in (prefix, *names)


def test_noting_initializers() -> None:
    noted = []
    with keras_internals.noting_initializers(lambda *each: noted.append(each)):
        dense = layers.Dense(1, kernel_initializer="ones")
        dense.build((None, 2))
    assert [variable is own for (variable, _), own in zip(noted, dense.weights, strict=True)]
    assert isinstance(noted[0][1], keras.initializers.Ones)
    layers.Dense(1).build((None, 2))
    assert len(noted) == 2


def test_classes() -> None:
    assert keras_internals.is_functional(small())
    assert not keras_internals.is_functional(keras.Sequential())

    class Functional(keras.Model):  # type: ignore[misc]
        """Of the user's own, under the same name."""

    assert not keras_internals.is_functional(Functional())
    assert keras_internals.is_of_keras(layers.Dense(1))
    assert not keras_internals.is_of_keras(tf.constant(0))


def test_relu_in_a_functional_model_is_an_operation() -> None:
    x = keras.Input((3,))
    for function, kind in (
        (keras.ops.relu, keras_internals.ReluOperation),
        (keras.ops.relu6, keras_internals.Relu6Operation),
    ):
        made = keras_internals.origin(function(x))
        assert made is not None and isinstance(made[0], kind)


def test_what_functions_leave_in_a_functional_model_is_known_by_its_class() -> None:
    x, ops, relu = keras.Input((3,)), keras.ops, keras.activations.relu
    bounded = [ops.relu6, ops.hard_sigmoid, ops.sigmoid, ops.softmax, ops.softplus, ops.softsign]
    moved = [ops.squeeze, ops.transpose, lambda z: z[:, 0], lambda z: ops.expand_dims(z, 1)]
    for functions, kinds in (
        ([relu, ops.relu, ops.exp, ops.tanh, *bounded], keras_internals.ACTIVATION_OPERATIONS),
        ([*moved, lambda z: ops.reshape(z, (3,))], keras_internals.MOVING_OPERATIONS),
    ):
        for function in functions:
            made = keras_internals.origin(function(x))
            assert made is not None and isinstance(made[0], kinds)


def test_created_operations_and_back() -> None:
    seen: list[str] = []

    def traced() -> None:
        graph = tf.compat.v1.get_default_graph()
        patches = keras_internals.Replacements()
        patches.created_operations(graph, lambda operation: seen.append(operation.type))
        tf.nn.relu(tf.constant([1.0]))
        patches.undo()
        tf.nn.relu(tf.constant([1.0]))

    tf.function(traced, autograph=False).get_concrete_function()
    assert seen == ["Const", "Relu"]


def test_function_calls_and_back() -> None:
    function = tf.function(lambda x: x + 1)
    patches = keras_internals.Replacements()
    patches.function_calls(lambda plain: lambda self, *arguments: "taken")
    assert function(1) == "taken"
    patches.undo()
    assert int(function(1)) == 2


def test_nodes_of_a_loops_body() -> None:
    @tf.function
    def loop(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda x: tf.reduce_sum(x) < 9, lambda x: (tf.nn.relu(x),), [x])[0]

    graph = loop.get_concrete_function(tf.TensorSpec((2,))).graph
    (operation,) = [each for each in graph.get_operations() if each.type.endswith("While")]
    nodes = keras_internals.function_nodes(graph, operation.get_attr("body").name)
    assert "Relu" in {node.op for node in nodes}
    assert keras_internals.function_nodes(graph, "no such function") == []


def test_an_operation_that_reads_another_tensor() -> None:
    def change(x: Any) -> Any:
        doubled, tripled = x * 2, x * 3
        result = doubled + 1
        keras_internals.replace_input(result.op, 0, tripled)
        return result

    assert tf.function(change)(tf.constant(2.0)).numpy() == 7


def test_a_scratch_graph_leaves_nothing_behind() -> None:
    def compute(x: Any) -> Any:
        before = len(x.graph.get_operations())
        with keras_internals.scratch_graph().as_default():
            assert (x + 1).graph is not x.graph
        assert len(x.graph.get_operations()) == before
        return x

    assert tf.function(compute)(tf.constant(2.0)).numpy() == 2


def test_a_model_saved_before_its_optimizer_was_built_is_told_by_the_message(tmp_path: Any) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1)])
    model.compile("adam", "mse")
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match="keras.src.optimizers") as caught:
        keras.saving.load_model(tmp_path / "model.keras")
    assert keras_internals.is_unbuilt_optimizer(caught.value)
    assert not keras_internals.is_unbuilt_optimizer(ValueError("another"))
