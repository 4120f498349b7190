"""Programs that a reader tried and that were mended for."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np

from tests.benchmarks.programs.program import (
    RATE,
    Array,
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
    scaled,
)

repairable = partial(listed, "repairable", "tuned")
healthy = partial(listed, "healthy", "tuned")
hopeless = partial(listed, "hopeless", "tuned")


def _prices(right: bool) -> tuple[Array, Array]:
    """Area, rooms and age, and a price."""
    random = np.random.default_rng(1)
    area, rooms, age = (
        random.uniform(40, 300, 600),
        random.integers(1, 8, 600),
        random.uniform(0, 80, 600),
    )
    y = 2000 * area + 10000 * rooms - 500 * age + 2e4 * random.normal(size=600) + 50000
    x = np.stack([area, rooms, age], 1)
    return (scaled(x), scaled(y)) if right else (x.astype("float32"), y.astype("float32"))


def _priced(right: bool, loss: str, optimizer: Any = None, end: str | None = None) -> Program:
    x, y = _prices(right)
    layers = [*dense(64, 64), L.Dense(1, activation=None if right else end)]
    chosen = RATE.Adam(0.001) if optimizer is None else optimizer
    return Program(build(x, layers, chosen, "mae" if right else loss), x, y, 20)


@repairable()
def price(right: bool) -> Program:
    """Raw inputs and raw targets."""
    return _priced(right, "mse")


@repairable()
def price_mape(right: bool) -> Program:
    """Under mape."""
    return _priced(right, "mape")


@repairable()
def price_msle(right: bool) -> Program:
    """Under msle."""
    return _priced(right, "msle")


@repairable()
def price_relu(right: bool) -> Program:
    """Behind relu."""
    return _priced(right, "mse", end="relu")


@repairable()
def price_softplus(right: bool) -> Program:
    """Behind softplus, under mae."""
    return _priced(right, "mae", end="softplus")


@repairable()
def price_sgd(right: bool) -> Program:
    """Under SGD: NaN."""
    return _priced(right, "mse", RATE.SGD(0.01))


@repairable()
def price_rescaled(right: bool) -> Program:
    """With a Rescaling at its end, and raw inputs."""
    x, y = _prices(right)
    ends = [] if right else [L.Rescaling(1.5e5, offset=410141.0)]
    return Program(build(x, [*dense(64, 64), L.Dense(1), *ends], RATE.Adam(0.001), "mse"), x, y, 20)


@repairable()
def price_by_district(right: bool) -> Program:
    """An embedding beside raw numbers."""
    numbers, y = _prices(right)
    ids = np.random.default_rng(0).integers(0, 20, (600, 1)).astype("int32")
    numbers = numbers * (1 if right else np.array([10, 1, 1], "float32"))

    def make() -> keras.Model:
        district, rest = keras.Input((1,), dtype="int32"), keras.Input((3,))
        state = L.Concatenate()([L.Flatten()(L.Embedding(20, 4)(district)), rest])
        state = L.Dense(64, activation="relu")(L.Dense(64, activation="relu")(state))
        return compiled(keras.Model([district, rest], L.Dense(1)(state)), RATE.Adam(0.001), "mse")

    return Program(make, (ids, numbers), y, 20)


def _bent(right: bool, optimizer: Any, known: Any = None, batch_size: int = 32) -> Program:
    x, y = bent()
    chosen = (known or RATE.Adam(0.003)) if right else optimizer
    return Program(build(x, [*dense(64, 64), L.Dense(1)], chosen, "mse"), x, y, 20, batch_size)


@repairable()
def clipped(right: bool) -> Program:
    """A clipnorm of 0.001."""
    return _bent(right, RATE.SGD(0.01, clipnorm=0.001), RATE.SGD(0.01, momentum=0.9))


@repairable()
def heavy_momentum(right: bool) -> Program:
    """SGD at 0.05 with a momentum of 0.99."""
    return _bent(right, RATE.SGD(0.05, momentum=0.99), RATE.SGD(0.01, momentum=0.9))


@repairable()
def decay_of_epochs(right: bool) -> Program:
    """A cosine over as many steps as there are epochs."""
    return _bent(right, RATE.Adam(RATE.schedules.CosineDecay(1e-3, 20)))


@repairable()
def decayed_weights(right: bool) -> Program:
    """AdamW with a decay of 10."""
    return _bent(right, RATE.AdamW(1e-3, weight_decay=10.0), RATE.AdamW(1e-3))


@repairable()
def ridge(right: bool) -> Program:
    """L2 of 1 on both hidden kernels."""
    x, y = bent()
    layers = dense(64, 64, kernel_regularizer=keras.regularizers.L2(1e-4 if right else 1.0))
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 20)


@repairable()
def relu_and_negative(right: bool) -> Program:
    """A relu output for targets of both signs."""
    x, y = bent(seed=40)
    end = L.Dense(1, activation=None if right else "relu")
    return Program(build(x, [*dense(64), end], RATE.Adam(0.003), "mae"), x, y, 30)


@repairable()
def all_ones(right: bool) -> Program:
    """All kernels begin as ones."""
    x, y = bent()
    start = "glorot_uniform" if right else "ones"
    layers = [*dense(64, 64, kernel_initializer=start), L.Dense(1, kernel_initializer=start)]
    return Program(build(x, layers, RATE.Adam(0.001), "mse"), x, y, 20)


@repairable()
def dropped(right: bool) -> Program:
    """Dropout of 0.9."""
    x, y = bent()
    layers: list[Any] = []
    for _ in range(2):
        layers += [*dense(64), L.Dropout(0.0 if right else 0.9)]
    return Program(build(x, [*layers, L.Dense(1)], RATE.Adam(0.001), "mse"), x, y, 20)


def _counts(right: bool, end: str | None, loss: Any) -> Program:
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 6)).astype("float32")
    y = random.poisson(np.exp(0.5 * x[:, 0] + 0.4 * x[:, 1])).astype("float32")
    end = "exponential" if right else end
    layers = [*dense(32), L.Dense(1, activation=end)]
    return Program(build(x, layers, RATE.Adam(0.001), loss), x, y, 15)


@repairable()
def poisson_linear(right: bool) -> Program:
    """The loss poisson behind a linear output: NaN at once."""
    return _counts(right, None, "poisson")


@healthy()
def poisson_exponential(right: bool) -> Program:
    """The loss poisson as it should be."""
    return _counts(right, "exponential", "poisson")


def _squares(right: bool, layers: list[Any], optimizer: Any, loss: str) -> Program:
    random = np.random.default_rng(3)
    x = random.normal(size=(600, 10)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype("float32")
    if right:
        layers, optimizer = [*dense(64, 64), L.Dense(1, activation="sigmoid")], RATE.Adam(0.003)
    return Program(build(x, layers, optimizer, loss), x, y, 30, score=classified)


@repairable()
def relu_probability(right: bool) -> Program:
    """relu in front of binary_crossentropy."""
    layers = [*dense(64), L.Dense(1, activation="relu")]
    return _squares(right, layers, RATE.Adam(0.001), "binary_crossentropy")


@repairable()
def sigmoids_by_sgd(right: bool) -> Program:
    """Hidden sigmoids, SGD and mse."""
    layers = [*dense(64, 64, activation="sigmoid"), L.Dense(1, activation="sigmoid")]
    return _squares(right, layers, RATE.SGD(0.01), "mse")


@hopeless()
def classes_by_one_unit(right: bool) -> Program:
    """Ten classes, one sigmoid and mse."""
    x, y = groups(600, 10, 8, 0, 2.0)
    units, activation = (10, "softmax") if right else (1, "sigmoid")
    loss = "sparse_categorical_crossentropy" if right else "mse"

    def make() -> keras.Model:
        model = network((8,), *dense(64), L.Dense(units, activation=activation))
        return compiled(model, RATE.Adam(0.003 if right else 0.001), loss, metrics=["accuracy"])

    return Program(make, x, y, 20, score=classified)


def _strokes() -> Array:
    """Bright strokes near the middle, as in MNIST: the rim is lit now and then; (800, 144)."""
    random = np.random.default_rng(0)
    down, across = np.mgrid[0:12, 0:12]
    x = np.zeros((800, 12, 12))
    for each in x:
        angle, middle = random.uniform(0, np.pi), 5.5 + random.normal(0, 0.7, 2)
        for along in np.linspace(-3.2, 3.2, 12):
            far = (down - middle[0] - along * np.sin(angle)) ** 2
            far += (across - middle[1] - along * np.cos(angle)) ** 2
            each += np.exp(-far / 1.2)
    x = np.clip(np.round(x / x.max() * 2 * 255), 0, 255) / 255
    flat: Array = x.reshape(len(x), -1)
    return flat.astype("float32")


@healthy()
def strokes_mse(right: bool) -> Program:
    """An autoencoder of strokes."""
    x = _strokes()
    layers = [*dense(32), L.Dense(144, activation="sigmoid")]
    return Program(build(x, layers, RATE.Adam(0.001), "mse"), x, x, 20)


@healthy()
def strokes_crossentropy(right: bool) -> Program:
    """The same under binary_crossentropy."""
    x = _strokes()
    layers = [*dense(32), L.Dense(144, activation="sigmoid")]
    return Program(build(x, layers, RATE.Adam(0.001), "binary_crossentropy"), x, x, 20)


@healthy()
def almost_constant_columns(right: bool) -> Program:
    """An autoencoder of a table with rare flags and two columns that hardly vary."""
    random = np.random.default_rng(0)
    latent = random.normal(size=(800, 3)) @ random.normal(size=(3, 10)) / 1.7
    flags = random.random((800, 3)) < 0.01
    x = np.concatenate([latent, flags, 0.5 + 0.01 * random.normal(size=(800, 2))], 1)
    x = x.astype("float32")
    layers = [*dense(16, 4, 16), L.Dense(15)]
    return Program(build(x, layers, RATE.Adam(0.001), "mse"), x, x, 30)


def _squares_of_pixels() -> Array:
    random = np.random.default_rng(0)
    base, y = random.random((5, 64)) > 0.5, random.integers(0, 5, 500)
    x: Array = np.clip(base[y] * 0.8 + 0.1 * random.random((500, 64)), 0, 1)
    return x.astype("float32")


@repairable()
def raw_pixels_by_sigmoid(right: bool) -> Program:
    """An autoencoder of pixels up to 229 behind a sigmoid."""
    x = _squares_of_pixels() * (1 if right else 255)
    layers = [*dense(32, 8, 32), L.Dense(64, activation="sigmoid")]
    return Program(build(x, layers, RATE.Adam(0.001), "mse"), x, x, 15)


@repairable()
def signed_by_sigmoid(right: bool) -> Program:
    """An autoencoder of values of both signs behind a sigmoid."""
    random = np.random.default_rng(0)
    x = (random.normal(size=(600, 3)) @ random.normal(size=(3, 12))).astype("float32")
    end = L.Dense(12, activation=None if right else "sigmoid")
    return Program(build(x, [*dense(16, 3, 16), end], RATE.Adam(0.001), "mse"), x, x, 15)


@repairable()
def pairs_normed(right: bool) -> Program:
    """BatchNorm over batches of two."""
    x, y = bent()
    layers: list[Any] = []
    for _ in range(2):
        layers += [L.Dense(32), L.BatchNormalization(), L.ReLU()]
    make = build(x, [*layers, L.Dense(1)], RATE.Adam(0.001), "mse")
    return Program(make, x, y, 8, 16 if right else 2)


@healthy()
def segments(right: bool) -> Program:
    """A square in a noisy picture, pixel by pixel."""
    random = np.random.default_rng(0)
    x, y = random.normal(0, 0.2, (300, 12, 12, 1)), np.zeros((300, 12, 12, 1))
    for row in range(300):
        down, across = random.integers(0, 9, 2)
        x[row, down : down + 3, across : across + 3] += 1
        y[row, down : down + 3, across : across + 3] = 1
    options = {"padding": "same", "activation": "relu"}
    layers = [
        L.Conv2D(8, 3, **options),
        L.Conv2D(8, 3, **options),
        L.Conv2D(1, 1, activation="sigmoid"),
    ]
    x = x.astype("float32")
    make = build(x, layers, RATE.Adam(0.003), "binary_crossentropy")
    return Program(make, x, y.astype("float32"), 8)


@healthy()
def ten_logits(right: bool) -> Program:
    """Ten classes and softmax."""
    x, y = groups(600, 10, 8, 0, 2.0)
    layers = [*dense(64), L.Dense(10, activation="softmax")]
    make = build(x, layers, RATE.Adam(0.003), "sparse_categorical_crossentropy")
    return Program(make, x, y, 20, score=classified)


@healthy()
def deep_tanh(right: bool) -> Program:
    """Twelve layers of tanh."""
    x, y = bent()
    layers = [*dense(*[64] * 12, activation="tanh"), L.Dense(1)]
    return Program(build(x, layers, RATE.Adam(0.001), "mse"), x, y, 20)
