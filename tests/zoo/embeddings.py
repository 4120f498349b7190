"""Models whose outputs are distances or places in a space, of which no single target is known."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tests.zoo.specimen import Array, Rows, Specimen, auc, compiled, predict

ops = keras.ops
layers = keras.layers
_own = keras.saving.register_keras_serializable(package="zoo")


def _things(seed: int, shape: tuple[int, ...]) -> tuple[Array, Array, np.random.Generator]:
    """Noisy views of five things, and which thing each is of."""
    draw = np.random.default_rng(seed)
    which = draw.integers(5, size=shape)
    centres = 1.5 * np.random.default_rng(11).normal(size=(5, 8))
    seen = centres[which] + 0.5 * draw.normal(size=(*shape, 8))
    return seen.astype("float32"), which, draw


def _pairs(seed: int) -> Rows:
    """Two views, and 1 where they are of different things."""
    seen, which, draw = _things(seed, (800, 2))
    same = draw.uniform(size=800) < 0.5
    mate, _, _ = _things(seed, (800, 2))
    centres = 1.5 * np.random.default_rng(11).normal(size=(5, 8))
    mate = (centres[which[:, 0]] + 0.5 * draw.normal(size=(800, 8))).astype("float32")
    right = np.where(same[:, None], mate, seen[:, 1])
    apart = ~same & (which[:, 0] != which[:, 1])
    return {"left": seen[:, 0], "right": right}, apart.astype("float32"), None


def _encoder(activation: Any, last: Any = None) -> keras.Sequential:
    return keras.Sequential([
        keras.Input((8,)),
        layers.Dense(16, activation=activation, name="hidden"),
        layers.Dense(6, activation=last, name="head"),
    ])  # fmt: skip


@_own
class Distance(layers.Layer):
    """Euclidean distance of two places, shape (rows, 1)."""

    def call(self, places: Any) -> Any:
        """Of both places."""
        squares = ops.sum(ops.square(places[0] - places[1]), axis=1, keepdims=True)
        return ops.sqrt(ops.maximum(squares, 1e-7))


@_own
def contrastive(apart: Any, distance: Any) -> Any:
    """Pull together what is alike, push the rest to a distance of at least 1."""
    apart = ops.reshape(apart, ops.shape(distance))
    near = ops.square(ops.maximum(1 - distance, 0))
    return ops.mean((1 - apart) * ops.square(distance) + apart * near)


def _siamese(activation: Any, join: Any) -> keras.Model:
    encoder = _encoder(activation)
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    return keras.Model({"left": left, "right": right}, join([encoder(left), encoder(right)]))


def _distances(activation: Any = "relu") -> keras.Model:
    return compiled(_siamese(activation, Distance()), contrastive)


def _cosines(activation: Any = "relu") -> keras.Model:
    return compiled(_siamese(activation, layers.Dot(1, normalize=True)), cosine_embedding)


@_own
def cosine_embedding(apart: Any, cosine: Any) -> Any:
    """As in other libraries: 1 - cosine of what is alike, what exceeds a margin of the rest."""
    apart = ops.reshape(apart, ops.shape(cosine))
    return (1 - apart) * (1 - cosine) + apart * ops.maximum(cosine - 0.2, 0)


def _told_apart(sign: float) -> Any:
    def measure(model: keras.Model, x: Any, y: Array) -> float:
        return auc(y, sign * predict(model, x))

    return measure


def _classified(activation: Any = "relu") -> keras.Model:
    encoder = _encoder(activation)
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    apart = ops.abs(encoder(left) - encoder(right))
    ends = layers.Dense(1, activation="sigmoid", name="end")(apart)
    return compiled(keras.Model({"left": left, "right": right}, ends), "binary_crossentropy")


def _triples(seed: int) -> Rows:
    """An anchor, another view of it and one of something else; the targets are a dummy."""
    draw = np.random.default_rng(seed)
    first = draw.integers(5, size=600)
    other = (first + draw.integers(1, 5, size=600)) % 5
    centres = 1.5 * np.random.default_rng(11).normal(size=(5, 8))
    x = tuple(
        (centres[each] + 0.5 * draw.normal(size=(600, 8))).astype("float32")
        for each in (first, first, other)
    )
    return x, np.zeros(600, "float32"), None


@_own
def triplet(_: Any, distances: Any) -> Any:
    """The other view must be nearer than the other thing, by a margin."""
    return ops.maximum(distances[:, 0] - distances[:, 1] + 0.5, 0)


def _triplets(activation: Any = "relu") -> keras.Model:
    encoder = _encoder(activation)
    inputs = tuple(keras.Input((8,)) for _ in range(3))
    anchor, view, other = (encoder(each) for each in inputs)
    distances = [Distance()([anchor, view]), Distance()([anchor, other])]
    return compiled(keras.Model(inputs, layers.Concatenate()(distances)), triplet)


@_own
def margin(_: Any, nearer: Any) -> Any:
    """By how much the other thing is not further away than the other view, and a margin."""
    return ops.mean(ops.maximum(nearer + 0.5, 0))


def _differences(activation: Any = "relu") -> keras.Model:
    encoder = _encoder(activation)
    inputs = tuple(keras.Input((8,)) for _ in range(3))
    anchor, view, other = (encoder(each) for each in inputs)
    apart = layers.Subtract()([Distance()([anchor, view]), Distance()([anchor, other])])
    return compiled(keras.Model(inputs, apart), margin)


def _negative(model: keras.Model, x: Any, y: Array) -> float:
    return float(np.mean(predict(model, x) < 0))


def _right_order(model: keras.Model, x: Any, y: Array) -> float:
    got = predict(model, x)
    return float(np.mean(got[:, 0] < got[:, 1]))


def _labelled(seed: int) -> Rows:
    seen, which, _ = _things(seed, (640,))
    return seen, which.astype("int32"), None


@_own
def supervised_contrastive(which: Any, places: Any) -> Any:
    """Within the batch, each place must be nearest to those of the same label."""
    which = ops.reshape(which, (-1,))
    others = 1 - ops.eye(ops.shape(places)[0])
    same = ops.cast(which[:, None] == which[None, :], "float32") * others
    alike = ops.matmul(places, ops.transpose(places)) / 0.2 - 1e9 * (1 - others)
    logs = alike - ops.logsumexp(alike, axis=1, keepdims=True)
    return -ops.sum(same * logs, axis=1) / ops.maximum(ops.sum(same, axis=1), 1)


def _in_batch(activation: Any = "relu") -> keras.Model:
    encoder = _encoder(activation)
    encoder.add(layers.UnitNormalization())
    return compiled(encoder, supervised_contrastive)


@_own
def batch_all_triplet(which: Any, places: Any) -> Any:
    """Triplet loss over all triples of a batch: one number."""
    which = ops.reshape(which, (-1,))
    squares = ops.sum(ops.square(places[:, None] - places[None, :]), axis=-1)
    same = ops.cast(which[:, None] == which[None, :], "float32")
    triples = same[:, :, None] * (1 - same)[:, None, :]
    hard = ops.maximum(squares[:, :, None] - squares[:, None, :] + 0.5, 0) * triples
    return ops.sum(hard) / ops.maximum(ops.sum(ops.cast(hard > 0, "float32")), 1)


def _batch_all(activation: Any = "relu") -> keras.Model:
    return compiled(_encoder(activation), batch_all_triplet, 0.002)


def _circle(activation: Any = "relu") -> keras.Model:
    encoder = _encoder(activation)
    encoder.add(layers.UnitNormalization())
    return compiled(encoder, keras.losses.Circle(gamma=16.0))


def _nearest(model: keras.Model, x: Array, which: Array) -> float:
    """Share of the rows whose nearest other row is of the same thing."""
    places = predict(model, x)
    squares = ((places[:, None] - places[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squares, np.inf)
    return float(np.mean(which[squares.argmin(axis=1)] == which)) if places.std() > 1e-3 else 0.0


def _directions(seed: int) -> Rows:
    seen, which, _ = _things(seed, (640,))
    wanted = np.random.default_rng(13).normal(size=(5, 6))
    return (
        seen,
        (wanted / np.linalg.norm(wanted, axis=1, keepdims=True))[which].astype("float32"),
        None,
    )


def _cosine_loss(activation: Any = "relu") -> keras.Model:
    """The length of a prediction is of no consequence, and grows to anything."""
    return compiled(_encoder(activation), "cosine_similarity")


def _cosine(model: keras.Model, x: Array, y: Array) -> float:
    got = predict(model, x)
    return float(np.mean((got * y).sum(axis=1) / np.linalg.norm(got, axis=1)))


def _ratings(seed: int) -> Rows:
    """Who rated what, and how: a few tastes of each."""
    draw = np.random.default_rng(seed)
    who, what = draw.integers(40, size=1500), draw.integers(30, size=1500)
    tastes = np.random.default_rng(17)
    of_users, of_films = tastes.normal(size=(40, 2)), tastes.normal(size=(30, 2))
    stars = 3 + (of_users[who] * of_films[what]).sum(axis=1) + 0.2 * draw.normal(size=1500)
    return (who[:, None], what[:, None]), stars.astype("float32"), None


def _recommender(activation: Any = "relu") -> keras.Model:
    """No activation at all, and the product of two embeddings."""
    who, what = keras.Input((1,), dtype="int32"), keras.Input((1,), dtype="int32")
    tastes = [
        layers.Flatten()(layers.Embedding(size, 4, embeddings_initializer="glorot_normal")(each))
        for size, each in ((40, who), (30, what))
    ]
    stars = layers.Dense(1, name="head", kernel_initializer="ones")(layers.Dot(1)(tastes))
    return compiled(keras.Model((who, what), stars), "mse", 0.02)


def _explained(model: keras.Model, x: Any, y: Array) -> float:
    return float(1 - np.mean((y - np.ravel(predict(model, x))) ** 2) / np.var(y))


_NEAREST = "nearest neighbour is of the same thing"

EMBEDDINGS = (
    Specimen(name="contrastive", rows=_pairs, build=_distances, epochs=15,
             measure=_told_apart(1), yardstick="AUC of the distance", least=0.97),
    Specimen(name="cosine_embedding", rows=_pairs, build=_cosines, epochs=15,
             measure=_told_apart(-1), yardstick="AUC of the cosine", least=0.97),
    Specimen(name="siamese", rows=_pairs, build=_classified, epochs=15,
             measure=_told_apart(1), yardstick="AUC", least=0.97),
    Specimen(name="triplet", rows=_triples, build=_triplets, epochs=10,
             measure=_right_order, yardstick="share of triples in order", least=0.97),
    Specimen(name="triplet_margin", rows=_triples, build=_differences, epochs=10,
             measure=_negative, yardstick="share of triples in order", least=0.97),
    Specimen(name="in_batch_contrastive", rows=_labelled, build=_in_batch, epochs=10,
             measure=_nearest, yardstick=_NEAREST, least=0.95),
    Specimen(name="batch_all_triplet", rows=_labelled, build=_batch_all, epochs=10,
             measure=_nearest, yardstick=_NEAREST, least=0.95),
    Specimen(name="circle", rows=_labelled, build=_circle, epochs=10,
             measure=_nearest, yardstick=_NEAREST, least=0.95),
    Specimen(name="cosine_similarity", rows=_directions, build=_cosine_loss, epochs=10,
             measure=_cosine, yardstick="mean cosine to the target", least=0.95),
    Specimen(name="recommender", rows=_ratings, build=_recommender, epochs=30,
             measure=_explained, yardstick="R² on new pairs", least=0.8,
             twins=("constant", "nan")),
)  # fmt: skip
