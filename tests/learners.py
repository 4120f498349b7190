"""Healthy networks for the check `learned`, each of which has learnt what there is to learn."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from orchestrator.config.sections.checks import Checks, Learned
from orchestrator.data.rows import Rows
from orchestrator.diagnosis.diagnose import Arguments
from orchestrator.diagnosis.examine import examine
from orchestrator.diagnosis.skill.learned import Lesson
from orchestrator.diagnosis.tracing.probe import Probe
from orchestrator.diagnosis.verdicts.checks import Evidence
from orchestrator.diagnosis.verdicts.learned import Course
from orchestrator.diagnosis.verdicts.learned import learned as judge_learnt
from orchestrator.model.losses.returned import Returned
from orchestrator.model.outputs import find_outputs
from orchestrator.record.checks import AnyCheck, LearnedCheck

Array = npt.NDArray[Any]
layers = keras.layers

DATA = Path(__file__).parents[1] / "configs" / "data"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Learner:
    """A network that is healthy, with its rows."""

    name: str
    rows: Callable[[np.random.Generator], tuple[Any, Any]]
    """Gives inputs and targets."""
    build: Callable[[], keras.Model]
    """Gives the compiled model; its last layer with a kernel is called `head`."""
    epochs: int = 40
    twin: float = 0.15
    """What is left of what the last layer hears in its broken twin, see `shrink`."""
    fit: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """More arguments for Keras's `fit`, such as class weights."""
    early: bool = False
    """Whether it stops early, when its validation loss rises."""

    def drawn(self) -> tuple[Any, Any]:
        """The rows, the same at every call."""
        return self.rows(np.random.default_rng(0))

    def trained(self) -> tuple[keras.Model, list[float]]:
        """The trained model, and the loss of every epoch."""
        keras.utils.set_random_seed(0)
        model = self.build()
        x, y = self.drawn()
        more: dict[str, Any] = dict(self.fit)
        if self.early:
            stop = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
            more |= {"validation_split": 0.2, "callbacks": [stop]}
        history = model.fit(x, y, epochs=self.epochs, batch_size=32, verbose=0, **more)
        return model, history.history["loss"]


class Judge:
    """Takes the checks after the last phase of a run, as often as the weights have changed.

    Args:
        model: the compiled model.
        x: inputs.
        y: targets.
        weight: weight of each row, or None.
    """

    def __init__(self, model: keras.Model, x: Any, y: Any, weight: Any = None) -> None:
        self._rows = Rows(x=x, y=y, weight=weight)
        self._probe = Probe(model)
        self._outputs = find_outputs(model, Arguments(), self._rows)

    def checks(self, losses: Sequence[float] = ()) -> dict[str, AnyCheck]:
        """The checks by name, after epochs with these losses."""
        course = Course(losses=tuple(losses), epochs=len(losses))
        known = Evidence(course=course)
        examined = examine(self._probe, self._rows, self._outputs, Checks(), known)
        return {check.check: check for check in examined.checks}


def judge(model: keras.Model, x: Any, y: Any) -> dict[str, AnyCheck]:
    """The checks after the last phase of a run, by name."""
    return Judge(model, x, y).checks()


def lesson(model: keras.Model, x: Any, y: Any, weight: Any = None) -> LearnedCheck:
    """What was learnt alone, of what a model returns, without a look at its units."""
    rows = Rows(x=x, y=y, weight=weight)
    taken = Lesson(find_outputs(model, Arguments(), rows))
    for batch_x, batch_y, batch_weight in rows.batches(1024):
        returned = keras.tree.flatten(model(batch_x, training=False))
        taken.see(batch_x, [Returned(each) for each in returned], batch_y, batch_weight)
    return judge_learnt(taken.found(), Learned())


def learned(checks: Mapping[str, AnyCheck]) -> LearnedCheck:
    """The check of what was learnt."""
    found = checks["learned"]
    if not isinstance(found, LearnedCheck):
        raise TypeError(f"Expected what was learnt. Received: {found!r}")
    return found


def shrink(model: keras.Model, x: Any, share: float) -> None:
    """Make a model of one that has learnt nearly nothing, alive all the same.

    What the last layer hears is made so much less, around what it hears on average: as a network
    that is regularised too much.
    """
    head = model.get_layer("head")
    before = keras.Model(model.inputs, head.input)
    mean = np.asarray(before.predict(x, verbose=0)).mean(axis=0)
    kernel, bias = head.get_weights()
    head.set_weights([share * kernel, bias + (1 - share) * mean @ kernel])


# ---------------------------------------------------------------------------------- rows


