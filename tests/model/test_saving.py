"""The model as it is saved: with the standardisation in front, and all of its own inside."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest

from orchestrator.config.sections.model import FileModel
from orchestrator.data import rows
from orchestrator.data.rows import Rows, Scaling, leaves
from orchestrator.errors import InvalidError
from orchestrator.model import saving
from tests import builders

layers = keras.layers
X = np.random.default_rng(0).normal(size=(16, 2)).astype(np.float32)
Y = X.sum(axis=1)
SCALING = Scaling(mean=np.array([1, -2], "f4"), variance=np.array([4, 0.25], "f4"))


@keras.saving.register_keras_serializable("test_saving")
class Own(keras.Model):
    """A class of the user's with an argument, a step of its own and a counter that it keeps."""

    def __init__(self, width: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width = width
        self.hidden = layers.Dense(width, activation="relu")
        self.head = layers.Dense(1)
        self.steps = self.add_weight(name="steps", initializer="zeros", trainable=False)

    def call(self, x: Any) -> Any:
        return self.head(self.hidden(x))

    def train_step(self, data: Any) -> Any:
        self.steps.assign_add(1.0)
        return super().train_step(data)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "width": self.width}


def trained(model: keras.Model, x: Any, y: Any, **compiled: Any) -> keras.Model:
    model.compile(optimizer=keras.optimizers.Adam(0.125), **{"loss": "mse", **compiled})
    for _ in range(3):
        model.train_on_batch(x, y)
    return model


def sequential() -> keras.Model:
    hidden = layers.Dense(3, activation="relu")
    return keras.Sequential([layers.Input((2,)), hidden, layers.Dense(1)])


def through_a_file(
    model: keras.Model, raw: Rows, scalings: dict[str, Scaling], folder: Path
) -> keras.Model:
    """The deployable model after its round trip, which predicts on raw rows as before."""
    x, _, _ = raw.first(16)
    whole = saving.deployable(model, scalings, raw)
    assert saving.obstacle(whole, raw) is None
    whole.save(folder / "m.keras")
    loaded = keras.saving.load_model(folder / "m.keras")
    standardized, _, _ = rows.ready((x, raw.y, None), scalings)
    expected, found = leaves(model(standardized)), leaves(loaded(x))
    for (_, one), (_, other) in zip(expected, found, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-6)
    return loaded


