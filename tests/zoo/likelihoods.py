"""Models that put out the parameters of a distribution, or several quantiles of it."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from tests.zoo.specimen import Array, Rows, Specimen, compiled, correlation, normal, predict, stack

ops = keras.ops
_own = keras.saving.register_keras_serializable(package="zoo")
_HALF_LOG = 0.5 * math.log(2 * math.pi)


def _noisy(seed: int) -> Rows:
    """The noise grows with one of the inputs; its standard deviation is `_spread`."""
    draw, x = normal(seed, 1000)
    y = x[:, 0] + np.abs(x[:, 1]) + _spread(x) * draw.normal(size=1000)
    return x, y.astype("float32")[:, None], None


def _spread(x: Array) -> Array:
    return np.exp(0.5 * x[:, 2] - 0.7)


def _gaussian(y: Any, mean: Any, log_variance: Any) -> Any:
    squares = ops.square(y - mean) * ops.exp(-log_variance)
    return 0.5 * (log_variance + squares) + _HALF_LOG


@_own
def gaussian_nll(y: Any, p: Any) -> Any:
    """Negative log-likelihood of a normal whose mean and log-variance are predicted."""
    return _gaussian(y[:, 0], p[:, 0], p[:, 1])


def _normal_model(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 2, None, activation), gaussian_nll)


def _sees_spread(model: keras.Model, x: Array, y: Array) -> float:
    return correlation(np.log(_spread(x)), predict(model, x)[:, 1])


@_own
def mixture_nll(y: Any, p: Any) -> Any:
    """Three normals: logits of the weights, means, log standard deviations."""
    weights = ops.log_softmax(p[:, :3])
    deviations = ops.maximum(p[:, 6:], -3.0)
    squares = ops.square((y - p[:, 3:6]) / ops.exp(deviations))
    return -ops.logsumexp(weights - deviations - 0.5 * squares - _HALF_LOG, axis=-1)


def _two_sided(seed: int) -> Rows:
    """The target is plus or minus the same: its mean says nothing."""
    draw, x = normal(seed, 1000, 3)
    sign = draw.choice([-1, 1], 1000)
    y = sign * (2 + x[:, 0]) + 0.2 * draw.normal(size=1000)
    return x, y.astype("float32")[:, None], None


def _mixture(activation: Any = "relu") -> keras.Model:
    return compiled(stack(3, 9, None, activation), mixture_nll, 0.01)


def _mixture_gain(model: keras.Model, x: Array, y: Array) -> float:
    """Nats a row that it gains on one normal for all rows."""
    single = 0.5 + 0.5 * math.log(float(np.var(y))) + _HALF_LOG
    return single - float(np.mean(mixture_nll(y, predict(model, x))))


@_own
def evidential(y: Any, p: Any) -> Any:
    """Deep evidential regression (Amini et al. 2020): four parameters, and a penalty."""
    mean, v, a, b = (p[:, at : at + 1] for at in range(4))
    v, a, b = ops.softplus(v) + 1e-3, ops.softplus(a) + 1.01, ops.softplus(b) + 1e-3
    two = 2 * b * (1 + v)
    nll = 0.5 * (math.log(math.pi) - ops.log(v)) - a * ops.log(two)
    nll = nll + (a + 0.5) * ops.log(v * ops.square(y - mean) + two) + _lgamma(a) - _lgamma(a + 0.5)
    return ops.mean(nll + 0.01 * ops.abs(y - mean) * (2 * v + a), axis=-1)


def _lgamma(a: Any) -> Any:
    """Stirling's series after three steps up; enough for a > 1."""
    up = a + 3
    series = (up - 0.5) * ops.log(up) - up + _HALF_LOG + 1 / (12 * up)
    return series - ops.log(a * (a + 1) * (a + 2))


def _evidential(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 4, None, activation), evidential)


def _mean_correlation(model: keras.Model, x: Array, y: Array) -> float:
    return correlation(x[:, 0] + np.abs(x[:, 1]), predict(model, x)[:, 0])


@_own
def quantiles(y: Any, p: Any) -> Any:
    """Pinball loss of three quantiles."""
    levels = ops.convert_to_tensor([0.1, 0.5, 0.9])
    error = y - p
    return ops.mean(ops.maximum(levels * error, (levels - 1) * error), axis=-1)


def _quantile_model(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 3, None, activation), quantiles)


def _coverage(model: keras.Model, x: Array, y: Array) -> float:
    """How near the share within the outer quantiles is to 0.8, for an interval that has width."""
    got = predict(model, x)
    inside = np.mean((y[:, 0] > got[:, 0]) & (y[:, 0] < got[:, 2]))
    return float(1 - abs(inside - 0.8)) if np.std(got[:, 2] - got[:, 0]) > 0.1 else 0.0


@_own
class Pinball(keras.losses.Loss):
    """One quantile, far out: the mean is no good answer to it."""

    def __init__(self, level: float = 0.95, **options: Any) -> None:
        super().__init__(**options)
        self.level = level

    def call(self, y: Any, p: Any) -> Any:
        """Compare one quantile."""
        return ops.maximum(self.level * (y - p), (self.level - 1) * (y - p))

    def get_config(self) -> dict[str, Any]:
        """Its level."""
        return {**super().get_config(), "level": self.level}


