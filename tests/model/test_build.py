"""Models from configs: what Keras refuses, what a remedy changes, what is saved."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from orchestrator.config.schema import Config
from orchestrator.config.sections.model import Named
from orchestrator.data import load as data
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.model import keras_internals, objects, saving
from orchestrator.model.build import build_model, clipping, obstacles, try_call
from orchestrator.model.initialization import Recorder, Replay
from orchestrator.model.outputs import find_outputs
from orchestrator.model.remedies import leaky_relu, penalty
from orchestrator.record.records import Settings
from tests import builders
from tests.conftest import MakeConfig

layers = keras.layers
SEED = Settings(seed=7)
HEAD: dict[str, Any] = {"Dense": {"units": 1}}


def built(config: Config, settings: Settings = SEED) -> keras.Model:
    return build_model(config, settings, data.load(config).train)


def test_a_layer_has_the_same_name_in_every_attempt(make_config: MakeConfig) -> None:
    config = make_config(model={"layers": [{"Dense": {"units": 2}}, HEAD]})
    before = layers.Dense(1).name
    names = [[layer.name for layer in built(config).layers] for _ in range(2)]
    assert names == [["dense", "dense_1"]] * 2
    later = layers.Dense(1).name
    assert later not in (before, "dense", "dense_1")


def forms(model: keras.Model, rows: Rows) -> list[tuple[str, bool]]:
    found = find_outputs(model, builders.config(), rows)
    return [(output.form, output.from_logits) for output in found]


def refused(config: Config) -> list[tuple[str | None, str]]:
    with pytest.raises(InvalidError, match=r"config\.yaml") as caught:
        built(config)
    return [(each.key, f"{each.message}; {each.hint}") for each in caught.value.problems]


def test_the_first_seed_gives_the_weights_of_a_plain_keras_script(make_config: MakeConfig) -> None:
    keras.utils.set_random_seed(7)
    script = keras.Sequential(
        [layers.Input((2,)), layers.Dense(4, activation="relu"), layers.Dense(1)]
    )
    model = built(make_config())
    for ours, theirs in zip(model.get_weights(), script.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("layer", "key", "message"),
    [
        ({"Dens": {"units": 1}}, "Dens", "Keras has no layer 'Dens'; did you mean 'Dense'?"),
        ({"Dense": {"unit": 1}}, "Dense.unit", "no argument 'unit'; did you mean 'units'?"),
        ({"Dense": {}}, "Dense", "units"),
        ({"Dense": {"units": -1}}, "Dense.units", "positive integer"),
        ({"Dense": {"units": 2, "activation": "rleu"}}, "Dense.activation", "did you mean 'relu'?"),
        ({"Dense": {"units": 2, "kernel_initializer": "he_norml"}},
         "Dense.kernel_initializer", "he_norml; did you mean 'he_normal'?"),
        ({"Dense": {"units": 2, "kernel_initializer": {"HeNorml": {}}}},
         "Dense.kernel_initializer.HeNorml", "did you mean 'HeNormal'?"),
        ({"Conv2D": {"filters": 2, "kernel_size": 3}}, "Conv2D", "ndim"),
    ],
)  # fmt: skip
def test_what_keras_refuses_of_a_layer_has_its_key(
    make_config: MakeConfig, layer: dict[str, Any], key: str, message: str
) -> None:
    ((found, text),) = refused(make_config(model={"layers": [layer, HEAD]}))
    assert found == f"model.layers.0.{key}"
    assert message in text


def test_all_refused_layers_are_named_at_once(make_config: MakeConfig) -> None:
    found = refused(make_config(model={"layers": [{"Dens": {}}, {"Flaten": {}}, HEAD]}))
    assert [key for key, _ in found] == ["model.layers.0.Dens", "model.layers.1.Flaten"]


def test_all_names_of_model_and_compile_are_told_at_once(make_config: MakeConfig) -> None:
    unknown = {"Dens": {"units": 2, "activation": "rellu"}}
    refusing = {"Dense": {"unit": 2, "activation": "rleu", "bias_initializer": "zeroes"}}
    nested = {"Dense": {"units": 2, "kernel_initializer": {"HeNorml": {}},
                        "bias_initializer": {"Zeroes": {}}}}  # fmt: skip
    compiled = {"loss": "msee", "optimizer": {"Adma": {}}, "metrics": ["maee"]}
    config = make_config(model={"layers": [unknown, refusing, nested]}, compile=compiled)
    assert [key.removeprefix("model.layers.") for key, _ in refused(config)] == [
        "0.Dens",
        "0.Dens.activation",
        "1.Dense.unit",
        "1.Dense.activation",
        "1.Dense.bias_initializer",
        "2.Dense.kernel_initializer.HeNorml",
        "2.Dense.bias_initializer.Zeroes",
        "compile.optimizer",
        "compile.loss",
        "compile.metrics.0",
    ]


@pytest.mark.parametrize(
    ("changes", "key", "message"),
    [
        ({"loss": "msee"}, "compile.loss", "Keras has no loss 'msee'; did you mean"),
        ({"loss": "mse", "optimizer": {"Adma": {}}}, "compile.optimizer", "did you mean 'Adam'?"),
        ({"loss": "mse", "optimizer": {"Adam": {"lr": 0.1}}}, "compile.optimizer.Adam.lr",
         "Adam has no argument 'lr'"),
        ({"loss": "mse", "optimizer": {"Adam": {"learning_rate": 5}}},
         "compile.optimizer.Adam.learning_rate", "should be float"),
        ({"loss": "mse", "metrics": ["mea"]}, "compile.metrics.0", "Keras has no metric 'mea'"),
    ],
)  # fmt: skip
def test_what_keras_refuses_of_compile_has_its_key(
    make_config: MakeConfig, changes: dict[str, Any], key: str, message: str
) -> None:
    ((found, text),) = refused(make_config(compile=changes))
    assert found == key
    assert message in text


PRICED = """
import keras

