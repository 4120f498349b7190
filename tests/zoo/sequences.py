"""Sequences, images and layers that stand in the way of a simple look at an output."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tests.zoo.specimen import (
    Array,
    Rows,
    Specimen,
    auc,
    compiled,
    normal,
    predict,
    r2,
    stack,
)

ops = keras.ops
layers = keras.layers
_own = keras.saving.register_keras_serializable(package="zoo")


# Short words, written a letter at a time with pauses, as in speech.


def _spoken(seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    y = draw.integers(1, 4, size=(480, 3))
    frames = np.zeros((480, 9), "int64")
    for row, letters in enumerate(y):
        for index, letter in enumerate(letters):
            frames[row, 3 * index + draw.integers(2)] = letter
    x = np.eye(4)[frames] + 0.2 * draw.normal(size=(480, 9, 4))
    return x.astype("float32"), y.astype("int32"), None


def _ctc(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((9, 4)),
        layers.Conv1D(16, 3, padding="same", activation=activation, name="hidden"),
        layers.Dense(4, name="head"),
    ])  # fmt: skip
    return compiled(model, keras.losses.CTC(), 0.01)


def _words_right(model: keras.Model, x: Array, y: Array) -> float:
    right = 0
    for best, word in zip(predict(model, x).argmax(axis=-1), y, strict=True):
        once = [each for at, each in enumerate(best) if at == 0 or each != best[at - 1]]
        right += [each for each in once if each] == word.tolist()
    return right / len(y)


# Sentences of word numbers, padded with 0.


def _sentences(seed: int) -> Rows:
    """1 where good words are more than bad ones."""
    draw = np.random.default_rng(seed)
    x = draw.integers(1, 50, size=(600, 12))
    x[np.arange(12)[None] >= draw.integers(4, 13, size=(600, 1))] = 0
    tone = ((x >= 1) & (x < 10)).sum(axis=1) - ((x >= 10) & (x < 19)).sum(axis=1)
    return x.astype("int32"), (tone > 0).astype("float32"), None


def _bag(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((12,), dtype="int32"),
        layers.Embedding(50, 8, mask_zero=True),
        layers.GlobalAveragePooling1D(),
        layers.Dense(16, activation=activation, name="hidden"),
        layers.Dropout(0.3),
        layers.Dense(1, activation="sigmoid", name="head"),
    ])  # fmt: skip
    return compiled(model, "binary_crossentropy", 0.01)


def _recurrent(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((12,), dtype="int32"),
        layers.Embedding(50, 8, mask_zero=True),
        layers.LSTM(12),
        layers.Dense(16, activation=activation, name="hidden"),
        layers.Dense(1, activation="sigmoid", name="head"),
    ])  # fmt: skip
    return compiled(model, "binary_crossentropy", 0.02)


def _binary_auc(model: keras.Model, x: Array, y: Array) -> float:
    return auc(y, predict(model, x))


def _tagged(seed: int) -> Rows:
    """Each word's class depends on it and the one before; padding has no class."""
    x, _, _ = _sentences(seed)
    before = np.pad(x, ((0, 0), (1, 0)))[:, :-1]
    return x, np.where(x == 0, 0, (x + before) % 2 + (x > 25)).astype("int32"), None


def _tagger(activation: Any = "relu") -> keras.Model:
    words = keras.Input((12,), dtype="int32")
    x = layers.Embedding(50, 16, mask_zero=True)(words)
    x = layers.GRU(24, return_sequences=True)(x)
    x = layers.Dense(24, activation=activation, name="hidden")(x)
    x = layers.Dense(3, activation="softmax", name="head")(x)
    return compiled(keras.Model(words, x), "sparse_categorical_crossentropy", 0.02)


def _alone(seed: int) -> Rows:
    """Each word has a class of its own; padding, more than half of all, has none."""
    x, _, _ = _sentences(seed)
    x[:, 6:] = 0
    return x, np.where(x == 0, 0, x % 3).astype("int32"), None


def _word_by_word(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((12,), dtype="int32"),
        layers.Embedding(50, 16, mask_zero=True),
        layers.Dense(24, activation=activation, name="hidden"),
        layers.Dense(3, activation="softmax", name="head"),
    ])  # fmt: skip
    return compiled(model, "sparse_categorical_crossentropy", 0.01)


def _tags_right(model: keras.Model, x: Array, y: Array) -> float:
    return float(np.mean((predict(model, x).argmax(axis=-1) == y)[x > 0]))


def _next(seed: int) -> Rows:
    """A counter with steps of 1 or 2: the next number is one of two."""
    draw = np.random.default_rng(seed)
    steps = np.cumsum(draw.integers(1, 3, size=(500, 9)), axis=1) + draw.integers(10, size=(500, 1))
    return (steps[:, :-1] % 10).astype("int32"), (steps[:, 1:] % 10).astype("int32"), None


