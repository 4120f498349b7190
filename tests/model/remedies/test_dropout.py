"""Dropout that is lowered: which layers, and where that is of no use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from orchestrator.model.remedies import dropout

layers = keras.layers


def rates(model: keras.Model) -> list[float]:
    """Of every layer that has one, those of nested models included."""
    found = []
    for layer in model.layers:
        inner = layer.layer if isinstance(layer, layers.TimeDistributed) else layer
        found += rates(inner) if hasattr(inner, "layers") else []
        found += [inner.rate] if hasattr(inner, "rate") else []
    return found


def test_nested_and_wrapped_layers_are_lowered_and_saved(tmp_path: Path) -> None:
    inner = keras.Sequential([layers.Input((4,)), layers.Dense(4), layers.Dropout(0.5)])
    inputs = layers.Input((3, 4))
    steps = layers.TimeDistributed(layers.Dropout(0.3))(inputs)
    one = inner(layers.Flatten()(layers.Dense(4)(steps))[:, :4])
    model = keras.Model(inputs, layers.Dense(1)(layers.GaussianDropout(0.05)(one)))
    assert dropout.obstacle(model) is None
    assert sorted(rates(model)) == [0.05, 0.3, 0.5]
    dropout.lower(model, 0.1)
    model.save(tmp_path / "m.keras")
    for each in (model, keras.models.load_model(tmp_path / "m.keras")):
        assert sorted(rates(each)) == [0.05, 0.1, 0.1]


@keras.saving.register_keras_serializable("test_dropout")
class Block(layers.Layer):
    """A layer of one's own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.drop = layers.Dropout(0.5, name="within")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.drop(x, training=training)


class Own(keras.Model):
    """A model of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.drop, self.end = layers.Dropout(0.5, name="mine"), layers.Dense(1)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.end(self.drop(x, training=training))


def attending() -> keras.Model:
    inputs = layers.Input((3, 4))
    attention = layers.MultiHeadAttention(2, 4, dropout=0.5)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(1)(layers.Dropout(0.2)(layers.Flatten()(attention))))


def own() -> keras.Model:
    model = Own()
    model(np.ones((1, 4), np.float32))
    return model


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (attending, "dropout"),
        (lambda: keras.Sequential([layers.Input((4,)), Block(), layers.Dense(1)]), "within"),
        (own, "mine"),
    ],
)
def test_what_saves_a_rate_of_its_own_is_left_alone(make: Any, named: str) -> None:
    told = dropout.obstacle(make())
    assert told is not None and told.startswith(f"the dropout of {named}")
    assert told.endswith("write a lower one there")


def test_a_model_without_dropout_has_none_to_lower() -> None:
    model = keras.Sequential([layers.Input((4,)), layers.Dropout(0.0), layers.Dense(1)])
    assert dropout.obstacle(model) == "the model has no Dropout layer"