def build():
    inputs = keras.Input((2,))
    return keras.Model(inputs, {"price": keras.layers.Dense(1, name="price")(inputs)})
"""


@pytest.mark.parametrize(
    "loss", [{"Huber": {"delta": 2.0}}, {"keras.losses:Huber": {"delta": 2.0}}]
)
def test_the_loss_of_a_lone_named_output_may_have_arguments(
    make_config: MakeConfig, loss: dict[str, Any]
) -> None:
    factory = {"factory": {"callable": "rows:build"}}
    config = make_config(PRICED, model=factory, compile={"loss": {"price": loss}})
    rows = Rows(x=np.zeros((4, 2), np.float32), y={"price": np.zeros(4, np.float32)})
    model = build_model(config, Settings(seed=0), rows)
    found = keras_internals.compile_arguments(model)["loss"]["price"]
    assert keras_internals.function_arguments(found) == {"delta": 2.0}


@pytest.mark.parametrize("short", ["mse", "MAE", "mape", "msle", "bce", "kld"])
def test_short_names_of_losses_and_metrics_take_arguments(
    make_config: MakeConfig, short: str
) -> None:
    named = {short: {"name": "own"}}
    config = make_config()
    loss = objects.make(keras.losses, Named.model_validate(named), ("compile", "loss"), config)
    assert (loss.name, loss.fn) == ("own", keras.losses.get(short))
    if short != "kld":  # which Keras knows as a loss alone
        metric = objects.make(keras.metrics, Named.model_validate(named), ("compile",), config)
        assert (metric.name, type(metric)) == ("own", type(keras.metrics.get(short)))


def test_an_output_that_does_not_fit_the_targets_is_refused(make_config: MakeConfig) -> None:
    ((key, text),) = refused(make_config(model={"layers": [{"Dense": {"units": 3}}]}))
    assert key == "compile.loss"
    assert "the output has shape (3,) a row, the targets have ()" in text


def test_class_indices_beyond_the_units_are_refused(make_config: MakeConfig) -> None:
    config = make_config(
        "def three():\n    x, y = line()\n    return x, np.arange(64) % 3\n",
        data={"train": {"callable": "rows:three"}},
        model={"layers": [{"Dense": {"units": 2, "activation": "softmax"}}]},
        compile={"loss": "sparse_categorical_crossentropy"},
    )
    ((_, text),) = refused(config)
    assert "expected class indices from 0 to 1 for 2 units, received 2 in training row 2" in text


def test_a_factory_gets_its_arguments_after_the_seed_is_set(make_config: MakeConfig) -> None:
    code = """
import keras
def build(width):
    dense = [keras.layers.Dense(width), keras.layers.Dense(1)]
    return keras.Sequential([keras.layers.Input((2,)), *dense])
