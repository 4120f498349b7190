"""Models that say themselves how they train: a `train_step` of their own, or only `add_loss`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tests.zoo.specimen import Array, Rows, Specimen, predict, r2

ops = keras.ops
layers = keras.layers
_own = keras.saving.register_keras_serializable(package="zoo")


class _OwnStep(keras.Model):
    """What the examples of keras.io have in common."""

    def __init__(self, activation: Any = "relu", **options: Any) -> None:
        super().__init__(**options)
        self.activation = activation
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[Any]:
        """What Keras resets at the end of an epoch."""
        return [self.loss_tracker]

    def get_config(self) -> dict[str, Any]:
        """What it takes to build it again."""
        return {"activation": keras.activations.serialize(keras.activations.get(self.activation))}

    def learn(self, loss: Any, tape: tf.GradientTape) -> dict[str, Any]:
        """Take one step down."""
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def _bumps(seed: int) -> Rows:
    """Curves with one bump, somewhere."""
    at = np.random.default_rng(seed).uniform(size=(640, 1))
    x = np.exp(-((np.linspace(0, 1, 16) - at) ** 2) / 0.02).astype("float32")
    return x, x, None


@_own
class Variational(_OwnStep):
    """A variational autoencoder; in inference it puts out the reconstruction of the mean."""

    def __init__(self, activation: Any = "relu", **options: Any) -> None:
        super().__init__(activation, **options)
        self.hidden = layers.Dense(32, activation=activation, name="hidden")
        self.code = layers.Dense(4)
        self.decoder = layers.Dense(32, activation=activation)
        self.out = layers.Dense(16, activation="sigmoid", name="head")
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any, training: bool = False) -> Any:
        """Code, and decode."""
        return self.decode(self.code(self.hidden(x))[:, :2])

    def decode(self, z: Any) -> Any:
        """From a code to a curve."""
        return self.out(self.decoder(z))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Reconstruction and divergence."""
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            mean, log_variance = ops.split(self.code(self.hidden(x)), 2, axis=1)
            noise = keras.random.normal(ops.shape(mean), seed=self.seeds)
            got = self.decode(mean + ops.exp(0.5 * log_variance) * noise)
            fit = ops.mean(keras.losses.binary_crossentropy(x, got))
            spread = 1 + log_variance - ops.square(mean) - ops.exp(log_variance)
            loss = fit - 0.0025 * ops.mean(ops.sum(spread, axis=1))
        return self.learn(loss, tape)


def _vae(activation: Any = "relu") -> keras.Model:
    model = Variational(activation)
    model.compile(optimizer=keras.optimizers.Adam(0.005))
    return model


def _r2(model: keras.Model, x: Array, y: Array) -> float:
    return r2(y, predict(model, x))