def _transformer(activation: Any = "relu") -> keras.Model:
    words = keras.Input((8,), dtype="int32")
    x = layers.Embedding(10, 16)(words)
    attended = layers.MultiHeadAttention(2, 8)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization()(layers.Add()([x, attended]))
    inner = layers.Dense(32, activation=activation, name="hidden")(x)
    x = layers.LayerNormalization()(layers.Add()([x, layers.Dense(16)(inner)]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(keras.Model(words, layers.Dense(10, name="head")(x)), loss, 0.01)


def _likely(model: keras.Model, x: Array, y: Array) -> float:
    """Best reachable cross-entropy, log 2, over the model's."""
    loss = keras.losses.sparse_categorical_crossentropy(y, predict(model, x), from_logits=True)
    return float(np.log(2) / np.mean(loss))


def _series(seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    phase, speed = draw.uniform(0, 6.28, (500, 1)), draw.uniform(0.3, 0.8, (500, 1))
    waves = np.sin(phase + speed * np.arange(24)) + 0.05 * draw.normal(size=(500, 24))
    return waves[:, :20, None].astype("float32"), waves[:, 20:].astype("float32"), None


def _forecast(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((20, 1)),
        layers.GRU(16),
        layers.Dense(16, activation=activation, name="hidden"),
        layers.Dense(4, name="head"),
    ])  # fmt: skip
    return compiled(model, "mse", 0.02)


def _r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(y, predict(model, x))


# Images that are mostly black, the border always.


def _strokes(seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    x = np.zeros((320, 16, 16, 1), "float32")
    for image in x:
        top, left, length = draw.integers(3, 11), draw.integers(3, 11), draw.integers(2, 5)
        if draw.uniform() < 0.5:
            image[top, left : left + length] = 1
        else:
            image[top : top + length, left] = 1
    return x, x, None


def _autoencoder(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((16, 16, 1)),
        layers.Conv2D(8, 3, strides=2, padding="same", activation=activation, name="hidden"),
        layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation=activation),
        layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="head"),
    ])  # fmt: skip
    return compiled(model, "binary_crossentropy", 0.01)


def _flat_strokes(seed: int) -> Rows:
    x, _, _ = _strokes(seed)
    return x.reshape(320, 256), x.reshape(320, 256), None


def _flat_autoencoder(activation: Any = "relu") -> keras.Model:
    return compiled(stack(256, 256, "sigmoid", activation, 32), "binary_crossentropy", 0.005)


def _pixels(model: keras.Model, x: Array, y: Array) -> float:
    return auc(y, predict(model, x))


# A base that was trained on something else, and does not train.


def _circles(seed: int) -> Rows:
    _, x = normal(seed, 800, 10)
    return x, (np.abs(x[:, 0]) + np.abs(x[:, 1]) > 1.5).astype("float32"), None


def _transfer(activation: Any = "relu") -> keras.Model:
    base = keras.Sequential([
        keras.Input((10,)),
        layers.Dense(64, activation=activation, kernel_initializer="he_normal"),
        layers.BatchNormalization(),
        layers.Dense(64, activation=activation, kernel_initializer="he_normal"),
    ], name="base")  # fmt: skip
    base.trainable = False
    inputs = keras.Input((10,))
    x = base(inputs, training=False)
    x = layers.Dense(24, activation=activation, name="hidden")(x)
    x = layers.Dense(1, activation="sigmoid", name="head")(x)
    return compiled(keras.Model(inputs, x), "binary_crossentropy", 0.005)


def _normalised(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((10,)),
        layers.Dense(32, use_bias=False),
        layers.BatchNormalization(momentum=0.9),
        layers.Activation(activation),
        layers.Dropout(0.5),
        layers.Dense(32, activation=activation, name="hidden"),
        layers.Dropout(0.3),
        layers.Dense(1, activation="sigmoid", name="head"),
    ])  # fmt: skip
    return compiled(model, "binary_crossentropy", 0.01)


SEQUENCES = (
    Specimen(name="ctc", rows=_spoken, build=_ctc, epochs=40,
             measure=_words_right, yardstick="share of words that are right", least=0.8),
    Specimen(name="text", rows=_sentences, build=_bag, epochs=15,
             measure=_binary_auc, yardstick="AUC", least=0.9),
    Specimen(name="masked_lstm", rows=_sentences, build=_recurrent, epochs=15,
             measure=_binary_auc, yardstick="AUC", least=0.9),
    Specimen(name="masked_tags", rows=_tagged, build=_tagger, epochs=15,
             measure=_tags_right, yardstick="accuracy beside the padding", least=0.8),
    Specimen(name="masked_positions", rows=_alone, build=_word_by_word, epochs=10,
             measure=_tags_right, yardstick="accuracy beside the padding", least=0.95),
    Specimen(name="transformer", rows=_next, build=_transformer, epochs=15,
             measure=_likely, yardstick="best cross-entropy over the model's", least=0.85,
             twins=("constant", "nan")),  # beside a dead layer, the residual is alive
    Specimen(name="forecast", rows=_series, build=_forecast, epochs=15,
             measure=_r2, yardstick="R²", least=0.9),
    Specimen(name="autoencoder", rows=_strokes, build=_autoencoder, epochs=20,
             measure=_pixels, yardstick="AUC of the pixels", least=0.97),
    Specimen(name="dense_autoencoder", rows=_flat_strokes, build=_flat_autoencoder, epochs=40,
             measure=_pixels, yardstick="AUC of the pixels", least=0.9),
    Specimen(name="frozen_base", rows=_circles, build=_transfer, epochs=15,
             measure=_binary_auc, yardstick="AUC", least=0.8),
    Specimen(name="batchnorm_dropout", rows=_circles, build=_normalised, epochs=30,
             measure=_binary_auc, yardstick="AUC", least=0.85),
)  # fmt: skip
