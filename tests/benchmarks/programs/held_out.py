"""Programs that nothing was tuned on: what they come to is reported, and not looked at before."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np

from tests.benchmarks.programs.program import (
    RATE,
    L,
    Program,
    bent,
    build,
    classified,
    compiled,
    dense,
    groups,
    listed,
    network,
    pictures,
    scaled,
)

repairable = partial(listed, "repairable", "held_out")
healthy = partial(listed, "healthy", "held_out")
hopeless = partial(listed, "hopeless", "held_out")


@repairable()
def houses(right: bool) -> Program:
    """Thirteen raw columns and SGD: the loss is NaN."""
    random = np.random.default_rng(11)
    x = random.lognormal(size=(506, 13)) * np.geomspace(0.05, 400, 13)
    y = 22 + 6 * np.tanh(scaled(x)[:, 5]) - 4 * scaled(x)[:, 12] + random.normal(size=506)
    x, y = (scaled(x), scaled(y)) if right else (x.astype("float32"), y.astype("float32"))
    return Program(build(x, [*dense(64, 64), L.Dense(1)], RATE.SGD(0.01), "mse"), x, y, 40)


@repairable()
def salary(right: bool) -> Program:
    """Years of work and a salary, both raw."""
    random = np.random.default_rng(12)
    years = random.uniform(0, 30, (200, 1))
    pay = 30000 + 4200 * years[:, 0] - 60 * years[:, 0] ** 2 + random.normal(size=200) * 4000
    x, y = (scaled(years), scaled(pay)) if right else (years, pay)
    make = build(x, [*dense(10), L.Dense(1)], RATE.Adam(0.01 if right else 0.001), "mse")
    return Program(make, x.astype("float32"), y.astype("float32"), 100, 10)


@repairable()
def one_unit_softmax(right: bool) -> Program:
    """Two classes and softmax of one unit."""
    x, y = groups(500, 2, 8, 13, 0.8)
    end = L.Dense(1, activation="sigmoid" if right else "softmax")
    make = build(x, [*dense(32, 32), end], RATE.Adam(0.001), "binary_crossentropy")
    return Program(make, x, y.astype("float32"), 20, score=classified)


@hopeless()
def class_index_as_number(right: bool) -> Program:
    """Four classes, one sigmoid and binary_crossentropy."""
    x, y = groups(500, 4, 8, 14, 1.2)
    end = L.Dense(4 if right else 1, activation="softmax" if right else "sigmoid")
    loss = "sparse_categorical_crossentropy" if right else "binary_crossentropy"
    make = build(x, [*dense(32, 32), end], RATE.Adam(0.001), loss)
    return Program(make, x, y.astype("float32"), 20, score=classified)


@repairable()
def lstm_relu_raw(right: bool) -> Program:
    """A recurrent net of relu on raw values of hundreds."""
    random = np.random.default_rng(15)
    t = np.cumsum(random.normal(size=700)) * 8 + 300 + 60 * np.sin(np.arange(700) / 9)
    t = scaled(t) if right else t.astype("float32")
    x = np.stack([t[i : i + 12] for i in range(680)])[..., None]
    y = np.array([t[i + 12] for i in range(680)])
    make = build(
        x,
        [L.LSTM(32, activation="tanh" if right else "relu"), L.Dense(1)],
        RATE.Adam(0.003 if right else 0.001),
        "mse",
    )
    return Program(make, x, y, 15)


@repairable()
def stock(right: bool) -> Program:
    """Raw prices around 5,000 and an LSTM."""
    random = np.random.default_rng(16)
    t = 5000 + np.cumsum(random.normal(size=600)) * 30
    t = (scaled(t) if right else t).astype("float32")
    x = np.stack([t[i : i + 10] for i in range(580)])[..., None]
    make = build(x, [L.LSTM(24), L.Dense(1)], RATE.Adam(0.003), "mse")
    return Program(make, x, t[10:590], 15)


@repairable()
def bytes_and_sgd(right: bool) -> Program:
    """Pictures of bytes, a convolution and SGD."""
    x, y = pictures(600, 4, 17)
    x = (x / 255).astype("float32") if right else x.astype("float32")
    layers = [L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), *dense(32)]
    make = build(
        x,
        [*layers, L.Dense(4, activation="softmax")],
        RATE.SGD(0.05 if right else 0.1, momentum=0.9 if right else 0.0),
        "sparse_categorical_crossentropy",
    )
    return Program(make, x, y, 12, score=classified)


@repairable()
def percent_by_sigmoid(right: bool) -> Program:
    """Targets from 0 to 100 behind a sigmoid."""
    x, y = bent(seed=18)
    y = 50 + 15 * scaled(y)
    y = scaled(y) if right else y.astype("float32")
    end = L.Dense(1, activation=None if right else "sigmoid")
    return Program(build(x, [*dense(64, 64), end], RATE.Adam(0.001), "mse"), x, y, 30)


@repairable()
def skewed(right: bool) -> Program:
    """Targets of a hundred to a million, inputs of units of their own."""
    random = np.random.default_rng(19)
    x = random.normal(size=(700, 6)) * np.array([1, 50, 0.01, 1000, 3, 0.2])
    s = scaled(x)
    y = 1e5 * np.exp(0.6 * s[:, 0] + 0.4 * s[:, 1] - 0.3 * s[:, 2])
    x, y = (s, scaled(y)) if right else (x.astype("float32"), y.astype("float32"))
    return Program(build(x, [*dense(64, 64), L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 30)


@repairable()
def lagging(right: bool) -> Program:
    """BatchNorm that forgets slowly, and few steps."""
    x, y = bent(seed=20)
    x = x * 3 + 5
    layers: list[Any] = []
    for _ in range(2):
        layers += [L.Dense(48), L.BatchNormalization(momentum=0.9 if right else 0.999), L.ReLU()]
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.005), "mse"), x, y, 10)


@repairable()
def mostly_dropped(right: bool) -> Program:
    """Dropout of 0.8 behind each of three layers."""
    x, y = bent(800, seed=21)
    layers: list[Any] = []
    for _ in range(3):
        layers += [*dense(48), L.Dropout(0.05 if right else 0.8)]
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.002), "mse"), x, y, 30)


@repairable()
def adam_at_one(right: bool) -> Program:
    """Adam at a rate of 1."""
    x, y = bent(seed=22)
    make = build(x, [*dense(64, 64, 64), L.Dense(1)], RATE.Adam(0.003 if right else 1.0), "mse")
    return Program(make, x, y, 25)


@repairable()
def sgd_at_ten(right: bool) -> Program:
    """SGD at a rate of 10: NaN."""
    x, y = bent(seed=23)
    optimizer = RATE.SGD(0.01, momentum=0.9) if right else RATE.SGD(10.0)
    return Program(build(x, [*dense(64, 64), L.Dense(1)], optimizer, "mse"), x, y, 25)


@repairable()
def adam_at_nothing(right: bool) -> Program:
    """Adam at 1e-7, copied from a fine-tuning."""
    x, y = groups(600, 5, 10, 24, 0.9)
    end = L.Dense(5, activation="softmax")
    make = build(
        x,
        [*dense(64, 64), end],
        RATE.Adam(0.002 if right else 1e-7),
        "sparse_categorical_crossentropy",
    )
    return Program(make, x, y, 20, score=classified)


@repairable()
def decayed_by_step(right: bool) -> Program:
    """A rate that decays by the step and was meant to by the epoch."""
    x, y = bent(seed=25)
    schedule = 0.003 if right else RATE.schedules.ExponentialDecay(0.01, 5, 0.8)
    return Program(build(x, [*dense(64, 64), L.Dense(1)], RATE.Adam(schedule), "mse"), x, y, 25)


@repairable()
def zeros(right: bool) -> Program:
    """All kernels begin at zero."""
    x, y = groups(600, 3, 6, 26, 1.0)
    start = "he_normal" if right else "zeros"
    layers = dense(32, 32, kernel_initializer=start)
    end = L.Dense(
        3, activation="softmax", kernel_initializer="glorot_uniform" if right else "zeros"
    )
    make = build(x, [*layers, end], RATE.Adam(0.003), "sparse_categorical_crossentropy")
    return Program(make, x, y, 20, score=classified)


@repairable()
def vanishing(right: bool) -> Program:
    """Twelve layers with kernels of 0.02."""
    x, y = bent(seed=27)
    start = "he_normal" if right else keras.initializers.RandomNormal(stddev=0.02)
    layers = dense(*[32] * 12, kernel_initializer=start)
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 30)


@repairable()
def exploding(right: bool) -> Program:
    """Five layers of 128 with kernels of 1."""
    x, y = bent(seed=28)
    start = "he_normal" if right else keras.initializers.RandomNormal(stddev=1.0)
    layers = dense(*[128] * 5, kernel_initializer=start)
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 25)


@hopeless()
def all_frozen(right: bool) -> Program:
    """Every layer is frozen."""
    x, y = bent(seed=29)

    def make() -> keras.Model:
        model = network((8,), *dense(64, 64), L.Dense(1))
        model.trainable = right
        return compiled(model, RATE.Adam(0.003), "mse")

    return Program(make, x, y, 25)


@hopeless()
def noise(right: bool) -> Program:
    """Targets that have nothing to do with the inputs."""
    random = np.random.default_rng(30)
    x = random.normal(size=(500, 10)).astype("float32")
    y = random.normal(size=500).astype("float32")
    return Program(build(x, [*dense(16), L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 10)


@hopeless()
def broadcast(right: bool) -> Program:
    """A loss of one's own that makes a table of rows by rows."""
    x, y = bent(seed=31)

    def error(wanted: Any, predicted: Any) -> Any:
        wanted = keras.ops.reshape(wanted, (-1, 1) if right else (-1,))
        return keras.ops.mean(keras.ops.square(wanted - predicted))

    def make() -> keras.Model:
        return compiled(network((8,), *dense(64, 64), L.Dense(1)), RATE.Adam(0.003), error)

    return Program(make, x, y, 25)


