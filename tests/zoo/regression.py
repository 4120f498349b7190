"""Regressions of hard targets, or whose loss is not the squared error."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tests.zoo.specimen import (
    Array,
    Rows,
    Specimen,
    compiled,
    correlation,
    normal,
    predict,
    r2,
    stack,
)

ops = keras.ops
layers = keras.layers
_own = keras.saving.register_keras_serializable(package="zoo")


def _signal(x: Array) -> Array:
    return x[:, 0] + np.abs(x[:, 1]) - 0.5 * x[:, 2]


def _outliers(seed: int) -> Rows:
    """One target in thirty is off by hundreds."""
    draw, x = normal(seed, 800)
    y = _signal(x) + 0.1 * draw.normal(size=800)
    y += np.where(draw.uniform(size=800) < 1 / 30, 200 * draw.standard_t(2, 800), 0)
    return x, y.astype("float32"), None


def _glitches(seed: int) -> Rows:
    """One target in a hundred is what a sensor says when it is unplugged."""
    draw, x = normal(seed, 800)
    y = _signal(x) + 0.1 * draw.normal(size=800)
    return x, np.where(draw.uniform(size=800) < 0.01, -9999.0, y).astype("float32"), None


def _clean_r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(_signal(x), predict(model, x))


def _huber(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), keras.losses.Huber(delta=0.5))


def _log_cosh(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), "log_cosh")


def _mae(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), "mae")


def _mse(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), "mse")


def _zero_inflated(seed: int) -> Rows:
    """Three targets in four are 0, the others skewed: what was spent, by who spent anything."""
    draw, x = normal(seed, 1500)
    spends = draw.uniform(size=1500) < 1 / (1 + np.exp(1.5 - 2 * x[:, 0]))
    amount = np.exp(0.5 * x[:, 1] + 0.7 * draw.normal(size=1500))
    return x, np.where(spends, amount, 0).astype("float32"), None


def _ranks(model: keras.Model, x: Array, y: Array) -> float:
    """Correlation of the ranks with the expected amount."""
    expected = np.exp(0.5 * x[:, 1] + 0.7**2 / 2) / (1 + np.exp(1.5 - 2 * x[:, 0]))
    got = np.ravel(predict(model, x))
    return correlation(np.argsort(np.argsort(expected)), np.argsort(np.argsort(got)))


def _mae_gain(model: keras.Model, x: Array, y: Array) -> float:
    """Mean absolute error of the median, 0, over the model's."""
    return float(np.abs(y).mean() / np.abs(y - np.ravel(predict(model, x))).mean())


@_own
def tweedie(y: Any, log_mean: Any) -> Any:
    """Deviance of a compound Poisson of power 1.5, of a prediction on the log scale."""
    y = ops.reshape(y, ops.shape(log_mean))
    return ops.mean(2 * y * ops.exp(-log_mean / 2) + 2 * ops.exp(log_mean / 2), axis=-1)


def _tweedie(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), tweedie)


def _far(seed: int) -> Rows:
    """Temperatures in kelvin: hundreds of standard deviations from zero."""
    draw, x = normal(seed, 800)
    return x, (300 + _signal(x) + 0.1 * draw.normal(size=800)).astype("float32"), None


def _from_far(activation: Any = "relu") -> keras.Model:
    model = stack(6, 1, None, activation)
    model.get_layer("head").bias.assign([299.0])  # as every recipe says: the mean of the targets
    return compiled(model, "mse")


def _r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(y, predict(model, x))


def _prices(seed: int) -> Rows:
    """Targets of 1e5 and more, with a long tail."""
    draw, x = normal(seed, 800)
    return x, np.exp(12 + _signal(x) + 0.2 * draw.normal(size=800)).astype("float32"), None


def _percent(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((6,)),
        layers.Dense(24, activation=activation, name="hidden"),
        layers.Dense(1, activation="exponential", name="head",
                     bias_initializer=keras.initializers.Constant(12.0)),
    ])  # fmt: skip
    return compiled(model, "mean_absolute_percentage_error")