"""
    factory = {"callable": "rows:build", "kwargs": {"width": 3}}
    config = make_config(code, model={"factory": factory})
    first, again = built(config), built(config)
    assert first.layers[0].units == 3
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_factory_that_raises_is_the_users_fault_with_its_line(make_config: MakeConfig) -> None:
    config = make_config(
        "def build():\n    raise ValueError('no width')\n",
        model={"factory": {"callable": "rows:build"}},
    )
    with pytest.raises(UserCodeError, match=r"ValueError: no width \(.*rows\.py:\d+, in build\)"):
        built(config)


def test_a_factory_must_return_a_compiled_model_without_compile(make_config: MakeConfig) -> None:
    code = "import keras\ndef build():\n    return keras.Sequential([keras.layers.Dense(1)])\n"
    config = make_config(code, model={"factory": {"callable": "rows:build"}}, compile=None)
    ((key, text),) = refused(config)
    assert key == "compile"
    assert "not compiled" in text


@pytest.mark.parametrize(
    ("loss", "form", "from_logits"),
    [
        ("mse", "regression", False),
        ("huber", "regression", False),
        ({"BinaryCrossentropy": {"from_logits": True}}, "binary", True),
        ("binary_crossentropy", "binary", False),
        ("bce", "binary", False),
    ],
)
def test_the_form_follows_from_the_loss(
    make_config: MakeConfig, loss: Any, form: str, from_logits: bool
) -> None:
    config = make_config(data={"train": {"callable": "rows:signs"}}, compile={"loss": loss})
    rows = data.load(config).train
    assert forms(built(config), rows) == [(form, from_logits)]


# ------------------------------------------------------------------- leaky relu


def nested() -> keras.Model:
    """Relu in all its places: nested, wrapped, as a layer of its own, in the output."""
    inner = keras.Sequential(
        [layers.Input((3, 2)), layers.TimeDistributed(layers.Dense(4, activation="relu"))],
        name="inner",
    )
    inputs = keras.Input((3, 2))
    value = layers.Flatten()(inner(inputs))
    value = layers.ReLU(name="top")(layers.Dense(4)(value))
    value = layers.Activation("relu6", name="six")(layers.Dense(4)(value))
    value = layers.Dense(4, activation="relu", name="hidden")(value)
    return keras.Model(inputs, layers.Dense(1, activation="relu", name="output")(value))


@pytest.mark.parametrize("slope", [0.2, 0.05])
def test_leaky_relu_takes_every_hidden_place_and_not_the_output(slope: float) -> None:
    changed = leaky_relu.replace_relu(nested(), slope)
    hidden = changed.get_layer("hidden").activation
    wrapped = changed.get_layer("inner").layers[0].layer.activation
    z = np.array([-1.0, 7.0], np.float32)
    for activation in (hidden, wrapped, changed.get_layer("top")):
        np.testing.assert_allclose(activation(z), [-slope, 7.0], rtol=1e-6)
    np.testing.assert_allclose(changed.get_layer("six")(z), [-slope, 6.0], rtol=1e-6)
    assert changed.get_layer("output").activation is keras.activations.relu


def test_a_model_with_leaky_relu_comes_back_from_its_file(tmp_path: Path) -> None:
    changed = leaky_relu.replace_relu(nested(), 0.05)
    changed.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    x = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)
    np.testing.assert_array_equal(loaded(x), changed(x))


def hidden_relu(model: keras.Model) -> list[tuple[str, Any]]:
    inputs = getattr(model, "inputs", None)
    shape = inputs[0].shape[1:] if inputs else (2,)
    x = np.zeros((2, *shape), np.float32)
    return Probe(model).hidden_relu(Rows(x=x, y=np.zeros(2)))


def obstacle_of(model: keras.Model, config: Config) -> str | None:
    return leaky_relu.obstacle(model, config, hidden_relu(model))


def test_leaky_relu_is_an_option_for_layers(make_config: MakeConfig) -> None:
    config = make_config()
    assert obstacle_of(built(config), config) is None
    changed = built(config, Settings(seed=7, negative_slope=0.2))
    assert changed.layers[0].activation is keras.activations.leaky_relu
    np.testing.assert_array_equal(changed.get_weights()[0].shape, (2, 4))


def test_leaky_relu_is_passed_over_without_a_hidden_relu(make_config: MakeConfig) -> None:
    config = make_config(model={"layers": [{"Dense": {"units": 1, "activation": "relu"}}]})
    obstacle = obstacle_of(built(config), config)
    assert obstacle == "no hidden layer of the model applies relu"


SUBCLASSED = """
import keras
class Mine(keras.Model):
    def __init__(self{argument}):
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation={activation})
        self.head = keras.layers.Dense(1)
    def call(self, inputs):
        return self.head(self.hidden(inputs))
def build({parameter}):
    return Mine({parameter_given})
