"""Classifiers whose loss is not the plain cross-entropy, or whose classes are rare."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tests.zoo.specimen import Array, Rows, Specimen, auc, compiled, normal, predict, stack

ops = keras.ops
_own = keras.saving.register_keras_serializable(package="zoo")


def _rare(seed: int, threshold: float = 3.4, rows: int = 3000) -> Rows:
    """One positive in a hundred; the true score has an AUC of 0.98."""
    draw, x = normal(seed, rows)
    score = x[:, 0] + x[:, 1] + 0.7 * draw.normal(size=rows)
    return x, (score > threshold).astype("float32")[:, None], None


def _common(seed: int) -> Rows:
    """As many positives as negatives; the true score has an AUC of 0.94."""
    return _rare(seed, 0.0, 800)


def _binary_auc(model: keras.Model, x: Array, y: Array) -> float:
    """Over that of the score that the rows were drawn from, which nothing can exceed by much."""
    return auc(y, predict(model, x)) / auc(y, x[:, 0] + x[:, 1])


def _blobs(seed: int, noise: float = 0.8, rows: int = 800) -> tuple[Array, Array]:
    """Four classes around centres."""
    draw = np.random.default_rng(seed)
    classes = draw.integers(4, size=rows)
    centres = np.random.default_rng(7).normal(size=(4, 6)) * 1.5
    return (centres[classes] + noise * draw.normal(size=(rows, 6))).astype("float32"), classes


def _sparse(seed: int) -> Rows:
    x, classes = _blobs(seed)
    return x, classes, None


def _one_hot(seed: int) -> Rows:
    x, classes = _blobs(seed)
    return x, np.eye(4, dtype="float32")[classes], None


def _accuracy(model: keras.Model, x: Array, y: Array) -> float:
    wanted = y.argmax(axis=1) if y.ndim > 1 and y.shape[1] > 1 else np.ravel(y)
    return float(np.mean(predict(model, x).argmax(axis=1) == wanted))


@_own
def own_focal(y: Any, p: Any) -> Any:
    """Focal loss as written in a hundred notebooks: one number for the batch."""
    p = ops.clip(p, 1e-7, 1 - 1e-7)
    true = ops.where(ops.equal(y, 1), p, 1 - p)
    alpha = ops.where(ops.equal(y, 1), 0.75, 0.25)
    return -ops.mean(alpha * ops.square(1 - true) * ops.log(true))


def _focal_categorical(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 4, "softmax", activation), keras.losses.CategoricalFocalCrossentropy())


def _focal_rare(activation: Any = "relu") -> keras.Model:
    loss = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True)
    return compiled(stack(6, 1, "sigmoid", activation), loss)


def _focal_own(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, "sigmoid", activation), own_focal)


def _crossentropy(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, "sigmoid", activation), "binary_crossentropy", metrics=["AUC"])


# Boxes on a grid: the mask of a bright square among noise.


def _masks(seed: int) -> Rows:
    draw = np.random.default_rng(seed)
    y = np.zeros((192, 12, 12, 1), "float32")
    for image in y:
        top, left = draw.integers(9, size=2)
        image[top : top + 3, left : left + 3] = 1
    return (y + 0.3 * draw.normal(size=y.shape)).astype("float32"), y, None


def _overlap(model: keras.Model, x: Array, y: Array) -> float:
    got = predict(model, x) > 0.5
    return float(2 * (got * y).sum() / (got.sum() + y.sum()))


def _segmenter(activation: Any) -> keras.Model:
    return keras.Sequential([
        keras.Input((12, 12, 1)),
        keras.layers.Conv2D(6, 3, padding="same", activation=activation, name="hidden"),
        keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid", name="head"),
    ])  # fmt: skip


def _dice(activation: Any = "relu") -> keras.Model:
    return compiled(_segmenter(activation), "dice", 0.02)


@_own
class SmoothDice(keras.losses.Loss):
    """One minus the overlap of each image, so that it is a loss a row."""

    def call(self, y: Any, p: Any) -> Any:
        """Compare images."""
        axes = (1, 2, 3)
        both = 2 * ops.sum(y * p, axis=axes) + 1
        return 1 - both / (ops.sum(y, axis=axes) + ops.sum(p, axis=axes) + 1)


def _dice_own(activation: Any = "relu") -> keras.Model:
    return compiled(_segmenter(activation), SmoothDice(), 0.02)


def _tversky(activation: Any = "relu") -> keras.Model:
    return compiled(_segmenter(activation), keras.losses.Tversky(alpha=0.3, beta=0.7), 0.02)


# Grades from 0 to 4, by thresholds on one score.


def _grades(seed: int) -> Rows:
    draw, x = normal(seed, 800)
    score = x[:, 0] - x[:, 1] + 0.5 * np.abs(x[:, 2]) + 0.3 * draw.normal(size=800)
    return x, np.digitize(score, [-1.0, 0.0, 0.8, 1.8]).astype("int32"), None


@_own
def cumulative(y: Any, logits: Any) -> Any:
    """Ordinal regression: the k-th logit says whether the grade is above k."""
    above = ops.cast(ops.reshape(y, (-1, 1)) > ops.arange(4, dtype=y.dtype), "float32")
    return ops.sum(keras.losses.binary_crossentropy(
        above[..., None], logits[..., None], from_logits=True), axis=-1)  # fmt: skip


def _ordinal(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 4, None, activation), cumulative)


def _near_grade(model: keras.Model, x: Array, y: Array) -> float:
    return float(np.mean(np.abs((predict(model, x) > 0).sum(axis=1) - y) <= 1))


def _signs(seed: int) -> Rows:
    x, y, _ = _common(seed)
    return x, 2 * y - 1, None


def _hinge(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, None, activation), "hinge", metrics=["accuracy"])


def _squared_hinge(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 1, "tanh", activation), "squared_hinge")


def _categorical_hinge(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 4, None, activation), "categorical_hinge")


def _smoothed(activation: Any = "relu") -> keras.Model:
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.2)
    return compiled(stack(6, 4, "softmax", activation), loss)


def _logits(activation: Any = "relu") -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(stack(6, 4, None, activation), loss)


def _softmax_as_logits(activation: Any = "relu") -> keras.Model:
    """Keras goes back to the logits where it sees a softmax layer."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return compiled(stack(6, 4, "softmax", activation), loss)