@_own
class Adversarial(_OwnStep):
    """A generator of points on a line from noise, and a critic that it trains against."""

    def __init__(self, activation: Any = "relu", **options: Any) -> None:
        super().__init__(activation, **options)
        self.hidden = layers.Dense(16, activation=activation, name="hidden")
        self.out = layers.Dense(2, name="head")
        self.critic = keras.Sequential([
            keras.Input((2,)),
            layers.Dense(16, activation="leaky_relu"),
            layers.Dense(1),
        ])  # fmt: skip
        self.judge_optimizer = keras.optimizers.Adam(0.004, beta_1=0.5)
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, noise: Any) -> Any:
        """Points from noise."""
        return self.out(self.hidden(noise))

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step of the critic, one of the generator."""
        noise, real = data[0], data[1]
        entropy = keras.losses.BinaryCrossentropy(from_logits=True)
        with tf.GradientTape() as tape:
            judged = self.critic(ops.concatenate([real, self(noise)], axis=0))
            truth = ops.concatenate([ops.ones_like(real[:, :1]), ops.zeros_like(real[:, :1])], 0)
            loss = entropy(truth, judged)
        weights = self.critic.trainable_weights
        self.judge_optimizer.apply(tape.gradient(loss, weights), weights)
        with tf.GradientTape() as tape:
            fooled = entropy(ops.ones_like(real[:, :1]), self.critic(self(noise)))
        weights = self.hidden.trainable_weights + self.out.trainable_weights
        gradients = tape.gradient(fooled, weights)
        self.optimizer.apply(gradients, weights)
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def _noise(seed: int) -> Rows:
    """Noise, and real points that have nothing to do with it row by row."""
    draw = np.random.default_rng(seed)
    along = draw.normal(size=(640, 1))
    real = np.concatenate([2 + along, 1 - along], axis=1) + 0.1 * draw.normal(size=(640, 2))
    return draw.normal(size=(640, 2)).astype("float32"), real.astype("float32"), None


def _gan(activation: Any = "relu") -> keras.Model:
    model = Adversarial(activation)
    model.compile(optimizer=keras.optimizers.Adam(0.001, beta_1=0.5))
    return model


def _alike(model: keras.Model, x: Array, y: Array) -> float:
    """1 - distance of the means, as long as it makes points that differ."""
    got = predict(model, x)
    if got.std(axis=0).min() < 0.2:
        return 0.0
    return float(1 - np.abs(got.mean(axis=0) - y.mean(axis=0)).max())


@_own
class Views(_OwnStep):
    """SimCLR: two noisy views of a row must be nearer to each other than to all others."""

    def __init__(self, activation: Any = "relu", **options: Any) -> None:
        super().__init__(activation, **options)
        self.hidden = layers.Dense(32, activation=activation, name="hidden")
        self.out = layers.Dense(8, name="head")
        self.seeds = keras.random.SeedGenerator(1)

    def call(self, x: Any) -> Any:
        """Places in the space."""
        return self.out(self.hidden(x))

    def train_step(self, data: Any) -> dict[str, Any]:
        """Cross-entropy of which view belongs to which."""
        x = data[0] if isinstance(data, tuple) else data
        with tf.GradientTape() as tape:
            first, second = (
                ops.normalize(self(x + 0.3 * keras.random.normal(ops.shape(x), seed=self.seeds)))
                for _ in range(2)
            )
            alike = ops.matmul(first, ops.transpose(second)) / 0.2
            loss = ops.mean(keras.losses.sparse_categorical_crossentropy(
                ops.arange(ops.shape(x)[0]), alike, from_logits=True))  # fmt: skip
        return self.learn(loss, tape)


def _things(seed: int) -> Rows:
    """Noisy views of eight things, and which; the labels are not trained on."""
    draw = np.random.default_rng(seed)
    which = draw.integers(8, size=512)
    centres = np.random.default_rng(11).normal(size=(8, 8))
    x = (centres[which] + 0.4 * draw.normal(size=(512, 8))).astype("float32")
    return x, which.astype("int32"), None


def _simclr(activation: Any = "relu") -> keras.Model:
    model = Views(activation)
    model.compile(optimizer=keras.optimizers.Adam(0.005))
    return model


def _nearest(model: keras.Model, x: Array, which: Array) -> float:
    places = predict(model, x)
    places = places / np.linalg.norm(places, axis=1, keepdims=True)
    alike = places @ places.T - 9 * np.eye(len(places))
    return float(np.mean(which[alike.argmax(axis=1)] == which))


@_own
class Reconstruct(layers.Layer):
    """Adds how far a reconstruction is off as a loss, and passes the code on."""

    def call(self, given: Any) -> Any:
        """Of the inputs, what was made of them, and the code."""
        x, got, code = given
        self.add_loss(ops.mean(ops.square(x - got)))
        return code


def _added(activation: Any = "relu") -> keras.Model:
    """Compiled without a loss; it puts out the code, of which nobody has targets."""
    x = keras.Input((16,))
    hidden = layers.Dense(32, activation=activation, name="hidden")(x)
    code = layers.Dense(4, name="head")(hidden)
    back = layers.Dense(32, activation=activation)(code)
    model = keras.Model(x, Reconstruct()([x, layers.Dense(16)(back), code]))
    model.compile(optimizer=keras.optimizers.Adam(0.005))
    return model


def _unlabelled(seed: int) -> Rows:
    x, _, _ = _bumps(seed)
    return x, None, None


def _kept(model: keras.Model, x: Array, y: Any) -> float:
    """R² of the best linear reading of the code."""
    code = np.concatenate([predict(model, x), np.ones((len(x), 1))], axis=1)
    return r2(x, code @ np.linalg.lstsq(code, x, rcond=None)[0])


OWN_STEPS = (
    Specimen(name="vae", rows=_bumps, build=_vae, epochs=25,
             measure=_r2, yardstick="R² of the reconstruction", least=0.7),
    Specimen(name="gan", rows=_noise, build=_gan, epochs=45,
             measure=_alike, yardstick="1 - distance of the means", least=0.7),
    Specimen(name="simclr", rows=_things, build=_simclr, epochs=15,
             measure=_nearest, yardstick="nearest neighbour is of the same thing", least=0.9),
    Specimen(name="add_loss", rows=_unlabelled, build=_added, epochs=25,
             measure=_kept, yardstick="R² of a linear reading of the code", least=0.7),
)  # fmt: skip