def table(name: str) -> list[dict[str, str]]:
    """The rows of a table that the project ships."""
    with (DATA / name).open(newline="") as file:
        return list(csv.DictReader(file))


def airfoil(target: str | None = None) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Sound of an airfoil; its inputs and targets scaled. Or another of its columns as target."""

    def rows(draw: np.random.Generator) -> tuple[Array, Array]:
        found = table("airfoil_self_noise.csv")
        columns = list(found[0])
        values = np.array([[float(row[name]) for name in columns] for row in found])
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        place = columns.index(target) if target else len(columns) - 1
        return np.delete(values, place, axis=1), values[:, place]

    return rows


def loud(draw: np.random.Generator) -> tuple[Array, Array]:
    """Whether it is louder than most."""
    x, y = airfoil()(draw)
    return x, (y > 0.5).astype("float32")


def penguins(target: str) -> Callable[[np.random.Generator], tuple[Array, Array]]:
    """Penguins: the species or the sex as classes, or the body mass."""
    numbers = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")

    def rows(draw: np.random.Generator) -> tuple[Array, Array]:
        found = [row for row in table("penguins.csv") if all(row[name] for name in numbers)]
        x = np.array([[float(row[name]) for name in numbers if name != target] for row in found])
        x = (x - x.mean(axis=0)) / x.std(axis=0)
        if target in numbers:
            y = np.array([float(row[target]) for row in found])
            return x, (y - y.mean()) / y.std()
        return x, np.unique([row[target] for row in found], return_inverse=True)[1]

    return rows


def normal(columns: int, count: int, function: Callable[..., Array], noise: float = 0.0) -> Any:
    """Standard normal inputs, a function of their columns, and noise of so many deviations."""

    def rows(draw: np.random.Generator) -> tuple[Array, Array]:
        x = draw.normal(size=(count, columns))
        y = function(*x.T)
        return x, y + noise * y.std() * draw.normal(size=count)

    return rows


def friedman(draw: np.random.Generator) -> tuple[Array, Array]:
    """Friedman, Multivariate adaptive regression splines, 1991, the first function."""
    x = draw.uniform(size=(1000, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    return x, (y + 10 * x[:, 3] + 5 * x[:, 4] + draw.normal(size=1000)) / 5


def moons(draw: np.random.Generator) -> tuple[Array, Array]:
    """Two half circles that hold each other."""
    y = np.arange(800) % 2
    angle = np.pi * draw.uniform(size=800)
    x = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.where(y[:, None] == 1, [1.0, 0.5] - x, x)
    return x + 0.2 * draw.normal(size=x.shape), y


def rings(draw: np.random.Generator) -> tuple[Array, Array]:
    """A ring around another."""
    y = np.arange(800) % 2
    angle = 2 * np.pi * draw.uniform(size=800)
    radius = 1 + y + 0.2 * draw.normal(size=800)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), y


def blobs(classes: int, columns: int, count: int, spread: float = 1.0) -> Any:
    """Clouds around as many centres."""

    def rows(draw: np.random.Generator) -> tuple[Array, Array]:
        y = np.arange(count) % classes
        centres = 2 * draw.normal(size=(classes, columns))
        return centres[y] + spread * draw.normal(size=(count, columns)), y

    return rows


def one_hot(rows: Any, classes: int) -> Any:
    """The same rows with a column for each class."""

    def wide(draw: np.random.Generator) -> tuple[Array, Array]:
        x, y = rows(draw)
        return x, np.eye(classes)[y]

    return wide


def labels(draw: np.random.Generator) -> tuple[Array, Array]:
    """Three labels a row, of which each may be there or not."""
    x = draw.normal(size=(1000, 8))
    hidden = x[:, :3] + np.abs(x[:, 3:6]) - 0.8
    return x, (hidden + 0.4 * draw.normal(size=hidden.shape) > 0).astype("float32")


def rare(draw: np.random.Generator) -> tuple[Array, Array]:
    """A tenth of the rows is positive, and not all of these can be told."""
    x = draw.normal(size=(2000, 6))
    return x, (x[:, 0] + x[:, 1] + 0.7 * draw.normal(size=2000) > 2).astype("float32")


def tailed(draw: np.random.Generator) -> tuple[Array, Array]:
    """Noise with heavy tails: Student's t of two degrees of freedom, which has no variance."""
    x = draw.normal(size=(1500, 5))
    return x, 2 * x[:, 0] + np.abs(x[:, 1]) + 0.5 * draw.standard_t(2, size=1500)