def _wrapped_logits(activation: Any = "relu") -> keras.Model:
    """A function of one's own around Keras's: nothing on it says that these are logits."""
    return compiled(stack(6, 4, None, activation), sparse_from_logits)


@_own
def sparse_from_logits(y: Any, z: Any) -> Any:
    """The usual way of the tutorials of TensorFlow."""
    return keras.losses.sparse_categorical_crossentropy(y, z, from_logits=True)


def _binary_logits(activation: Any = "relu") -> keras.Model:
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(stack(6, 1, None, activation), loss)


def _sigmoid_as_logits(activation: Any = "relu") -> keras.Model:
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    return compiled(stack(6, 1, "sigmoid", activation), loss)


def _heavy(seed: int) -> Rows:
    """Four rows in five have a weight of 0, and labels that are nonsense."""
    x, y, _ = _rare(seed, 0.0, 2000)
    draw = np.random.default_rng(seed + 1)
    weight = np.where(draw.uniform(size=2000) < 0.8, 0.0, draw.lognormal(0, 1.5, 2000))
    y = np.where(weight[:, None] > 0, y, draw.integers(2, size=(2000, 1)))
    return x, y.astype("float32"), weight.astype("float32")


def _heavy_auc(model: keras.Model, x: Array, y: Array) -> float:
    return _binary_auc(model, *_common(5)[:2])


def _tags(seed: int) -> Rows:
    """Twelve labels a row: some common, some rare, one that nobody ever gave."""
    draw, x = normal(seed, 1000, 8)
    score = x @ np.random.default_rng(3).normal(size=(8, 12)) / 2 + 0.5 * draw.normal(
        size=(1000, 12)
    )
    y = (score > np.linspace(0, 3.0, 12)).astype("float32")
    y[:, 11] = 0
    return x, y, None