def test_a_sequential_model_keeps_its_optimizer_with_its_state(tmp_path: Path) -> None:
    model = trained(sequential(), X, Y, metrics=["mae"])
    loaded = through_a_file(model, Rows(x=X, y=Y), {"": SCALING}, tmp_path)
    assert loaded.input_shape == (None, 2)
    assert float(loaded.optimizer.learning_rate) == 0.125
    assert int(loaded.optimizer.iterations) == 3
    for ours, theirs in zip(model.optimizer.variables, loaded.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    raw = X * 2 + 1
    assert set(loaded.evaluate(raw, Y, verbose=0, return_dict=True)) == {"loss", "mae"}
    loaded.train_on_batch(raw, Y)
    assert int(loaded.optimizer.iterations) == 4


@pytest.mark.parametrize("form", ["list", "dict"])
def test_outputs_keep_their_names_losses_and_metrics(tmp_path: Path, form: str) -> None:
    a, b = keras.Input((2,), name="a"), keras.Input((1,), name="b", dtype="int64")
    joined = layers.Concatenate()([a, layers.Flatten()(layers.Embedding(9, 2)(b))])
    price = layers.Dense(1, name="price")(joined)
    kind = layers.Dense(2, activation="softmax", name="kind")(joined)
    ends = [price, kind] if form == "list" else {"price": price, "kind": kind}
    model = keras.Model({"a": a, "b": b}, ends)
    x = {"a": X, "b": np.arange(16)[:, None] % 9}
    y = {"price": Y, "kind": (Y > 0).astype(np.int64)}
    trained(
        model, x, y,
        loss={"price": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"price": 1.0, "kind": 0.5},
        metrics={"kind": ["accuracy"]},
    )  # fmt: skip
    before = model.evaluate(x, y, verbose=0, return_dict=True)

    loaded = through_a_file(model, Rows(x=x, y=y), {"a": SCALING}, tmp_path)

    raw = {**x, "a": X * np.sqrt(SCALING.variance) + SCALING.mean}
    after = loaded.evaluate(raw, y, verbose=0, return_dict=True)
    assert after == pytest.approx(before, rel=1e-4)
    assert after["loss"] == pytest.approx(after["price_loss"] + 0.5 * after["kind_loss"], rel=1e-4)
    assert [each.dtype for each in loaded.inputs] == ["float32", "int64"]
    assert int(loaded.optimizer.iterations) == 3


@pytest.mark.parametrize("form", ["bare", "dict"])
def test_a_single_output_keeps_the_name_by_which_its_loss_knows_it(
    tmp_path: Path, form: str
) -> None:
    inputs = keras.Input((2,))
    price = layers.Dense(1, name="price")(inputs)
    model = keras.Model(inputs, price if form == "bare" else {"price": price})
    y = Y if form == "bare" else {"price": Y}
    trained(model, X, y, loss={"price": "mse"}, metrics={"price": ["mae"]})
    loaded = through_a_file(model, Rows(x=X, y=y), {"": SCALING}, tmp_path)
    if form == "bare":
        assert loaded.output_names == ["price"]
    assert {"loss", "mae"} <= set(loaded.evaluate(X, y, verbose=0, return_dict=True))


def test_several_inputs_by_position_are_standardised_each_by_its_own(tmp_path: Path) -> None:
    a, b = keras.Input((2,)), keras.Input((1,))
    model = keras.Model([a, b], layers.Dense(1)(layers.Concatenate()([a, b])))
    x = (X, X[:, :1])
    trained(model, x, Y)
    other = Scaling(mean=np.array([3], "f4"), variance=np.array([9], "f4"))
    loaded = through_a_file(model, Rows(x=x, y=Y), {"0": SCALING, "1": other}, tmp_path)
    assert len(loaded.inputs) == 2


def test_the_users_own_class_is_inside_with_all_that_is_its_own(tmp_path: Path) -> None:
    model = trained(Own(width=5), X, Y, metrics=["mae"])
    loaded = through_a_file(model, Rows(x=X, y=Y), {"": SCALING}, tmp_path)
    (inner,) = [layer for layer in loaded.layers if isinstance(layer, Own)]
    assert (inner.width, inner.compiled, float(inner.steps)) == (5, True, 3.0)
    assert (int(inner.optimizer.iterations), float(inner.optimizer.learning_rate)) == (3, 0.125)
    for ours, theirs in zip(model.optimizer.variables, inner.optimizer.variables, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    inner.train_on_batch(X, Y)
    assert float(inner.steps) == 4.0


def test_the_users_own_class_without_standardisation_is_saved_as_it_is(tmp_path: Path) -> None:
    model = trained(Own(), X, Y)
    loaded = through_a_file(model, Rows(x=X, y=Y), {}, tmp_path)
    assert isinstance(loaded, Own)
    assert (float(loaded.steps), int(loaded.optimizer.iterations)) == (3.0, 3)


@pytest.mark.parametrize("kind", [np.str_, object])
def test_texts_beside_standardised_numbers_stay_texts(kind: Any, tmp_path: Path) -> None:
    ages, job = keras.Input((2,), name="age"), keras.Input((1,), name="job", dtype="string")
    known = layers.StringLookup(vocabulary=["smith"], output_mode="one_hot")(job)
    model = keras.Model(
        {"age": ages, "job": job}, layers.Dense(1)(layers.Concatenate()([ages, known]))
    )
    model.compile("sgd", "mse")
    x = {"age": X, "job": np.array(["smith", "baker"] * 8, kind)[:, None]}
    loaded = through_a_file(model, Rows(x=x, y=Y), {"age": SCALING}, tmp_path)
    assert [each.dtype for each in loaded.inputs] == ["float32", "string"]


def test_a_deployable_model_leaves_the_trained_one_as_it_was() -> None:
    model = trained(sequential(), X, Y)
    before = [np.array(weight) for weight in model.get_weights()]
    saving.deployable(model, {"": SCALING}, Rows(x=X, y=Y))
    assert model.compiled
    model.train_on_batch(X, Y)
    assert int(model.optimizer.iterations) == 4
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))


# ------------------------------------------------------------------------------- obstacles