def amounts(noise: float) -> Any:
    """Amounts that are lognormal: skewed, with a few that are very large."""

    def rows(draw: np.random.Generator) -> tuple[Array, Array]:
        x = draw.normal(size=(1500, 5))
        return x, np.exp(x[:, 0] + 0.5 * x[:, 1] + noise * draw.normal(size=1500))

    return rows


def halves(draw: np.random.Generator) -> tuple[Array, Array]:
    """One or nothing, of which mae learns the likelier: by its square it is worth very little."""
    x = draw.normal(size=(1500, 5))
    return x, 2.0 * (draw.uniform(size=1500) < 1 / (1 + np.exp(-1.5 * x[:, 0])))


def lasting(draw: np.random.Generator) -> tuple[Array, Array]:
    """Amounts under a median that is far from their mean."""
    x = draw.normal(size=(1500, 5))
    here = draw.uniform(size=1500) < 1 / (1 + np.exp(1.0 - 1.5 * x[:, 0]))
    return x, np.where(here, np.exp(0.8 * x[:, 1] + 0.8 * draw.normal(size=1500)), 0)


def bars(draw: np.random.Generator) -> tuple[Array, Array]:
    """Pictures with a bar somewhere: upright, level, or along one of the diagonals."""
    count = 800
    pictures, y = draw.uniform(0, 0.6, size=(count, 12, 12, 1)), np.arange(count) % 4
    for picture, kind, (row, column) in zip(
        pictures, y, draw.integers(3, 9, size=(count, 2)), strict=True
    ):
        step = ((1, 0), (0, 1), (1, 1), (1, -1))[kind]
        for at in range(-3, 4):
            picture[(row + at * step[0]) % 12, (column + at * step[1]) % 12] = 1.0
    return pictures, y


def corners(draw: np.random.Generator) -> tuple[Array, Array]:
    """Bytes: a picture that is brighter in one of its corners."""
    y = np.arange(800) % 4
    x = draw.integers(0, 180, size=(800, 12, 12, 1))
    for picture, kind in zip(x, y, strict=True):
        row, column = divmod(int(kind), 2)
        picture[row * 6 : row * 6 + 6, column * 6 : column * 6 + 6] += 40
    return x.astype("uint8"), y


def brightness(draw: np.random.Generator) -> tuple[Array, Array]:
    """How bright the middle of a picture is."""
    x = draw.uniform(size=(800, 12, 12, 1)) * draw.uniform(size=(800, 1, 1, 1))
    return x, 4 * x[:, 4:8, 4:8].mean(axis=(1, 2, 3))


def waves(draw: np.random.Generator) -> tuple[Array, Array]:
    """A series whose next value is asked for."""
    phase, speed = draw.uniform(0, 6.28, size=(1000, 1)), draw.uniform(0.2, 0.6, size=(1000, 1))
    series = np.sin(phase + speed * np.arange(21)) + 0.1 * draw.normal(size=(1000, 21))
    return series[:, :-1, None], series[:, -1]


def rhythms(draw: np.random.Generator) -> tuple[Array, Array]:
    """Series that are slow, middling or fast, wherever they begin."""
    y = np.arange(900) % 3
    phase = draw.uniform(0, 6.28, size=(900, 1))
    speed = np.array([0.3, 0.8, 1.6])[y][:, None]
    series = np.sin(phase + speed * np.arange(24)) + 0.3 * draw.normal(size=(900, 24))
    return series[:, :, None], y


def sums(draw: np.random.Generator) -> tuple[Array, Array]:
    """What a series adds up to."""
    x = draw.normal(size=(1000, 15, 2))
    return x, x[:, :, 0].sum(axis=1) / 4 + 0.1 * draw.normal(size=1000)


def steps(draw: np.random.Generator) -> tuple[Array, Array]:
    """Whole numbers and shares of very different sizes, a step and a slope."""
    x = np.stack(
        [draw.integers(0, 50, 1200), 1000 * draw.uniform(size=1200), draw.normal(size=1200)], axis=1
    )
    y = (x[:, 0] > 25) + 0.002 * x[:, 1] + 0.3 * x[:, 2]
    return x, y + 0.2 * draw.normal(size=1200)


def several(draw: np.random.Generator) -> tuple[Array, Array]:
    """Three targets of different sizes, one of them with much noise."""
    x = draw.normal(size=(1200, 6))
    y = np.stack([x[:, 0] * x[:, 1], 3 * np.abs(x[:, 2]), 0.5 * x[:, 3]], axis=1)
    return x, y + np.array([0.1, 0.1, 0.5]) * draw.normal(size=y.shape)


