"""What Keras warns of reaches whoever runs it, and what is no word on the model does not."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.model import objects, saving
from orchestrator.record.events import Warned
from orchestrator.record.records import Settings
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.building import keras_warnings, preparation
from orchestrator.training.attempt.task import Task
from tests.conftest import MakeConfig

SOFTMAX = {
    "model": {"layers": [{"Dense": {"units": 1, "activation": "softmax"}}]},
    "data": {"train": {"callable": "rows:signs"}},
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("sections", "count"), [(SOFTMAX, 1), ({}, 0)])
def test_an_attempt_and_its_preparation_pass_on_what_keras_warns_of_once(
    make_config: MakeConfig, tmp_path: Any, sections: dict[str, Any], count: int
) -> None:
    config = make_config(**sections)
    told = preparation.prepare(config).warnings
    assert [text.startswith("Keras warns: You are using a softmax over") for text in told] == (
        [True] * count
    )
    events: list[Any] = []
    task = Task(
        config=config, settings=Settings(seed=0), seeds=(), attempt=1, directory=tmp_path,
        fingerprint=None,
    )  # fmt: skip
    training.train(task, events.append)
    assert [each.message for each in events if isinstance(each, Warned)] == [*told]


def called_by(function: Callable[[], Any], module: Any) -> None:
    """Call a function as a module of ours would."""
    exec("function()", {"__name__": module.__name__, "function": function})


def certain() -> None:
    keras.ops.softmax(np.ones((2, 1), "float32"))


def heard(*calls: Callable[[], Any]) -> list[str]:
    told: list[str] = []
    with keras_warnings.heard(told.append):
        warnings.simplefilter("always")
        for call in calls:
            call()
    return told


def test_only_what_the_config_asks_for_is_heard() -> None:
    asked, looked = (
        (lambda: called_by(certain, objects)),
        (lambda: called_by(certain, saving)),
    )
    with pytest.warns(UserWarning, match="softmax over axis"):
        assert heard(looked) == []
    with pytest.warns(UserWarning, match="softmax over axis"):
        (text,) = heard(asked, asked)
    assert text.startswith("Keras warns: You are using a softmax over axis -1")


def test_names_that_will_change_and_warnings_of_others_are_not_heard() -> None:
    def deprecated() -> None:
        keras.layers.LeakyReLU(alpha=0.1)

    def own() -> None:
        warnings.warn("the user's own", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="deprecated|own"):
        assert heard(lambda: called_by(deprecated, objects), lambda: called_by(own, objects)) == []