def built(kind: type[keras.Model], *arguments: Any) -> keras.Model:
    model = kind(*arguments)
    model(X)
    model.compile(loss="mse")
    return model


def obstacle(model: keras.Model) -> str:
    found = saving.obstacle(model, Rows(x=X, y=Y))
    assert found is not None
    return found


class Unregistered(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.head(x)


@keras.saving.register_keras_serializable("test_saving")
class WithoutConfig(keras.Model):
    def __init__(self, width: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head = layers.Dense(width)

    def call(self, x: Any) -> Any:
        return self.head(x)


class WithoutAnything(keras.Model):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = layers.Dense(width)

    def call(self, x: Any) -> Any:
        return self.head(x)


@keras.saving.register_keras_serializable("test_saving")
class Shifted(keras.layers.Layer):
    """Adds a number that it draws when it is made and does not keep."""

    drawn = 0.0

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        Shifted.drawn += 1.0
        self.shift = Shifted.drawn

    def call(self, x: Any) -> Any:
        return x + self.shift


def test_what_the_users_class_lacks_is_named() -> None:
    decorator = "the decorator keras.saving.register_keras_serializable()"
    assert obstacle(built(Unregistered)) == f"class Unregistered lacks {decorator}"
    assert obstacle(built(WithoutConfig, 2)) == (
        "class WithoutConfig lacks get_config with its own arguments"
    )
    assert obstacle(built(WithoutAnything, 2)) == (
        f"class WithoutAnything lacks {decorator} and "
        "**kwargs in __init__, handed on to super().__init__"
    )


def test_a_class_inside_another_model_is_named_too() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1)(Unregistered()(inputs)))
    assert obstacle(model).startswith("class Unregistered lacks")


