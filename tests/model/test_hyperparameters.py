"""Functions and classes that take KerasTuner's hyperparameters."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config import user_code
from orchestrator.data import load as data
from orchestrator.errors import InvalidError, UserCodeError
from orchestrator.model.build import build_model
from orchestrator.model.hyperparameters import explore
from orchestrator.record.records import Settings
from orchestrator.tuning import space
from tests.conftest import MakeConfig

CODE = """
import keras
import keras_tuner

def build(hp, activation="relu"):
    model = keras.Sequential([keras.Input((2,))])
    for index in range(hp.Int("layers", 1, 3)):
        model.add(keras.layers.Dense(hp.Int(f"units_{index}", 4, 32, step=4), activation))
    drop = hp.Boolean("drop")
    with hp.conditional_scope("drop", [True]):
        if drop:
            hp.Float("rate", 0.1, 0.5)
    model.add(keras.layers.Dense(1))
    return model

class Model(keras_tuner.HyperModel):
    def __init__(self, outputs=1):
        super().__init__()
        self.outputs = outputs

    def build(self, hp):
        rate = hp.Float("lr", 1e-3, 1e-1, sampling="log")
        model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(self.outputs)])
        model.compile(keras.optimizers.Adam(rate), "mse")
        return model

made = Model()

def fails(hp):
    raise ValueError("not today")
"""


def _config(make_config: MakeConfig, callable: str, **factory: Any) -> Any:
    return make_config(CODE, model={"factory": {"callable": f"rows:{callable}", **factory}})


def test_everything_that_the_function_asks_for_is_found(make_config: MakeConfig) -> None:
    found = space.asked(explore(_config(make_config, "build")))
    names = [each.path for each in found]
    assert names[:2] == ["layers", "units_0"]
    assert {"units_1", "units_2", "drop", "rate"} <= set(names)
    layers, units = found[:2]
    assert (layers.kind, layers.low, layers.high, layers.default) == ("int", 1, 3, 1)
    assert (units.low, units.high, units.step, units.hyperparameter) == (4, 32, 4, True)


def test_a_hypermodel_is_one_as_a_class_and_as_an_object(make_config: MakeConfig) -> None:
    for factory in ("Model", "made"):
        (rate,) = space.asked(explore(_config(make_config, factory)))
        assert (rate.path, rate.kind, rate.log, rate.default) == ("lr", "float", True, 1e-3)


def test_the_model_has_the_configs_values_and_defaults_for_the_others(
    make_config: MakeConfig,
) -> None:
    config = _config(make_config, "build", hyperparameters={"layers": 2, "units_1": 12})
    rows = data.load(config).train
    model = build_model(config, Settings(seed=0), rows)
    assert [layer.units for layer in model.layers] == [4, 12, 1]
    assert explore(config)[0]["config"]["default"] == 2
    leaky = build_model(config, Settings(seed=0, negative_slope=0.2), rows)
    assert "leaky" in leaky.layers[0].activation.__name__


def test_values_of_a_trial_are_laid_under_their_own_names(make_config: MakeConfig) -> None:
    config = _config(make_config, "Model", kwargs={"outputs": 2})
    found = space.asked(explore(config))
    changed = space.lay(config, {"lr": 0.05, "batch_size": 8}, found)
    assert changed.model.factory.hyperparameters == {"lr": 0.05}
    assert changed.batch_size == 8
    builder = user_code.factory(changed)
    assert builder is not None
    assert builder.hyperparameters == {"lr": 0.05}
    assert builder.kwargs == {"outputs": 2}


def test_a_function_without_them_is_called_without_them(make_config: MakeConfig) -> None:
    config = make_config(
        "def plain(width=3):\n    return None\n", model={"factory": {"callable": "rows:plain"}}
    )
    builder = user_code.factory(config)
    assert builder is not None
    assert builder.hyperparameters is None
    assert explore(config) == ()


def test_arguments_that_it_does_not_take_are_refused(make_config: MakeConfig) -> None:
    with pytest.raises(InvalidError, match="unexpected keyword argument 'wide'"):
        explore(_config(make_config, "build", kwargs={"wide": 1}))
    with pytest.raises(UserCodeError, match="not today"):
        explore(_config(make_config, "fails"))