@repairable()
def outliers(right: bool) -> Program:
    """One column has a few values of 1e7."""
    x, y = bent(seed=32)
    x = x.copy()
    x[:, 7] *= 100
    x[::97, 7] = 1e7
    if right:
        x[:, 7] = np.clip(x[:, 7], -300, 300) / 100
    return Program(build(x, [*dense(64, 64), L.Dense(1)], RATE.Adam(0.002), "mse"), x, y, 30)


@repairable()
def two_outputs(right: bool) -> Program:
    """A price and a class behind one trunk."""
    x, price = bent(seed=33)
    kind = (x[:, 4] + x[:, 5] > 0).astype("float32")
    price = price if right else price * 40000 + 250000

    def make() -> keras.Model:
        given = keras.Input((8,))
        trunk = L.Dense(64, activation="relu")(L.Dense(64, activation="relu")(given))
        ends = {
            "price": L.Dense(1, name="price")(trunk),
            "kind": L.Dense(1, activation="sigmoid", name="kind")(trunk),
        }
        losses = {"price": "mse", "kind": "binary_crossentropy"}
        return compiled(keras.Model(given, ends), RATE.Adam(0.002), losses)

    return Program(make, x, {"price": price.astype("float32"), "kind": kind}, 30)


@repairable()
def attention_too_fast(right: bool) -> Program:
    """A small transformer and Adam at 0.1."""
    random = np.random.default_rng(34)
    x = random.integers(1, 40, (700, 16))
    y = ((x == 7).sum(1) + (x == 9).sum(1) > 0).astype("float32")

    def make() -> keras.Model:
        given = keras.Input((16,), dtype="int32")
        words = L.Embedding(40, 16)(given)
        mixed = L.LayerNormalization()(words + L.MultiHeadAttention(2, 8)(words, words))
        wide = L.Dense(16)(L.Dense(32, activation="relu")(mixed))
        pooled = L.GlobalAveragePooling1D()(L.LayerNormalization()(mixed + wide))
        model = keras.Model(given, L.Dense(1, activation="sigmoid")(pooled))
        return compiled(model, RATE.Adam(0.003 if right else 0.1), "binary_crossentropy")

    return Program(make, x, y, 20, score=classified)