def _tagger(activation: Any = "relu") -> keras.Model:
    return compiled(stack(8, 12, "sigmoid", activation), "binary_crossentropy")


def _tags_auc(model: keras.Model, x: Array, y: Array) -> float:
    return auc(y[:, :6], predict(model, x)[:, :6])


def _imbalanced(seed: int) -> Rows:
    x, classes = _blobs(seed, 1.2, 2400)
    draw = np.random.default_rng(seed)
    kept = draw.uniform(size=2400) < np.array([1.0, 0.3, 0.1, 0.03])[classes]
    return x[kept], classes[kept], None


def _weighted(activation: Any = "relu") -> keras.Model:
    return compiled(stack(6, 4, "softmax", activation), "sparse_categorical_crossentropy")


def _balanced(model: keras.Model, x: Array, y: Array) -> float:
    got = predict(model, x).argmax(axis=1)
    return float(np.mean([np.mean(got[y == each] == each) for each in range(4)]))


_AUC = "AUC over the true score's"
_ACCURACY = "accuracy on new rows, four classes"
_OVERLAP = "overlap of the masks (Dice)"

CLASSIFIERS = (
    Specimen(name="focal_rare", rows=_rare, build=_focal_rare, epochs=15,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="focal_own", rows=_rare, build=_focal_own, epochs=15,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="focal_categorical", rows=_one_hot, build=_focal_categorical, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="rare_positives", rows=_rare, build=_crossentropy, epochs=15,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="class_weight", rows=_rare, build=_crossentropy, epochs=15,
             measure=_binary_auc, yardstick=_AUC, least=0.95, class_weight={0: 0.5, 1: 50.0}),
    Specimen(name="class_weight_of_four", rows=_imbalanced, build=_weighted, epochs=15,
             measure=_balanced, yardstick="recall, averaged over the classes", least=0.75,
             class_weight={0: 0.3, 1: 1.0, 2: 3.0, 3: 10.0}),
    Specimen(name="dice", rows=_masks, build=_dice, epochs=20,
             measure=_overlap, yardstick=_OVERLAP, least=0.8),
    Specimen(name="dice_own", rows=_masks, build=_dice_own, epochs=20,
             measure=_overlap, yardstick=_OVERLAP, least=0.8),
    Specimen(name="tversky", rows=_masks, build=_tversky, epochs=20,
             measure=_overlap, yardstick=_OVERLAP, least=0.8),
    Specimen(name="ordinal", rows=_grades, build=_ordinal, epochs=10,
             measure=_near_grade, yardstick="share at most one grade off", least=0.95),
    Specimen(name="hinge", rows=_signs, build=_hinge, epochs=10,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="squared_hinge", rows=_signs, build=_squared_hinge, epochs=10,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="categorical_hinge", rows=_one_hot, build=_categorical_hinge, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="label_smoothing", rows=_one_hot, build=_smoothed, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="logits", rows=_sparse, build=_logits, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="softmax_as_logits", rows=_sparse, build=_softmax_as_logits, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="wrapped_logits", rows=_sparse, build=_wrapped_logits, epochs=10,
             measure=_accuracy, yardstick=_ACCURACY, least=0.85),
    Specimen(name="binary_logits", rows=_common, build=_binary_logits, epochs=10,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="sigmoid_as_logits", rows=_common, build=_sigmoid_as_logits, epochs=10,
             measure=_binary_auc, yardstick=_AUC, least=0.95),
    Specimen(name="sample_weights", rows=_heavy, build=_crossentropy, epochs=10,
             measure=_heavy_auc, yardstick=_AUC, least=0.95),
    Specimen(name="multi_label", rows=_tags, build=_tagger, epochs=20,
             measure=_tags_auc, yardstick="AUC of the common labels", least=0.9),
)  # fmt: skip