def _upper(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), Pinball())


def _above(model: keras.Model, x: Array, y: Array) -> float:
    return float(1 - abs(np.mean(y < predict(model, x)) - 0.95))


def _rate(x: Array) -> Array:
    return np.exp(0.8 * x[:, 0] - 0.5 * x[:, 1] - 0.5)


def _counts(seed: int) -> Rows:
    draw, x = normal(seed, 1000)
    return x, draw.poisson(_rate(x)).astype("float32")[:, None], None


def _large_counts(seed: int) -> Rows:
    """Hundreds and thousands, of which the logarithm of the rate is predicted."""
    draw, x = normal(seed, 1000)
    return x, draw.poisson(500 * _rate(x)).astype("float32")[:, None], None


def _large_poisson(activation: Any = "relu") -> keras.Model:
    model = stack(6, 1, None, activation)
    model.get_layer("head").bias.assign([6.0])
    return compiled(model, log_poisson)


def _inflated(seed: int) -> Rows:
    """Counts that are 0 for a reason of their own on three rows in four."""
    x, y, _ = _counts(seed)
    draw = np.random.default_rng(seed + 1)
    return x, np.where(draw.uniform(size=y.shape) < 0.75, 0, 3 * y).astype("float32"), None


def _poisson(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, "exponential", activation), "poisson")


@_own
def log_poisson(y: Any, log_rate: Any) -> Any:
    """The same, of the logarithm of the rate."""
    return ops.mean(ops.exp(log_rate) - y * log_rate, axis=-1)


def _poisson_own(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), log_poisson)


@_own
def inflated_nll(y: Any, p: Any) -> Any:
    """Zero-inflated Poisson: a logit of being 0 anyway, and the logarithm of the rate."""
    gate, log_rate = p[:, :1], ops.minimum(p[:, 1:], 5.0)
    counted = y * log_rate - ops.exp(log_rate)
    zero = ops.logaddexp(-ops.softplus(-gate), -ops.softplus(gate) - ops.exp(log_rate))
    return -ops.where(ops.equal(y, 0), zero, counted - ops.softplus(gate))


def _inflated_model(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 2, None, activation), inflated_nll)


def _log_rate(at: int, log: bool) -> Any:
    def measure(model: keras.Model, x: Array, y: Array) -> float:
        got = predict(model, x)[:, at]
        return correlation(np.log(_rate(x)), np.log(got) if log else got)

    return measure


def _lives(seed: int) -> Rows:
    """How long it lasted, and whether the end was seen: a column each."""
    draw, x = normal(seed, 800)
    time, end = draw.exponential(1 / _rate(x)), draw.exponential(3.0, 800)
    return x, np.stack([np.minimum(time, end), time < end], axis=1).astype("float32"), None


@_own
def cox(y: Any, risk: Any) -> Any:
    """Partial likelihood of Cox within the batch: an offset changes nothing."""
    time, seen = y[:, 0], y[:, 1]
    at_risk = ops.cast(time[None, :] >= time[:, None], "float32")
    others = ops.logsumexp(risk[:, 0][None, :] + ops.log(at_risk + 1e-9), axis=1)
    return ops.sum(seen * (others - risk[:, 0])) / ops.maximum(ops.sum(seen), 1)


def _survival(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), cox)


LIKELIHOODS = (
    Specimen(name="gaussian_nll", rows=_noisy, build=_normal_model, epochs=15,
             measure=_sees_spread, yardstick="correlation with the noise's size", least=0.7),
    Specimen(name="mixture_density", rows=_two_sided, build=_mixture, epochs=15,
             measure=_mixture_gain, yardstick="nats gained on one normal", least=0.5),
    Specimen(name="evidential", rows=_noisy, build=_evidential, epochs=15,
             measure=_mean_correlation, yardstick="correlation with the mean", least=0.9),
    Specimen(name="three_quantiles", rows=_noisy, build=_quantile_model, epochs=15,
             measure=_coverage, yardstick="1 - error of the coverage", least=0.9),
    Specimen(name="upper_quantile", rows=_noisy, build=_upper, epochs=15,
             measure=_above, yardstick="1 - error of the coverage", least=0.95),
    Specimen(name="poisson", rows=_counts, build=_poisson, epochs=15,
             measure=_log_rate(0, True), yardstick="correlation with the log rate", least=0.9),
    Specimen(name="poisson_own", rows=_counts, build=_poisson_own, epochs=15,
             measure=_log_rate(0, False), yardstick="correlation with the log rate", least=0.9),
    Specimen(name="large_counts", rows=_large_counts, build=_large_poisson, epochs=15,
             measure=_log_rate(0, False), yardstick="correlation with the log rate", least=0.9),
    Specimen(name="zero_inflated_poisson", rows=_inflated, build=_inflated_model, epochs=15,
             measure=_log_rate(1, False), yardstick="correlation with the log rate", least=0.7),
    Specimen(name="survival", rows=_lives, build=_survival, epochs=15,
             measure=_log_rate(0, False), yardstick="correlation with the log rate", least=0.9),
)  # fmt: skip