"""


def test_leaky_relu_is_passed_over_inside_the_users_own_class(make_config: MakeConfig) -> None:
    code = SUBCLASSED.format(argument="", activation="'relu'", parameter="", parameter_given="")
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    obstacle = obstacle_of(built(config), config)
    assert obstacle is not None
    assert "let the factory take an `activation` argument" in obstacle


def test_a_factory_that_takes_an_activation_gets_leaky_relu(make_config: MakeConfig) -> None:
    code = SUBCLASSED.format(
        argument=", activation",
        activation="activation",
        parameter="activation='relu'",
        parameter_given="activation",
    )
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    assert obstacle_of(built(config), config) is None
    changed = built(config, Settings(seed=7, negative_slope=0.2))
    assert changed.hidden.activation is keras.activations.leaky_relu


# ------------------------------------------------------------------- saving


def test_the_saved_model_standardises_by_itself(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(
        data={"train": {"callable": "rows:line", "kwargs": {"slope": 3.0}}, "standardize": True}
    )
    dataset = data.load(config)
    model = build_model(config, SEED, dataset.train)
    saving.deployable(model, dataset.scalings, dataset.train).save(tmp_path / "m.keras")

    loaded = keras.models.load_model(tmp_path / "m.keras")

    raw = data.read(config, "train").x
    expected = model.predict(dataset.train.x, verbose=0)
    np.testing.assert_allclose(loaded.predict(raw, verbose=0), expected, rtol=1e-6, atol=1e-6)
    assert loaded.optimizer.get_config()["learning_rate"] == pytest.approx(0.01)


def test_a_model_without_standardisation_is_saved_as_it_is(make_config: MakeConfig) -> None:
    config = make_config()
    model = built(config)
    assert saving.deployable(model, {}, data.load(config).train) is model


def test_leaky_relu_leaves_the_users_own_loss_alone(make_config: MakeConfig) -> None:
    code = """
import keras
def own(y, p):
    return keras.ops.abs(y - p)
def build():
    dense = [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.layers.Input((2,)), *dense])
    model.compile(loss=own)
    return model
"""
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    config = config.model_copy(update={"compile": None})
    changed = built(config, Settings(seed=7, negative_slope=0.2))
    assert changed.loss.__name__ == "own"
    assert changed.layers[0].activation is keras.activations.leaky_relu


@pytest.mark.parametrize(
    "layer",
    [
        layers.LSTM(3, activation="relu"),
        layers.TimeDistributed(layers.Dense(3, activation="relu")),
        layers.Dense(3, activation=layers.ReLU()),
    ],
)
def test_relu_inside_keras_layers_can_be_replaced(
    make_config: MakeConfig, layer: keras.Layer
) -> None:
    model = keras.Sequential([layers.Input((4, 2)), layer, layers.Flatten(), layers.Dense(1)])
    assert obstacle_of(model, make_config()) is None
    changed = leaky_relu.replace_relu(model, 0.2)
    left = obstacle_of(changed, make_config())
    assert left == "no hidden layer of the model applies relu"


def own_relu() -> keras.Layer:
    class Own(keras.Layer):
        def call(self, inputs: Any) -> Any:
            return tf.nn.relu(inputs)

    return Own(name="own")


@pytest.mark.parametrize(
    ("between", "places"),
    [
        ([layers.Lambda(lambda z: tf.nn.relu(z), name="own")], "own"),
        ([own_relu()], "own"),
        # Leaky relu in some places would leave the others to die.
        ([layers.Activation("relu"), own_relu()], "own"),
    ],
)
def test_relu_in_code_of_the_users_own_is_named(
    make_config: MakeConfig, between: list[keras.Layer], places: str
) -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(3), *between, layers.Dense(1)])
    assert obstacle_of(model, make_config()) == (
        f"the relu of {places} is applied inside code of your own; let the factory take an "
        "`activation` argument, which gets leaky relu"
    )


@keras.saving.register_keras_serializable("test_models")
class Inner(keras.Layer):
    """A layer of the user's own that holds a Dense of Keras."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dense = layers.Dense(3, activation="relu")

    def build(self, shape: Any) -> None:
        self.dense.build(shape)

    def compute_output_shape(self, shape: Any) -> Any:
        return (*shape[:-1], 3)

    def call(self, inputs: Any) -> Any:
        return self.dense(inputs)


def test_relu_inside_the_users_own_layer_in_one_of_keras_is_named(make_config: MakeConfig) -> None:
    inputs = keras.Input((4, 2))
    wrapped = layers.TimeDistributed(Inner(name="inner"), name="wrapped")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(wrapped)))
    found = obstacle_of(model, make_config())
    assert found is not None
    assert found.startswith("the relu of wrapped/inner/dense")