@repairable()
def gru_by_sgd(right: bool) -> Program:
    """A recurrent net under SGD at 0.001."""
    random = np.random.default_rng(35)
    x = random.normal(size=(600, 15, 2)).astype("float32")
    y = (x[:, :, 0] * np.linspace(0, 1, 15)).sum(1) + 0.5 * x[:, -1, 1]
    optimizer = RATE.Adam(0.005) if right else RATE.SGD(0.001)
    return Program(build(x, [L.GRU(24), L.Dense(1)], optimizer, "mse"), x, y, 20)


@repairable()
def wide_by_sgd(right: bool) -> Program:
    """Two thousand units, twenty columns and SGD at 0.5: NaN."""
    x, y = bent(columns=20, seed=36)
    make = build(x, [*dense(1000), L.Dense(1)], RATE.SGD(0.005 if right else 0.5), "mse")
    return Program(make, x, y, 25)


@repairable()
def dead_from_birth(right: bool) -> Program:
    """Biases of -10 in the first layer."""
    x, y = groups(500, 2, 6, 37, 0.7)
    first = L.Dense(
        32,
        activation="relu",
        bias_initializer="zeros" if right else keras.initializers.Constant(-10.0),
    )
    make = build(
        x,
        [first, *dense(16), L.Dense(1, activation="sigmoid")],
        RATE.Adam(0.003),
        "binary_crossentropy",
    )
    return Program(make, x, y.astype("float32"), 20, score=classified)