def two(draw: np.random.Generator) -> tuple[Array, dict[str, Array]]:
    """A price, and whether it was sold."""
    x = draw.normal(size=(1000, 6))
    sold = (x[:, 2] + 0.7 * draw.normal(size=1000) > 0).astype("float32")
    return x, {"head": x[:, 0] + np.abs(x[:, 1]), "sold": sold}


# -------------------------------------------------------------------------------- networks


def dense(
    columns: int,
    units: int = 1,
    loss: Any = "mse",
    *,
    last: str | None = None,
    widths: Sequence[int] = (32, 32),
    activation: str = "relu",
    dropout: float = 0.0,
    l2: float = 0.0,
    normalised: bool = False,
    optimizer: str = "Adam",
    rate: float = 3e-3,
) -> Callable[[], keras.Model]:
    """Dense layers."""

    def build() -> keras.Model:
        stack: list[Any] = [keras.Input((columns,))]
        for width in widths:
            held = keras.regularizers.L2(l2) if l2 else None
            stack.append(layers.Dense(width, kernel_regularizer=held))
            stack += [layers.BatchNormalization()] if normalised else []
            stack.append(layers.Activation(activation))
            stack += [layers.Dropout(dropout)] if dropout else []
        return compiled([*stack, layers.Dense(units, activation=last, name="head")], loss, rate,
                        optimizer)  # fmt: skip

    return build


def scaled(rows: Any) -> keras.Model:
    """Dense layers behind one that scales what comes in."""
    x, _ = rows(np.random.default_rng(0))
    scaling = layers.Normalization()
    scaling.adapt(x)
    hidden = [layers.Dense(32, activation="relu") for _ in range(2)]
    return compiled([keras.Input(x.shape[1:]), scaling, *hidden, layers.Dense(1, name="head")],
                    "mse")  # fmt: skip


def compiled(stack: Sequence[Any], loss: Any, rate: float = 3e-3, optimizer: str = "Adam") -> Any:
    """A model of layers."""
    model = keras.Sequential(list(stack))
    model.compile(getattr(keras.optimizers, optimizer)(rate), loss)
    return model


def classes(columns: int, units: int, **others: Any) -> Callable[[], keras.Model]:
    """Dense layers for class indices."""
    return dense(columns, units, SPARSE, last="softmax", **others)


def binary(columns: int, **others: Any) -> Callable[[], keras.Model]:
    """Dense layers for one class or the other."""
    return dense(columns, 1, "binary_crossentropy", last="sigmoid", **others)