@pytest.mark.parametrize(
    ("function", "top"),
    [(keras.ops.relu, 7.0), (keras.ops.relu6, 6.0), (tf.nn.relu, 7.0), (tf.nn.relu6, 6.0)],
)
def test_functions_that_are_relu_are_replaced(
    make_config: MakeConfig, function: Any, top: float, tmp_path: Path
) -> None:
    z = np.array([[-1.0, 7.0]], np.float32)
    inputs = keras.Input((2,))
    value = layers.Activation(function)(layers.Dense(2, activation=function)(inputs))
    if function.__module__.startswith("keras"):  # Keras takes it as a part of the graph
        value = function(value)
    model = keras.Model(inputs, layers.Dense(1)(value))
    assert obstacle_of(model, make_config()) is None
    changed = leaky_relu.replace_relu(model, 0.5)
    assert obstacle_of(changed, make_config()) == "no hidden layer of the model applies relu"
    for layer in changed.layers[2:-1]:
        np.testing.assert_allclose(layer(z), [[-0.5, top]])
    changed.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(z), changed(z))


def test_a_function_that_makes_the_output_stays(make_config: MakeConfig) -> None:
    inputs = keras.Input((2,))
    hidden = layers.Dense(2, activation="relu")(inputs)
    model = keras.Model(inputs, keras.ops.relu(layers.Dense(1)(hidden)))
    changed = leaky_relu.replace_relu(model, 0.2)
    assert not hidden_relu(changed)
    assert (changed(np.random.default_rng(0).normal(size=(50, 2))).numpy() == 0).any()


def test_relu_of_the_output_alone_is_no_place_for_leaky_relu(make_config: MakeConfig) -> None:
    output = layers.TimeDistributed(layers.Dense(1, activation="relu"))
    model = keras.Sequential([layers.Input((4, 2)), layers.Dense(2), output])
    obstacle = obstacle_of(model, make_config())
    assert obstacle == "no hidden layer of the model applies relu"


def test_softmax_under_an_own_loss_goes_by_the_targets(make_config: MakeConfig) -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Dense(2, activation="softmax")])
    model.compile(loss=lambda y, p: p)
    rows = data.load(make_config()).train
    one_hot = Rows(x=rows.x, y=np.eye(2)[np.zeros(64, int)])
    assert forms(model, one_hot) == [("categorical", False)]
    assert forms(model, rows) == [("sparse", False)]


# ---------------------------------------------------------- reinitialize and clip_gradients


REINITIALIZED = Settings(seed=7, initializer="he_normal")