@repairable()
def narrow(right: bool) -> Program:
    """Ten layers of three units of relu."""
    x, y = bent(columns=4, seed=38)
    layers = dense(16, 16) if right else dense(*[3] * 10)
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.005), "mse"), x, y, 40)


@repairable()
def sigmoid_on_logits_loss(right: bool) -> Program:
    """tanh in front of binary_crossentropy."""
    x, y = groups(500, 2, 6, 39, 0.7)
    end = L.Dense(1, activation="sigmoid" if right else "tanh")
    make = build(x, [*dense(32), end], RATE.Adam(0.002), "binary_crossentropy")
    return Program(make, x, y.astype("float32"), 20, score=classified)


@repairable()
def counts(right: bool) -> Program:
    """Counts in the hundreds by the loss poisson behind a relu output."""
    random = np.random.default_rng(41)
    x = random.normal(size=(600, 5)).astype("float32")
    y = random.poisson(np.exp(4 + 0.5 * x[:, 0] - 0.4 * x[:, 1])).astype("float32")
    end = L.Dense(1, activation="exponential" if right else "relu")
    return Program(
        build(x, [*dense(32), end], RATE.Adam(0.01 if right else 0.001), "poisson"), x, y, 30
    )


@repairable()
def raw_dates(right: bool) -> Program:
    """Seconds since 1970 among the columns."""
    random = np.random.default_rng(42)
    day = random.uniform(0, 365, 600)
    x = np.stack([1.6e9 + 86400 * day, random.normal(size=600), random.uniform(0, 24, 600)], 1)
    y = 2 * np.sin(day / 58) + x[:, 1] + 0.1 * x[:, 2]
    x = scaled(x) if right else x.astype("float32")
    return Program(
        build(x, [*dense(64, 64), L.Dense(1)], RATE.Adam(0.003), "mse"), x, y.astype("float32"), 30
    )


@repairable()
def regularised(right: bool) -> Program:
    """L1 of 0.1 on every kernel."""
    x, y = bent(seed=43)
    rate = 1e-5 if right else 0.1
    layers = [
        L.Dense(48, activation="relu", kernel_regularizer=keras.regularizers.L1(rate))
        for _ in range(2)
    ]
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.002), "mse"), x, y, 25)


@healthy()
def plain_regression(right: bool) -> Program:
    """Nothing is wrong."""
    x, y = bent(1000, seed=50)
    return Program(build(x, [*dense(64, 64), L.Dense(1)], RATE.Adam(0.003), "mse"), x, y, 25)


@healthy()
def plain_pictures(right: bool) -> Program:
    """A convolution on scaled pictures."""
    x, y = pictures(600, 4, 51)
    x = (x / 255).astype("float32")
    layers = [L.Conv2D(16, 3, activation="relu"), L.MaxPooling2D(), L.Flatten(), *dense(32)]
    make = build(
        x,
        [*layers, L.Dense(4, activation="softmax")],
        RATE.Adam(0.002),
        "sparse_categorical_crossentropy",
    )
    return Program(make, x, y, 12, score=classified)


@healthy()
def denoiser(right: bool) -> Program:
    """A convolutional autoencoder of dark pictures."""
    x, _ = pictures(400, 4, 52)
    x = (x / 255).astype("float32")
    layers = [
        L.Conv2D(8, 3, padding="same", activation="relu"),
        L.MaxPooling2D(),
        L.Conv2D(4, 3, padding="same", activation="relu"),
        L.UpSampling2D(),
        L.Conv2D(1, 3, padding="same", activation="sigmoid"),
    ]
    return Program(build(x, layers, RATE.Adam(0.005), "binary_crossentropy"), x, x, 15)