def convolution(units: int, loss: str, last: str | None, *, bytes_: bool = False) -> Any:
    """Two convolutions."""

    def build() -> keras.Model:
        return compiled(
            [
                keras.Input((12, 12, 1)),
                *([layers.Rescaling(1 / 255)] if bytes_ else []),
                layers.Conv2D(16, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(16, 3, activation="relu"),
                layers.Flatten(),
                layers.Dense(units, activation=last, name="head"),
            ],
            loss,
        )

    return build


def recurrent(
    kind: str, shape: tuple[int, int], units: int, loss: str, last: str | None = None
) -> Any:
    """A recurrent layer, or a convolution over time."""

    def build() -> keras.Model:
        inner = {
            "lstm": lambda: [layers.LSTM(16)],
            "gru": lambda: [layers.GRU(16)],
            "conv": lambda: [layers.Conv1D(16, 5, activation="relu"),
                             layers.GlobalAveragePooling1D()],
        }[kind]()  # fmt: skip
        head = layers.Dense(units, activation=last, name="head")
        return compiled([keras.Input(shape), *inner, head], loss, 0.01)

    return build


def residual() -> keras.Model:
    """Blocks that add to what comes in."""
    x = inputs = keras.Input((10,))
    x = layers.Dense(32)(x)
    for _ in range(4):
        x = layers.Add()([x, layers.Dense(32, activation="relu")(layers.LayerNormalization()(x))])
    model = keras.Model(inputs, layers.Dense(1, name="head")(x))
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    return model


def two_heads() -> keras.Model:
    """Two outputs of one stem."""
    inputs = keras.Input((6,))
    x = layers.Dense(32, activation="relu")(layers.Dense(32, activation="relu")(inputs))
    outputs = {
        "head": layers.Dense(1, name="head")(x),
        "sold": layers.Dense(1, activation="sigmoid", name="sold")(x),
    }
    model = keras.Model(inputs, outputs)
    model.compile("adam", {"head": "mse", "sold": "binary_crossentropy"})
    return model


SPARSE = "sparse_categorical_crossentropy"
HINGED = keras.losses.Huber(0.5)

ALL: tuple[Learner, ...] = tuple(
    Learner(name=name, rows=rows, build=build, epochs=epochs, **others)
    for name, rows, build, epochs, others in (
        # Real tables.
        ("airfoil", airfoil(), dense(5), 40, {}),
        ("airfoil, dropout", airfoil(), dense(5, widths=(256, 256), dropout=0.5), 40, {}),
        ("airfoil, L2", airfoil(), dense(5, l2=3e-3), 40, {}),
        ("airfoil, five epochs", airfoil(), dense(5), 5, {}),
        ("airfoil, early stopping", airfoil(), dense(5), 60, {"early": True}),
        ("airfoil, mae", airfoil(), dense(5, loss="mae"), 40, {}),
        ("airfoil, thickness", airfoil("displacement_thickness_m"), dense(5), 40, {}),
        ("airfoil, loud", loud, binary(5), 40, {}),
        ("penguins, species", penguins("species"), classes(4, 3), 40, {"twin": 0.02}),
        ("penguins, sex", penguins("sex"), classes(4, 3), 40, {"twin": 0.02}),
        ("penguins, mass", penguins("body_mass_g"), dense(3), 40, {}),
        # Made-up tables.
        ("friedman", friedman, dense(10), 40, {}),
        ("friedman, residual", friedman, residual, 30, {}),
        ("friedman, tanh", friedman, dense(10, activation="tanh"), 40, {}),
        ("friedman, batchnorm", friedman, dense(10, normalised=True, dropout=0.2), 40, {}),
        ("friedman, sgd", friedman, dense(10, optimizer="SGD", rate=0.01), 40, {}),
        ("product", normal(6, 1000, lambda a, b, *_: a * b, 0.3), dense(6), 60, {}),
        ("absolute", normal(1, 500, np.abs), dense(1), 40, {}),
        ("line", normal(20, 600, lambda a, b, *_: a - 2 * b, 0.5), dense(20, widths=()), 60,
         {"fit": {"validation_split": 0.2}}),
        ("weak, a fifth", normal(5, 1500, lambda a, *_: a, 2.0), dense(5), 20, {}),
        ("steps", steps, lambda: scaled(steps), 40, {}),
        ("several targets", several, dense(6, 3), 60, {}),
        ("two heads", two, two_heads, 40, {}),
        ("moons", moons, binary(2), 40, {"twin": 0.02}),
        ("rings", rings, binary(2), 60, {}),
        ("blobs", blobs(10, 8, 1000), classes(8, 10), 30, {}),
        ("blobs, one-hot", one_hot(blobs(5, 8, 800, 3.0), 5),
         dense(8, 5, "categorical_crossentropy", last="softmax", dropout=0.5), 40, {}),
        ("a hundred blobs", blobs(100, 20, 3000), classes(20, 100, widths=(64,)), 30, {}),
        ("labels", labels, dense(8, 3, "binary_crossentropy", last="sigmoid"), 30, {"twin": 0.02}),
        ("rare", rare, binary(6), 20, {}),
        # Heavy tails.
        ("tails, mse", tailed, dense(5), 20, {}),
        ("tails, mae", tailed, dense(5, loss="mae"), 30, {}),
        ("tails, huber", tailed, dense(5, loss=HINGED), 30, {}),
        ("amounts, mse", amounts(0.3), dense(5), 40, {}),
        ("amounts, mae", amounts(0.5), dense(5, loss="mae"), 40, {}),
        ("skewed amounts, mae", amounts(1.0), dense(5, loss="mae"), 40, {"twin": 0.0}),
        ("halves, mae", halves, dense(5, loss="mae"), 40, {}),
        ("amounts or nothing, mae", lasting, dense(5, loss="mae"), 40, {"twin": 0.0}),
        # Pictures and series.
        ("bars", bars, convolution(4, SPARSE, "softmax"), 25, {"twin": 0.0}),
        ("corners of bytes", corners,
         convolution(4, SPARSE, "softmax", bytes_=True), 10, {"twin": 0.02}),
        ("brightness", brightness, convolution(1, "mse", None), 20, {}),
        ("waves", waves, recurrent("lstm", (20, 1), 1, "mse"), 20, {}),
        ("rhythms", rhythms,
         recurrent("conv", (24, 1), 3, SPARSE, "softmax"), 30, {"twin": 0.02}),
        ("sums", sums, recurrent("gru", (15, 2), 1, "mse"), 20, {}),
    )
)  # fmt: skip