def _msle(activation: Any = "relu") -> keras.Model:
    model = stack(6, 1, "exponential", activation)
    model.get_layer("head").bias.assign([12.0])
    return compiled(model, "mean_squared_logarithmic_error")


def _log_r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(np.log(y), np.log(np.ravel(predict(model, x))))


def _weak(seed: int) -> Rows:
    """Three hundredths of the variance can be explained."""
    draw, x = normal(seed, 3000)
    return x, (0.176 * x[:, 0] + draw.normal(size=3000)).astype("float32"), None


def _weak_model(activation: Any = "relu") -> keras.Model:
    model = keras.Sequential([
        keras.Input((6,)),
        layers.Dense(8, activation=activation, name="hidden", kernel_regularizer="l2"),
        layers.Dense(1, name="head"),
    ])  # fmt: skip
    return compiled(model, "mse", 0.002)


def _weak_correlation(model: keras.Model, x: Array, y: Array) -> float:
    return correlation(x[:, 0], predict(model, x))


def _wave(seed: int) -> Rows:
    x = np.random.default_rng(seed).uniform(-1, 1, (600, 2)).astype("float32")
    return x, (np.sin(4 * x[:, :1]) * np.exp(-x[:, 1:])).astype("float32"), None


def _smooth(function: str, initializer: str) -> keras.Model:
    return keras.Sequential([
        keras.Input((2,)),
        layers.Dense(32, activation=function, kernel_initializer=initializer),
        layers.Dense(32, activation=function, kernel_initializer=initializer, name="hidden"),
        layers.Dense(1, name="head"),
    ])  # fmt: skip


def _tanh(activation: Any = "relu") -> keras.Model:
    return compiled(_smooth("tanh", "glorot_normal"), "mse", 0.01)


def _selu(activation: Any = "relu") -> keras.Model:
    return compiled(_smooth("selu", "lecun_normal"), "mse", 0.01)


def _several(seed: int) -> Rows:
    """Three columns: one that depends on the inputs, one that is noise, one that never changes."""
    draw, x = normal(seed, 800)
    y = np.stack([_signal(x), draw.normal(size=800), np.full(800, 2.0)], axis=1)
    return x, y.astype("float32"), None


def _three(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 3, None, activation, 12), "mse")


def _first_r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(y[:, 0], predict(model, x)[:, 0])


def _gaps(seed: int) -> Rows:
    """Half of the targets are missing, written as -999."""
    draw, x = normal(seed, 800)
    y = np.stack([_signal(x), x[:, 3] - x[:, 4]], axis=1) + 0.1 * draw.normal(size=(800, 2))
    return x, np.where(draw.uniform(size=(800, 2)) < 0.5, -999.0, y).astype("float32"), None


@_own
def masked_mse(y: Any, p: Any) -> Any:
    """Squared error of the targets that are known."""
    known = ops.cast(ops.not_equal(y, -999.0), "float32")
    return ops.sum(known * ops.square(y - p), axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1)


def _masked(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 2, None, activation), masked_mse)


def _masked_r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(np.stack([_signal(x), x[:, 3] - x[:, 4]], axis=1), predict(model, x))


@_own
def uncorrelated(y: Any, p: Any) -> Any:
    """One minus Pearson's correlation within the batch: scale and offset are free."""
    y, p = ops.reshape(y, (-1,)), ops.reshape(p, (-1,))
    y, p = y - ops.mean(y), p - ops.mean(p)
    return 1 - ops.sum(y * p) / ops.sqrt(ops.sum(y * y) * ops.sum(p * p) + 1e-6)


def _correlated(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), uncorrelated)


def _spread_out(seed: int) -> Rows:
    """The same as prices: the scale of the targets is no business of a correlation."""
    x, y, _ = _far(seed)
    return x, 1e6 * (y - 300), None


def _two(seed: int) -> Rows:
    draw, x = normal(seed, 800)
    y = {"price": (1000 * _signal(x) + 50 * draw.normal(size=800)).astype("float32"),
         "sold": (x[:, 3] + 0.3 * draw.normal(size=800) > 0).astype("float32")}  # fmt: skip
    return x, y, None