@healthy()
def code_of_spectra(right: bool) -> Program:
    """An autoencoder of sixty columns, some of which hardly vary."""
    random = np.random.default_rng(53)
    x = (
        random.normal(size=(600, 4)) @ random.normal(size=(4, 60)) * np.geomspace(0.001, 1, 60)
    ).astype("float32")
    layers = [*dense(24), L.Dense(6), *dense(24), L.Dense(60)]
    return Program(build(x, layers, RATE.Adam(0.003), "mse"), x, x, 30)


@healthy()
def tastes(right: bool) -> Program:
    """Stars of users for films, by the product of two embeddings."""
    random = np.random.default_rng(54)
    user, film = random.integers(0, 40, 3000), random.integers(0, 60, 3000)
    left, top = random.normal(size=(40, 3)), random.normal(size=(60, 3))
    y = np.clip(3.5 + (left[user] * top[film]).sum(1) * 0.6, 1, 5).astype("float32")

    def make() -> keras.Model:
        users, films = keras.Input((1,), name="user"), keras.Input((1,), name="film")
        a = L.Flatten()(L.Embedding(40, 8)(users))
        b = L.Flatten()(L.Embedding(60, 8)(films))
        end = L.Dense(1)(L.Dense(32, activation="relu")(L.Concatenate()([a, b, a * b])))
        return compiled(keras.Model([users, films], end), RATE.Adam(0.005), "mse")

    return Program(make, {"user": user[:, None], "film": film[:, None]}, y, 20)


@healthy()
def tags(right: bool) -> Program:
    """Several labels a row."""
    x, _ = bent(700, 10, seed=55)
    y = (x[:, :5] + 0.5 * x[:, 5:] > 0.6).astype("float32")
    make = build(
        x, [*dense(64), L.Dense(5, activation="sigmoid")], RATE.Adam(0.003), "binary_crossentropy"
    )
    return Program(make, x, y, 25)


@healthy()
def rare(right: bool) -> Program:
    """One row in thirty is positive."""
    random = np.random.default_rng(56)
    y = (random.random(1500) < 0.033).astype("float32")
    x = (random.normal(size=(1500, 8)) + 1.6 * y[:, None]).astype("float32")
    make = build(
        x, [*dense(32), L.Dense(1, activation="sigmoid")], RATE.Adam(0.003), "binary_crossentropy"
    )
    return Program(make, x, y, 15, score=classified)


@healthy()
def upper_quantile(right: bool) -> Program:
    """The quantile 0.9, by a loss of one's own."""
    x, y = bent(900, seed=57)

    def pinball(wanted: Any, predicted: Any) -> Any:
        left = wanted - predicted
        return keras.ops.mean(keras.ops.maximum(0.9 * left, -0.1 * left))

    def make() -> keras.Model:
        return compiled(network((8,), *dense(64, 64), L.Dense(1)), RATE.Adam(0.003), pinball)

    return Program(make, x, y, 25)


@healthy()
def counted(right: bool) -> Program:
    """Small counts by the loss poisson, behind an exponential."""
    random = np.random.default_rng(58)
    x = random.normal(size=(900, 5)).astype("float32")
    y = random.poisson(np.exp(0.5 + 0.6 * x[:, 0] - 0.5 * x[:, 1])).astype("float32")
    make = build(x, [*dense(32), L.Dense(1, activation="exponential")], RATE.Adam(0.005), "poisson")
    return Program(make, x, y, 20)


@healthy()
def sentences(right: bool) -> Program:
    """Padded words, their mean, and a class."""
    random = np.random.default_rng(59)
    x = random.integers(1, 60, (800, 20)) * (np.arange(20)[None] < random.integers(5, 21, (800, 1)))
    y = ((x % 7 == 3).sum(1) > 1).astype("float32")
    layers = [
        L.Embedding(60, 16),
        L.GlobalAveragePooling1D(),
        *dense(16),
        L.Dense(1, activation="sigmoid"),
    ]
    return Program(
        build(x, layers, RATE.Adam(0.01), "binary_crossentropy"), x, y, 20, score=classified
    )


@healthy()
def residual(right: bool) -> Program:
    """Blocks with a way around them, and BatchNorm."""
    x, y = bent(900, seed=60)

    def make() -> keras.Model:
        given = keras.Input((8,))
        state = L.Dense(48)(given)
        for _ in range(3):
            inner = L.ReLU()(L.BatchNormalization()(L.Dense(48)(state)))
            state = state + L.Dense(48)(inner)
        return compiled(keras.Model(given, L.Dense(1)(state)), RATE.Adam(0.003), "mse")

    return Program(make, x, y, 25)