@keras.saving.register_keras_serializable("test_saving")
class Sampling(layers.Layer):
    """Draws in inference, too, as Keras's own example of a VAE does."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(1337)

    def call(self, x: Any) -> Any:
        noise = keras.random.normal(keras.ops.shape(x), seed=self.generator)
        return x + noise + keras.random.normal(keras.ops.shape(x))


def test_what_draws_in_inference_is_saved_and_draws_on() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, Sampling()(layers.Dense(2)(inputs)))
    model(X)
    state = np.array(model.layers[-1].generator.state)
    assert saving.obstacle(model, Rows(x=X, y=Y)) is None
    np.testing.assert_array_equal(model.layers[-1].generator.state, state)


def test_a_class_that_loads_as_something_else_is_found_by_its_predictions() -> None:
    inputs = keras.Input((2,))
    model = keras.Model(inputs, Shifted()(inputs))
    assert obstacle(model) == (
        "loaded again, it predicts otherwise: what it computes is not all in its config"
    )


def test_a_lambda_is_an_obstacle_that_keras_explains() -> None:
    model = keras.Sequential([layers.Input((2,)), layers.Lambda(lambda x: x * 2.0)])
    assert "lambda" in obstacle(model).lower()


def test_a_model_of_keras_own_classes_has_no_obstacle() -> None:
    model = keras.Sequential(
        [layers.Input((2,)), layers.Dropout(0.5), layers.BatchNormalization(), layers.Dense(1)]
    )
    model.compile(loss="mse")
    model.optimizer.build(model.trainable_variables)
    assert saving.obstacle(model, Rows(x=X, y=Y)) is None


ONE = np.arange(6, dtype=np.float32).reshape(2, 3)
TWO = np.ones(3, np.float32)


def test_it_is_a_sha256_that_never_changes() -> None:
    # Records that exist were made with it.
    assert saving.digest([ONE, TWO]) == (
        "sha256:33c7a900dd8754936d12cc704488773a3d33bcd6dfac7917c3e9bccdf1b02c6f"
    )


@pytest.mark.parametrize(
    "same",
    [
        lambda: [ONE.copy(), TWO],
        lambda: [np.asfortranarray(ONE), TWO],
        lambda: [np.repeat(ONE, 2, axis=1)[:, ::2], TWO],
        lambda: iter([ONE, TWO]),
    ],
)
def test_the_same_values_give_the_same(same: Callable[[], Any]) -> None:
    assert saving.digest(same()) == saving.digest([ONE, TWO])


@pytest.mark.parametrize(
    "other",
    [
        [TWO, ONE],
        [ONE],
        [ONE, TWO, np.zeros((0, 3), np.float32)],
        [ONE.reshape(3, 2), TWO],
        [ONE.astype(np.float64), TWO],
        [ONE.view(np.int32), TWO],
        [np.nextafter(ONE, np.float32(9)), TWO],
        [np.where(ONE == 0, np.float32(-0.0), ONE), TWO],
        [np.where(ONE == 0, np.float32(np.nan), ONE), TWO],
    ],
)
def test_anything_else_gives_another(other: list[Any]) -> None:
    assert saving.digest(other) != saving.digest([ONE, TWO])


def test_what_is_not_finite_is_hashed_like_all_others() -> None:
    broken = np.array([np.nan, np.inf, -np.inf], np.float32)
    assert (
        saving.digest([broken]) == saving.digest([broken.copy()]) != saving.digest([broken[::-1]])
    )


def test_every_kind_of_weight_can_be_hashed() -> None:
    half = np.ones(4, ml_dtypes.bfloat16)
    kinds = [half, np.array(True), np.array(3, np.int64), np.zeros((0,), np.uint8)]
    assert len({saving.digest([each]) for each in kinds}) == len(kinds)
    assert saving.digest([half]) != saving.digest([half * np.array(2, ml_dtypes.bfloat16)])


def hostile(folder: Path, change: Callable[[dict[str, Any]], None]) -> FileModel:
    """A saved model whose description was changed."""
    model = sequential()
    model.save(folder / "whole.keras")
    with zipfile.ZipFile(folder / "whole.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    described = json.loads(parts["config.json"])
    change(described)
    parts["config.json"] = json.dumps(described).encode()
    with zipfile.ZipFile(folder / "it.keras", "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return FileModel(file="it.keras")


def layer(**fields: Any) -> Callable[[dict[str, Any]], None]:
    def change(described: dict[str, Any]) -> None:
        described["config"]["layers"][1] = {"registered_name": None, **fields}

    return change


def activation(module: str, name: str) -> Callable[[dict[str, Any]], None]:
    function = {"module": module, "class_name": "function", "config": name, "registered_name": name}

    def change(described: dict[str, Any]) -> None:
        described["config"]["layers"][1]["config"]["activation"] = function

    return change


TOUCH = {"args": ["touch", "canary"], "source": "open('canary', 'w')", "command": "touch canary"}


UNREADABLE = "cannot be read as a .keras file: "


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (layer(module="builtins", class_name="exec", config=TOUCH), "your own class exec"),
        (layer(module="subprocess", class_name="Popen", config=TOUCH), "your own class Popen"),
        (activation("os", "system"), "your own function system"),
        (activation("keras.utils", "get_file"), f"{UNREADABLE}.*get_file"),
        (
            layer(module="keras.layers", class_name="StringLookup", config={"vocabulary": "/x"}),
            f"{UNREADABLE}.*(vocabulary|safe)",
        ),
        (layer(module="keras.layers", class_name="Dense", config={"units": "many"}), "units"),
        (layer(module="keras.layers", class_name="\x1b[31m", config={}), UNREADABLE),
    ],
    ids=["exec", "popen", "system", "get_file", "vocabulary", "units", "escape"],
)
def test_a_file_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = hostile(tmp_path, change)
    with pytest.raises(InvalidError, match=said) as caught:
        saving.load_file(plan, builders.config(base=str(tmp_path)), seed=0)
    assert len(str(caught.value)) < 700
    assert "config={" not in str(caught.value)
    assert not Path("canary").exists()


def test_a_lambda_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    touching = layers.Lambda(lambda x: Path("canary").touch() or x)
    keras.Sequential([layers.Input((2,)), touching]).save("it.keras")
    Path("canary").unlink()
    config = builders.config(base=str(tmp_path))
    with pytest.raises(InvalidError, match="cannot be loaded safely.*replace the Lambda"):
        saving.load_file(FileModel(file="it.keras"), config, seed=0)
    assert not Path("canary").exists()


def test_a_file_that_is_many_times_larger_unpacked_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "it.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", b" " * 70_000_000)
    config = builders.config(base=str(tmp_path))
    with pytest.raises(InvalidError, match="unpacked it has 70 MB, more than 100 times its own"):
        saving.load_file(FileModel(file="it.keras"), config, seed=0)