def _two_outputs(activation: Any = "relu") -> keras.Model:
    inputs = keras.Input((6,))
    hidden = layers.Dense(32, activation=activation, name="hidden")(inputs)
    price = layers.Dense(1, name="head")(hidden)
    outputs = {
        "price": layers.Rescaling(1000.0, name="price")(price),
        "sold": layers.Dense(1, activation="sigmoid", name="sold")(hidden),
    }
    losses = {"price": "mae", "sold": "binary_crossentropy"}
    return compiled(
        keras.Model(inputs, outputs), losses, 0.01, loss_weights={"price": 0.001, "sold": 2.0}
    )


def _price_r2(model: keras.Model, x: Array, y: Any) -> float:
    return r2(y["price"], predict(model, x)["price"])


REGRESSIONS = (
    Specimen(name="huber_outliers", rows=_outliers, build=_huber, epochs=20,
             measure=_clean_r2, yardstick="R² without the outliers", least=0.9),
    Specimen(name="glitches", rows=_glitches, build=_mae, epochs=20,
             measure=_clean_r2, yardstick="R² without the outliers", least=0.9),
    Specimen(name="log_cosh_outliers", rows=_outliers, build=_log_cosh, epochs=20,
             measure=_clean_r2, yardstick="R² without the outliers", least=0.9),
    Specimen(name="mae_outliers", rows=_outliers, build=_mae, epochs=20,
             measure=_clean_r2, yardstick="R² without the outliers", least=0.9),
    Specimen(name="zero_inflated_mse", rows=_zero_inflated, build=_mse, epochs=10,
             measure=_ranks, yardstick="rank correlation with the expectation", least=0.8),
    Specimen(name="zero_inflated_mae", rows=_zero_inflated, build=_mae, epochs=10,
             measure=_mae_gain, yardstick="error of the median over the model's", least=1.02),
    Specimen(name="tweedie", rows=_zero_inflated, build=_tweedie, epochs=10,
             measure=_ranks, yardstick="rank correlation with the expectation", least=0.8),
    Specimen(name="far_from_zero", rows=_far, build=_from_far, epochs=20,
             measure=_r2, yardstick="R²", least=0.9),
    Specimen(name="percentage_error", rows=_prices, build=_percent, epochs=20,
             measure=_log_r2, yardstick="R² of the logarithms", least=0.8),
    Specimen(name="logarithmic_error", rows=_prices, build=_msle, epochs=20,
             measure=_log_r2, yardstick="R² of the logarithms", least=0.8),
    Specimen(name="weak_signal", rows=_weak, build=_weak_model, epochs=10,
             measure=_weak_correlation, yardstick="correlation with the signal", least=0.7),
    Specimen(name="tanh", rows=_wave, build=_tanh, epochs=30, measure=_r2, yardstick="R²",
             least=0.9, twins=("constant", "nan")),
    Specimen(name="selu", rows=_wave, build=_selu, epochs=30, measure=_r2, yardstick="R²",
             least=0.9, twins=("constant", "nan")),
    Specimen(name="noise_and_constant_columns", rows=_several, build=_three, epochs=15,
             measure=_first_r2, yardstick="R² of the column with a signal", least=0.9),
    Specimen(name="missing_targets", rows=_gaps, build=_masked, epochs=15,
             measure=_masked_r2, yardstick="R² of all, known or not", least=0.9),
    Specimen(name="correlation_loss", rows=_far, build=_correlated, epochs=15,
             measure=lambda model, x, y: correlation(y, predict(model, x)),
             yardstick="correlation", least=0.95),
    Specimen(name="correlation_of_prices", rows=_spread_out, build=_correlated, epochs=15,
             measure=lambda model, x, y: correlation(y, predict(model, x)),
             yardstick="correlation", least=0.95),
    Specimen(name="two_outputs", rows=_two, build=_two_outputs, epochs=15,
             measure=_price_r2, yardstick="R² of the price", least=0.9),
)  # fmt: skip