def test_reinitialize_changes_hidden_kernels_and_biases_alone(make_config: MakeConfig) -> None:
    bad = {"kernel_initializer": "zeros", "bias_initializer": {"Constant": {"value": -5.0}}}
    dense = {"Dense": {"units": 4, "activation": "relu", **bad}}
    last = {"Dense": {"units": 1, **bad}}
    config = make_config(model={"layers": [dense, "BatchNormalization", dense, last]})
    before, after = built(config), built(config, REINITIALIZED)
    for index in (0, 2):
        kernel, bias = after.layers[index].get_weights()
        assert kernel.std() > 0.1
        assert not bias.any()
    for index in (1, 3):
        for one, other in zip(
            before.layers[index].get_weights(), after.layers[index].get_weights(), strict=True
        ):
            np.testing.assert_array_equal(one, other)
    again = built(config, REINITIALIZED)
    other = built(config, Settings(seed=8, initializer="he_normal"))
    for one, two in zip(after.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert (other.layers[0].get_weights()[0] != after.layers[0].get_weights()[0]).any()


def test_reinitialize_works_on_a_class_of_the_users_own(make_config: MakeConfig) -> None:
    code = """
import keras
class Mine(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(4, activation="relu", kernel_initializer="zeros")
        self.frozen = keras.layers.Dense(4, kernel_initializer="zeros", trainable=False)
        self.head = keras.layers.Dense(1, kernel_initializer="zeros")
    def build(self, shape):
        self.mix = self.add_weight(shape=(4, 4), initializer="zeros", name="mix")
        self.shift = self.add_weight(shape=(4,), initializer=keras.initializers.Constant(-3))
        super().build(shape)
    def call(self, x):
        return self.head(self.frozen(keras.ops.relu(self.hidden(x) @ self.mix + self.shift)))
def build():
    return Mine()
"""
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    assert "reinitialize" not in obstacles_of(config)
    changed = built(config, REINITIALIZED)
    assert changed.hidden.kernel.numpy().any()
    assert changed.mix.numpy().any()
    assert not changed.shift.numpy().any()
    assert not changed.frozen.kernel.numpy().any()
    assert not changed.head.kernel.numpy().any()


def obstacles_of(config: Config, settings: Settings = SEED) -> dict[str, str]:
    rows = data.load(config).train
    model = build_model(config, settings, rows)
    hidden = Probe(model).hidden_relu(rows)
    found = find_outputs(model, config, rows)
    return obstacles(model, config, settings, rows, hidden, found)


def test_remedies_without_a_place_are_obstructed(make_config: MakeConfig) -> None:
    clipped = {"Adam": {"learning_rate": 0.1, "clipnorm": 2.0}}
    config = make_config(
        model={"layers": [{"Dense": {"units": 1}}]}, compile={"optimizer": clipped, "loss": "mse"}
    )
    assert obstacles_of(config) == {
        "leaky_relu": "no hidden layer of the model applies relu",
        "clipping": "the optimizer clips gradients already, with clipnorm 2",
        "lower_dropout": "the model has no Dropout layer",
        "lower_penalty": "the model has no penalty on its weights",
        "momentum": "the optimizer is Adam, and no SGD of Keras's",
        "reinitialize": "no hidden layer has a kernel",
    }


def test_listed_layers_are_fresh_whatever_their_biases_are_drawn_from(
    make_config: MakeConfig,
) -> None:
    drawn = {"units": 8, "activation": "relu", "bias_initializer": "random_normal"}
    config = make_config(model={"layers": [{"Dense": drawn}, {"Dense": {"units": 1}}]})
    found = obstacles_of(config)
    assert "fresh_weights" not in found
    assert "standardize inputs" not in found


def test_remedies_in_force_are_no_obstacles(make_config: MakeConfig) -> None:
    settings = Settings(
        seed=7,
        negative_slope=0.2,
        clip_norm=1.0,
        initializer="he_normal",
        momentum=0.9,
        dropout_cap=0.0,
        penalty_cap=1e-4,
    )
    config = make_config(compile={"optimizer": "sgd", "loss": "mse"})
    assert obstacles_of(config, settings) == {}


def test_weights_from_a_file_are_not_reinitialised(make_config: MakeConfig, tmp_path: Path) -> None:
    stack = [layers.Dense(4, activation="relu"), layers.Dense(1)]
    keras.Sequential([layers.Input((2,)), *stack]).save(tmp_path / "m.keras")
    config = make_config(model={"file": "m.keras"})
    found = obstacles_of(config)
    scaled = {"standardize inputs", "standardize targets"}
    others = {
        "new_seed",
        "reinitialize",
        "momentum",
        "fresh_weights",
        "lower_dropout",
        "lower_penalty",
    }
    assert found.keys() == others | scaled
    assert "initial_weights: fresh draws new ones" in found["reinitialize"]


def test_no_penalty_is_above_the_cap_and_none_is_so_in_plain_keras(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    both = {"L1L2": {"l1": 1e-6, "l2": 1.0}}
    config = make_config(
        model={
            "layers": [
                {"Reshape": {"target_shape": [2, 1]}},
                {"LSTM": {"units": 3, "recurrent_regularizer": "l2", "bias_regularizer": "l1"}},
                {"Dense": {"units": 4, "kernel_regularizer": both, "activity_regularizer": "l1"}},
                {"Dense": {"units": 1}},
            ]
        },
        compile={"optimizer": {"AdamW": {"weight_decay": 3.0}}, "loss": "mse"},
    )
    assert "lower_penalty" not in obstacles_of(config)
    model = built(config, Settings(seed=7, penalty_cap=0.0001))
    model.save(tmp_path / "m.keras")
    for each in (model, keras.models.load_model(tmp_path / "m.keras")):
        _, cell, dense, _ = each.layers
        kept = [cell.cell.recurrent_regularizer, cell.cell.bias_regularizer]
        kept += [dense.kernel_regularizer]
        assert float(dense.activity_regularizer.l1) == pytest.approx(0.01)
        strengths = [[*map(float, kind.get_config().values())] for kind in kept]
        assert np.concatenate(strengths) == pytest.approx([1e-4, 1e-4, 1e-6, 1e-4])
        assert dense.kernel.regularizer is dense.kernel_regularizer
        assert each.optimizer.weight_decay == 1e-4
    before = built(config, Settings(seed=7))
    assert [*before.get_weights()[0].flat] == [*model.get_weights()[0].flat]
    assert keras_internals.weight_penalty(before) > 50 * keras_internals.weight_penalty(model)


class _Own(keras.regularizers.Regularizer):
    def __call__(self, x: Any) -> Any:
        return keras.ops.sum(x**4)


def _own(weights: Any) -> Any:
    return keras.ops.sum(weights)


@pytest.mark.parametrize(
    ("regularizer", "optimizer", "reason"),
    [
        (_Own(), None, "the regularizer _Own of layer last is your own: weaken it there"),
        (_own, None, "the regularizer _own of layer last is your own: weaken it there"),
        (keras.regularizers.L2(1e-4), None, "no penalty on its weights is stronger than 0.0001"),
        (keras.regularizers.L2(1e-4), keras.optimizers.AdamW(weight_decay=0.004), None),
        (keras.regularizers.L1(0.01), None, None),
        (None, None, "the model has no penalty on its weights"),
    ],
)
def test_a_penalty_of_the_users_own_is_not_lowered_nor_a_usual_one(
    regularizer: Any, optimizer: Any, reason: str | None
) -> None:
    dense = layers.Dense(1, kernel_regularizer=regularizer, name="last")
    model = keras.Sequential([layers.Input((2,)), dense])
    assert penalty.obstacle(model, [] if optimizer is None else [optimizer]) == reason


@pytest.mark.parametrize(("cap", "rates"), [(None, [0.5, 0.1, 0.3]), (0.2, [0.2, 0.1, 0.2]),
                                            (0.0, [0.0, 0.0, 0.0])])  # fmt: skip
def test_no_dropout_is_above_the_cap_and_none_is_so_in_plain_keras(
    make_config: MakeConfig, tmp_path: Path, cap: float | None, rates: list[float]
) -> None:
    kinds: list[Any] = [{"Dropout": {"rate": 0.5}}, {"AlphaDropout": {"rate": 0.1}},
                        {"GaussianDropout": {"rate": 0.3}}]  # fmt: skip
    config = make_config(
        model={"layers": [{"Dense": {"units": 64}}, *kinds, {"Dense": {"units": 1}}]}
    )
    settings = Settings(seed=7, dropout_cap=cap)
    model = built(config, settings)
    assert "lower_dropout" not in obstacles_of(config, settings)
    x = np.ones((4, *model.input_shape[1:]), np.float32)
    random = any(
        not np.array_equal(model(x, training=True), model(x, training=False)) for _ in range(3)
    )
    assert random == any(rates)
    model.save(tmp_path / "m.keras")
    for each in (model, keras.models.load_model(tmp_path / "m.keras")):
        assert [layer.rate for layer in each.layers if hasattr(layer, "rate")] == rates


def test_clipping_reaches_the_optimizer_inside_a_loss_scale(make_config: MakeConfig) -> None:
    code = """
import keras
def build():
    dense = [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.layers.Input((2,)), *dense])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(1.0)), loss="mse")
    return model
"""
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    config = config.model_copy(update={"compile": None})
    changed = built(config, Settings(seed=7, clip_norm=0.5))
    assert changed.optimizer.inner_optimizer.global_clipnorm == 0.5


@pytest.mark.parametrize("bound", ["clipnorm", "clipvalue", "global_clipnorm"])
def test_a_bound_on_gradients_takes_the_place_of_the_configs(
    make_config: MakeConfig, bound: str
) -> None:
    sgd = {"SGD": {"learning_rate": 0.01, bound: 1e-3}}
    config = make_config(compile={"optimizer": sgd, "loss": "mse"})
    assert clipping(built(config, Settings(seed=7)).optimizer) == (bound, 1e-3)
    optimizer = built(config, Settings(seed=7, clip_norm=1.0)).optimizer
    assert clipping(optimizer) == ("global_clipnorm", 1.0)
    assert [optimizer.clipnorm, optimizer.clipvalue] == [None, None]


def test_sgd_gathers_momentum_and_does_so_in_plain_keras(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    sgd = {"SGD": {"learning_rate": 0.01}}
    config = make_config(compile={"optimizer": sgd, "loss": "mse"})
    assert "momentum" not in obstacles_of(config)
    changed = built(config, Settings(seed=7, momentum=0.9))
    plain = built(config, Settings(seed=7))
    by_hand = keras.models.clone_model(plain)
    by_hand.set_weights(plain.get_weights())
    by_hand.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
    x = np.random.default_rng(0).normal(size=(64, *changed.input_shape[1:])).astype(np.float32)
    y = np.zeros((64, *changed.output_shape[1:]), np.float32)
    for model in (changed, by_hand):
        model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    for ours, theirs in zip(changed.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    changed.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.momentum == 0.9
    assert len(loaded.optimizer.variables) == len(by_hand.optimizer.variables)


SHARED = """
import keras
SGD = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)

def build():
    dense = [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.layers.Input((2,)), *dense])
    model.compile(SGD, loss="mse")
    return model
"""


def test_an_optimizer_of_the_users_own_is_left_as_it_is(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(SHARED, model={"factory": {"callable": "rows:build"}})
    config = config.model_copy(update={"compile": None})
    models = [built(config, Settings(seed=7, momentum=each)) for each in (None, 0.9, None)]
    assert [each.optimizer.momentum for each in models] == [0.0, 0.9, 0.0]
    gathers = models[1]
    gathers.fit(np.ones((8, 2), np.float32), np.ones((8, 1), np.float32), verbose=0)
    gathers.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert loaded.optimizer.momentum == 0.9
    ours, theirs = (each.optimizer.variables for each in (gathers, loaded))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("optimizer", "reason"),
    [
        ({"SGD": {"momentum": 0.5}}, "the optimizer has a momentum of 0.5 already"),
        ("adam", "the optimizer is Adam, and no SGD of Keras's"),
        ({"SGD": {}}, None),
    ],
)
def test_only_sgd_without_momentum_may_be_given_one(
    optimizer: Any, reason: str | None, make_config: MakeConfig
) -> None:
    config = make_config(compile={"optimizer": optimizer, "loss": "mse"})
    assert obstacles_of(config).get("momentum") == reason


def test_a_layer_that_carries_its_state_on_is_refused_with_what_to_write() -> None:
    inputs = keras.Input(batch_shape=(4, 3, 2))
    model = keras.Sequential([inputs, keras.layers.GRU(2, stateful=True, name="memory")])
    rows = Rows(x=np.zeros((8, 3, 2), np.float32), y=np.zeros((8, 2), np.float32))
    with pytest.raises(InvalidError, match=r"layer memory is stateful, .*; leave out stateful"):
        try_call(model, builders.config(), rows, "layers")


def test_weights_of_a_factory_that_were_trained_before_are_told(make_config: MakeConfig) -> None:
    code = """
import keras, numpy as np
def build(trained=True):
    first = keras.layers.Dense(3, activation="relu")
    model = keras.Sequential([keras.layers.Input((2,)), first, keras.layers.Dense(1)])
    if trained:
        first.bias.assign(np.array([0.1, 0.2, -0.3]))
    model.compile("sgd", loss="mse")
    return model
"""
    for trained in (True, False):
        factory = {"callable": "rows:build", "kwargs": {"trained": trained}}
        config = make_config(code, model={"factory": factory})
        config = config.model_copy(update={"compile": None})
        found = obstacles_of(config)
        assert ("fresh_weights" in found) is trained
        assert ("reinitialize" in found) is trained
    drawn = {"Dense": {"units": 3, "bias_initializer": "random_normal"}}
    listed = make_config(model={"layers": [drawn, {"Dense": {"units": 1}}]})
    assert "fresh_weights" not in obstacles_of(listed)


LOADED = """
import keras, numpy as np
def build():
    inner = keras.layers.Input((2,))
    hidden = keras.layers.Dense(3, activation="relu")(inner)
    base = keras.Model(inner, hidden, name="base")
    base.set_weights([np.full(each.shape, 0.123) for each in base.get_weights()])
    base.trainable = False
    scaled = keras.layers.Normalization()
    scaled.adapt(np.array([[0.0, 1.0], [4.0, 3.0]]))
    inputs = keras.layers.Input((2,))
    top = keras.layers.Dense(3, activation="relu", name="top")(base(scaled(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="relu")(top))
    model.compile("sgd", loss="mse")
    return model
"""


@pytest.mark.parametrize("change", [{"negative_slope": 0.2}, {"output_activation": {"": "linear"}}])
def test_a_changed_activation_leaves_what_a_factory_has_loaded(
    make_config: MakeConfig, change: dict[str, Any]
) -> None:
    config = make_config(LOADED, model={"factory": {"callable": "rows:build"}}, compile=None)
    plain, recorder = built(config), Recorder()
    settings = Settings(seed=7, **change)
    changed = build_model(config, settings, data.load(config).train, recorder)
    base = changed.get_layer("base")
    assert not base.trainable_variables
    np.testing.assert_array_equal(base.get_weights()[0], np.full((2, 3), np.float32(0.123)))
    for ours, theirs in zip(changed.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    scaled = next(each for each in changed.layers if isinstance(each, layers.Normalization))
    np.testing.assert_array_equal(scaled(np.array([[2.0, 3.0]], np.float32)), [[0.0, 1.0]])
    found = obstacles_of(config)
    assert "fresh_weights" in found
    assert "reinitialize" not in found  # the head is fresh


def test_another_seed_of_a_factory_with_leaky_relu_needs_no_building(
    make_config: MakeConfig,
) -> None:
    code = """
import keras
def build():
    dense = [keras.layers.Dense(3, activation="relu"), keras.layers.Dense(1)]
    return keras.Sequential([keras.layers.Input((2,)), *dense])
"""
    config = make_config(code, model={"factory": {"callable": "rows:build"}})
    rows, recorder = data.load(config).train, Recorder()
    model = build_model(config, Settings(seed=7, negative_slope=0.2), rows, recorder)
    replay = Replay(model, recorder, 7)
    assert replay.faithful
    other = build_model(config, Settings(seed=8, negative_slope=0.2), rows)
    for ours, theirs in zip(replay.weights(8), other.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
