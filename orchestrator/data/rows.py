"""Rows of inputs and targets: arrays, in memory or mapped from a file.

Pure NumPy. A model with several inputs or outputs has a dict or a tuple of arrays where one with a
single input has an array; both are called a tree here.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import optree

Array = npt.NDArray[Any]
Tree = Any
"""An array, or a dict or tuple of trees."""
Batch = tuple[Tree, Tree, Array | None]
"""Inputs, targets and sample weights of the same rows; weights are None where there are none."""

Precision = Literal["float32", "float64"]

PIECE = 65_536
"""Rows that are looked at together at most."""

PIECE_BYTES = 2**24
"""Size of what is looked at together, so that memory stays bounded however large a row is."""

_KERAS_EPSILON = 1e-7
"""`keras.config.epsilon()`: `Normalization` divides by no less than this."""


def leaves(tree: Tree) -> list[tuple[str, Any]]:
    """The arrays of a tree with their paths, such as `image` or `0/image`; "" for a lone array."""
    paths = ["/".join(map(str, path)) for path in optree.tree_paths(tree)]
    return list(zip(paths, optree.tree_leaves(tree), strict=True))


def transform(function: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """The tree with the function applied to each of its arrays."""
    return optree.tree_map(function, tree, *others)


def name_of(role: str, path: str) -> str:
    """How an array of a tree is called in messages: `x`, or `x.image`."""
    return f"{role}.{path.replace('/', '.')}" if path else role


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Scaling:
    """Shift and scale of each input column, as `keras.layers.Normalization` applies them."""

    mean: npt.NDArray[np.float32]
    """Mean over the training rows, shape (columns,)."""
    variance: npt.NDArray[np.float32]
    """Variance over the training rows, 1 where a column is left as it is; shape (columns,)."""

    def describe(self) -> dict[str, list[float]]:
        """Mean and variance as plain numbers, for the record."""
        return {"mean": self.mean.tolist(), "variance": self.variance.tolist()}

    @classmethod
    def from_description(cls, description: Mapping[str, Sequence[float]]) -> Scaling:
        """The scaling that a record describes."""
        mean, variance = (np.asarray(description[key], np.float32) for key in ("mean", "variance"))
        return cls(mean=mean, variance=variance)

    @property
    def deviation(self) -> npt.NDArray[np.float32]:
        """What is divided by, shape (columns,)."""
        return np.maximum(np.sqrt(self.variance), np.float32(_KERAS_EPSILON))

    def part(self, columns: slice) -> Scaling:
        """The scaling of some of the columns."""
        return Scaling(mean=self.mean[columns], variance=self.variance[columns])

    def apply(self, x: Array) -> npt.NDArray[np.float32]:
        """Standardise in float32, in the layer's own order of operations.

        Args:
            x: raw inputs, shape (rows, …, columns).

        Returns:
            Standardised inputs of the same shape.
        """
        scaled = (x.astype(np.float32) - self.mean) / self.deviation
        return scaled.astype(np.float32, copy=False)


Scalings = Mapping[str, Scaling]
"""The scaling of each input that has one, by its path."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lookup:
    """Columns of inputs that follow from a category."""

    codes: npt.NDArray[np.integer[Any]]
    """Category of each row, shape (rows,)."""
    table: Array
    """What each category puts into the columns, shape (categories, columns)."""

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return len(self.codes), self.table.shape[1]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Columns:
    """Inputs side by side: an array of shape (rows, columns) to those who look at some rows of it.

    A table's texts are as many columns as they have categories, which need not fit in memory.
    """

    parts: tuple[Array | Lookup, ...]
    """From left to right: numbers of shape (rows,) or (rows, columns), or categories."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        first = self.parts[0]
        return first.table.dtype if isinstance(first, Lookup) else first.dtype

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of columns of each part."""
        return tuple((*part.shape, 1)[1] for part in self.parts)

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.parts[0].shape[0], sum(self.widths)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return 2

    @property
    def nbytes(self) -> int:
        """Size that the array would have."""
        rows, columns = self.shape
        return rows * columns * self.dtype.itemsize

    def __len__(self) -> int:
        """Number of rows."""
        return self.shape[0]

    def __getitem__(self, places: Array | slice) -> Array:
        """The rows at some places."""
        chosen = [
            part.table[part.codes[places]] if isinstance(part, Lookup) else part[places]
            for part in self.parts
        ]
        dense = np.empty((len(chosen[0]), self.shape[1]), self.dtype)
        start = 0
        for values, width in zip(chosen, self.widths, strict=True):
            dense[:, start : start + width] = values.reshape(-1, width)
            start += width
        return dense

    def ready(
        self, places: Array | slice, scaling: Scaling | None, precision: Precision
    ) -> Columns:
        """Some rows as the model takes them, with categories still.

        Args:
            places: positions of the rows.
            scaling: the standardisation of the columns.
            precision: type of the numbers.
        """
        begin = 0
        parts: list[Array | Lookup] = []
        for part, width in zip(self.parts, self.widths, strict=True):
            own = None if scaling is None else scaling.part(slice(begin, begin + width))
            begin += width
            if isinstance(part, Lookup):
                table = standardized(part.table, own, precision)
                parts.append(Lookup(codes=part.codes[places], table=table))
            else:
                parts.append(standardized(part[places].reshape(-1, width), own, precision))
        return Columns(parts=tuple(parts))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All rows."""
        return self[:].astype(dtype or self.dtype, copy=False)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Rows:
    """Inputs and targets of the same rows, as arrays."""

    x: Tree
    """Inputs; each array of shape (rows, …), in memory, mapped from a file, or `Columns`."""
    y: Tree
    """Targets; each array of shape (rows,) or (rows, …), in memory."""
    weight: Array | None = None
    """Weight of each row in the loss, shape (rows,)."""
    columns: tuple[str, ...] = ()
    """Names of the columns of x; empty where it did not come from a table."""
    order: Array | None = None
    """Positions of these rows in x, where it is lazy and holds others too."""
    scalings: Scalings = dataclasses.field(default_factory=dict)
    """What is still to be applied to x, where it is lazy."""
    precision: Precision = "float32"
    """Type of the floating-point inputs that the model gets."""

    def __len__(self) -> int:
        """Number of rows."""
        return num_rows(self.x) if self.order is None else len(self.order)

    @property
    def lazy(self) -> bool:
        """Whether x is read or made where rows are looked at, and may be larger than memory."""
        return any(isinstance(array, np.memmap | Columns) for array in optree.tree_leaves(self.x))

    @property
    def mapped(self) -> bool:
        """Whether x is mapped from a file."""
        return any(isinstance(array, np.memmap) for array in optree.tree_leaves(self.x))

    def pick(self, indices: Array | slice) -> Batch:
        """The rows at the indices, as they were read."""
        places = indices if self.order is None else self.order[indices]
        return (
            transform(lambda array: np.asarray(array[places]), self.x),
            transform(lambda array: array[indices], self.y),
            None if self.weight is None else self.weight[indices],
        )

    def raw(self, size: int | None = None) -> Iterator[Batch]:
        """All rows in order, as they were read."""
        size = size or piece(self.x)
        for start in range(0, len(self), size):
            yield self.pick(slice(start, start + size))

    def batch(self, indices: Array | slice) -> Batch:
        """The rows at the indices, ready for the model."""
        return ready(self.pick(indices), self.scalings, self.precision)

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order, ready for the model."""
        for batch in self.raw(size):
            yield ready(batch, self.scalings, self.precision)

    def first(self, count: int) -> Batch:
        """The first rows, ready for the model."""
        return self.batch(slice(0, count))

    def whole(self) -> Batch:
        """All rows, ready for the model; `Columns` stay such: as an array they need not fit."""
        places: Array | slice = slice(None) if self.order is None else self.order
        inputs = [
            array.ready(places, self.scalings.get(path), self.precision)
            if isinstance(array, Columns)
            else standardized(array[places], self.scalings.get(path), self.precision)
            for path, array in leaves(self.x)
        ]
        x = optree.tree_unflatten(optree.tree_structure(self.x), inputs)
        return x, self.y, self.weight

    def num_batches(self, size: int) -> int:
        """Number of batches of a size."""
        return -(-len(self) // size)

    def take(self, indices: Array) -> Rows:
        """The rows at the indices; what is lazy stays where it is."""
        places = indices if self.order is None else self.order[indices]
        x = self.x if self.lazy else transform(lambda array: array[indices], self.x)
        return dataclasses.replace(
            self,
            x=x,
            y=transform(lambda array: array[indices], self.y),
            weight=None if self.weight is None else self.weight[indices],
            order=places if self.lazy else None,
        )


class Readable(Protocol):
    """Rows that can be read a batch at a time."""

    def __len__(self) -> int:
        """Number of rows."""

    def first(self, count: int) -> Batch:
        """The first rows, ready for the model."""

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows, ready for the model."""


AnyRows = Rows


def num_rows(tree: Tree) -> int:
    """Number of rows of a tree's arrays."""
    return int(optree.tree_leaves(tree)[0].shape[0])


def piece(tree: Tree) -> int:
    """How many rows of a tree's arrays are looked at together."""
    num_bytes = sum(int(array.nbytes) for array in optree.tree_leaves(tree))
    return max(min(PIECE, PIECE_BYTES * num_rows(tree) // max(num_bytes, 1)), 1)


def select(batch: Batch, indices: Array | slice) -> Batch:
    """Some rows of a batch."""
    x, y, weight = batch
    return (
        transform(lambda array: array[indices], x),
        transform(lambda array: array[indices], y),
        None if weight is None else weight[indices],
    )


def ready(batch: Batch, scalings: Scalings, precision: Precision = "float32") -> Batch:
    """A batch as the model takes it: standardised where there is a scaling.

    Targets and weights stay as exact as they are: an offset of 1e4 leaves float32 three digits.
    """
    x, y, weight = batch
    inputs = [standardized(array, scalings.get(path), precision) for path, array in leaves(x)]
    x = optree.tree_unflatten(optree.tree_structure(x), inputs)
    return x, transform(exact, y), None if weight is None else exact(weight)


def standardized(array: Array, scaling: Scaling | None, precision: Precision = "float32") -> Array:
    """Inputs as the model takes them: standardised where there is a scaling."""
    return number(array, precision) if scaling is None else scaling.apply(array)


def number(array: Array, precision: Precision = "float32") -> Array:
    """The array in a type that Keras computes in: floats and truth values as float32."""
    kind = precision if array.dtype.kind in "fb" else array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


def trained_on(batch: Batch) -> Batch:
    """A batch that is ready for the model, with targets and weights as Keras trains on them.

    Where there are no targets they are None, as for Keras.
    """
    x, y, weight = batch
    targets = transform(number, y) if leaves(y) else None
    return x, targets, None if weight is None else number(weight)


def exact(array: Array) -> Array:
    """The array in a type of this machine with the values that it has."""
    kind = np.float32 if array.dtype.kind == "b" else array.dtype.newbyteorder("=")
    return array.astype(kind, copy=False)


def fingerprint(parts: Sequence[Rows | int], extra: str = "") -> str:
    """SHA-256 over structure, shapes, types and values, before standardisation.

    Args:
        parts: training rows and, where there are any, validation rows; or the hash of those that
            may come in another order, see `digest_rows`.
        extra: what else makes the rows what they are, such as the categories of text columns.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    digest = hashlib.sha256(extra.encode())
    for part in parts:
        if isinstance(part, int):
            digest.update(str(part).encode())
            continue
        for path, array in leaves((part.x, part.y, part.weight)):
            digest.update(f"{path}{array.dtype.str}{(len(part), *array.shape[1:])}".encode())
        for batch in part.raw():
            for _, array in leaves(batch):
                digest.update(np.ascontiguousarray(hashable(array)).data)
    return f"sha256:{digest.hexdigest()}"


def digest_rows(batch: Batch) -> int:
    """A hash of a batch's rows that does not depend on their order, modulo 2**64.

    The sum over the rows of a mixed linear hash: it tells changed data, it does not withstand an
    adversary.
    """
    count = num_rows(batch[0])
    total = np.zeros(count, np.uint64)
    for index, (_, array) in enumerate(leaves(batch)):
        content = np.ascontiguousarray(hashable(array)).reshape(count, -1).view(np.uint8)
        factors = np.random.default_rng(index).integers(
            2**64, size=content.shape[1], dtype=np.uint64
        )
        total += content.astype(np.uint64) @ (factors | np.uint64(1))
    # The finaliser of SplitMix64, without which the sum would be linear in the values.
    total = (total ^ (total >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    total = (total ^ (total >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return int(np.sum(total ^ (total >> np.uint64(31)), dtype=np.uint64))


def is_text(array: Any) -> bool:
    """Whether an array holds texts: NumPy's own, or Python's as objects."""
    return array.dtype.kind in "USO"


def decoded(array: Array) -> Array:
    """Texts as NumPy's own, bytes read as UTF-8.

    Raises:
        UnicodeDecodeError: bytes are something else; a ValueError.
    """
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind == "O":
        texts = [each.decode() if isinstance(each, bytes) else each for each in array.flat]
        return np.array(texts, dtype=str).reshape(array.shape)
    return array


def hashable(array: Array) -> Array:
    """The array as numbers, texts as a hash of 64 bits each, however wide their type is."""
    if not is_text(array):
        return array
    texts = (each if isinstance(each, bytes) else str(each).encode() for each in array.flat)
    codes = [hashlib.blake2b(each, digest_size=8).digest() for each in texts]
    return np.frombuffer(b"".join(codes), np.uint64).reshape(array.shape)
