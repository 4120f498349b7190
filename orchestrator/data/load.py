"""The rows of a config: read, checked to the last value, split, encoded and standardised.

Only callables can bring TensorFlow in; tables and archives are read with NumPy alone, so that what
is wrong with them is said before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import optree

from orchestrator.config import user_code
from orchestrator.config.schema import Config
from orchestrator.config.sections.data import (
    CallableSource,
    CsvSource,
    FeatherSource,
    GivenSource,
    NpySource,
    NpzSource,
    ParquetSource,
    Split,
    TableSource,
)
from orchestrator.data import rows, standardize
from orchestrator.data.arrays import from_values, has_texts, invalid
from orchestrator.data.files import arrow, csv, encoding, numpy
from orchestrator.data.files.encoding import Encoding
from orchestrator.data.files.tables import Table
from orchestrator.data.rows import AnyRows, Array, Scaling, Stream, Tree
from orchestrator.data.streams import blamed_batches, is_dataset, kind_of, read_dataset, read_stream
from orchestrator.errors import InvalidError


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What an attempt trains on."""

    train: AnyRows
    """Training rows."""
    validation: AnyRows | None
    """Rows that are never trained on, treated alike."""
    scalings: Mapping[str, Scaling]
    """The standardisation of each input by its path; empty without one."""
    encoding: Encoding
    """How texts became numbers."""
    fingerprint: str
    """Hash of the rows before standardisation."""


def load(config: Config) -> Dataset:
    """Read, check, split, encode and standardise the rows of a config, in memory.

    Args:
        config: the config.

    Returns:
        The dataset; the same one for every attempt of a run. Streams, and what is mapped from a
        file, are standardised batch by batch.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    return in_memory(load_lazily(config))


def in_memory(dataset: Dataset) -> Dataset:
    """The dataset with inputs as the model takes them, but for streams and what is mapped."""
    held = None if dataset.validation is None else _ready(dataset.validation)
    return dataclasses.replace(dataset, train=_ready(dataset.train), validation=held)


def _ready(part: AnyRows) -> AnyRows:
    if isinstance(part, Stream) or part.mapped:
        return part
    x, _, _ = part.batch(slice(None))
    return dataclasses.replace(part, x=x, order=None, scalings={})


def load_lazily(config: Config) -> Dataset:
    """Read, check, split and encode the rows of a config, to be standardised batch by batch.

    Args:
        config: the config.

    Returns:
        The dataset, with inputs that may be `Columns`.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    found, held_found = _split(read(config, "train"), config)
    learnt = encoding.learn(found) if isinstance(found, Table) else Encoding()
    train = encoding.encode(found, learnt) if isinstance(found, Table) else found
    held = held_found
    if isinstance(held_found, Table):
        held = encoding.encode(held_found, learnt)
    train, held, classes = _encode_targets(train, held, config)
    learnt = dataclasses.replace(learnt, classes={**learnt.classes, **classes})
    if held is not None:
        _check_alike(train, held, config)
    parts = [train] if held is None else [train, held]
    digest = rows.fingerprint(parts, repr(learnt) if learnt != Encoding() else "")
    scalings = standardize.scalings(train, config) if config.data.standardize else {}
    return Dataset(
        train=_scaled(train, scalings),
        validation=None if held is None else _scaled(held, scalings),
        scalings=scalings,
        encoding=learnt,
        fingerprint=digest,
    )


def _split(found: AnyRows | Table, config: Config) -> tuple[Any, Any]:
    """Training rows and validation rows, before texts are encoded."""
    validation = config.data.validation
    if validation is None:
        return found, None
    if not isinstance(validation, Split):
        return found, read(config, "validation")
    key = ("data", "validation", "fraction")
    if isinstance(found, Stream):
        message = "a stream of batches cannot be split"
        hint = "give data.validation a source of its own"
        raise InvalidError([config.problem(key, message, hint)])
    if len(found) < 2:
        message = f"expected at least 2 rows to split, received {len(found)}"
        raise InvalidError([config.problem(key, message)])
    kept, held = rows.split_positions(len(found), validation.fraction, config.seed)
    return found.take(kept), found.take(held)


def _encode_targets(
    train: AnyRows, held: AnyRows | None, config: Config
) -> tuple[AnyRows, AnyRows | None, dict[str, tuple[str, ...]]]:
    """Texts among the target arrays as class indices, by the classes of the training rows."""
    classes: dict[str, tuple[str, ...]] = {}
    for path, array in rows.leaves(train.y):
        if array.dtype.kind in "US":
            classes[path or "y"] = tuple(np.unique(array.astype(str)).tolist())

    def encode(part: AnyRows, role: str) -> AnyRows:
        encoded = []
        for path, array in rows.leaves(part.y):
            known = classes.get(path or "y")
            if (known is not None) != (array.dtype.kind in "US"):
                expected, received = ("texts", "numbers") if known else ("numbers", "texts")
                message = f"expected {expected} as targets like the training data, not {received}"
                raise InvalidError([config.problem(("data", role), message)])
            encoded.append(array if known is None else _indices(array, known, role, config))
        return dataclasses.replace(
            part, y=optree.tree_unflatten(optree.tree_structure(part.y), encoded)
        )

    if not classes and (held is None or not has_texts(held.y)):
        return train, held, classes
    return encode(train, "train"), None if held is None else encode(held, "validation"), classes


def _indices(array: Array, known: tuple[str, ...], role: str, config: Config) -> Array:
    texts = array.astype(str)
    places = np.minimum(np.searchsorted(known, texts), len(known) - 1)
    unseen = np.flatnonzero((np.asarray(known)[places] != texts).reshape(len(texts), -1).any(1))
    if len(unseen):
        row = int(unseen[0])
        message = f"row {row} (from 0): the class {str(texts[row])!r} is not in the training rows"
        raise InvalidError([config.problem(("data", role), message, "train on such rows too")])
    return places.astype(np.int64)


def _check_alike(train: AnyRows, held: AnyRows, config: Config) -> None:
    def shapes(tree: Tree) -> str:
        found = [(path, array.shape[1:]) for path, array in rows.leaves(tree)]
        return ", ".join(f"{path}: {shape}" if path else str(shape) for path, shape in found)

    named = train.columns and held.columns
    columns = [", ".join(part.columns if named else ()) for part in (train, held)]
    pairs = [
        ("the columns", *columns),
        ("inputs of shape", shapes(train.first(1)[0]), shapes(held.first(1)[0])),
        ("targets of shape", shapes(train.y), shapes(held.y)),
    ]
    for what, expected, received in pairs:
        if expected != received:
            message = f"expected {what} {expected} as in the training data, received {received}"
            raise InvalidError([config.problem(("data", "validation"), message)])


def _scaled(part: AnyRows, scalings: Mapping[str, Scaling]) -> AnyRows:
    """The rows with what is still to be applied to them."""
    y = rows.transform(rows.exact, part.y)
    weight = None if part.weight is None else rows.exact(part.weight)
    return dataclasses.replace(part, y=y, weight=weight, scalings=scalings)


def read(config: Config, part: str) -> AnyRows | Table:
    """Read one source of a config and check every value of it.

    Args:
        config: the config.
        part: `train` or `validation`.

    Returns:
        Rows with finite numbers only, or a table of them whose texts are not encoded yet.

    Raises:
        InvalidError: the data is at fault.
        UserCodeError: the callable raised.
    """
    source = getattr(config.data, part)
    match source:
        case TableSource():
            return read_table(source, config)
        case NpzSource():
            return numpy.read_npz(config.path(source.npz), source, name=source.npz)
        case NpySource():
            return numpy.read_npy(source, config)
        case CallableSource():
            return read_callable(source, config, part)
        case GivenSource():
            return _read_given(config, part)
    raise TypeError(f"Expected a source with rows of its own. Received: {source!r}")


def read_table(source: TableSource, config: Config) -> Table:
    """Read a table and check every cell of it.

    Args:
        source: the file and its columns.
        config: the config, from whose folder the path starts.

    Returns:
        Finite numbers, and texts that are not encoded yet.

    Raises:
        InvalidError: the file is at fault.
    """
    match source:
        case CsvSource():
            return csv.read(config.path(source.csv), source, name=source.csv)
        case ParquetSource():
            return arrow.read_parquet(config.path(source.parquet), source, name=source.parquet)
        case FeatherSource():
            return arrow.read_feather(config.path(source.feather), source, name=source.feather)
    raise TypeError(f"Expected a table of a known kind. Received: {source!r}")


def has_user_code(config: Config) -> bool:
    """Whether reading the data runs code of the user's, or needs what only a worker has."""
    sources = (config.data.train, config.data.validation)
    return any(isinstance(source, CallableSource | GivenSource) for source in sources)


def read_callable(source: CallableSource, config: Config, part: str) -> AnyRows:
    """Call the user's function and check what it returns.

    Args:
        source: the function and its arguments.
        config: the config.
        part: `train` or `validation`.

    Returns:
        The rows, or the stream of batches.

    Raises:
        InvalidError: there is no such function, or it returns anything but arrays that fit.
        UserCodeError: it raised.
    """
    key = ("data", part)
    function = user_code.find(source.callable, config, key=(*key, "callable"))
    user_code.check_arguments(function, source.kwargs, config, key=(*key, "kwargs"))

    def call() -> Any:
        with user_code.blamed(f"the data callable {source.callable}"):
            return function(**source.kwargs)

    result = call()
    name = source.callable
    if is_dataset(result):
        return read_dataset(result, name)
    if inspect.isgenerator(result):
        return read_stream(lambda: blamed_batches(call(), name), name)
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        expected = "a tuple (x, y) or (x, y, sample_weight), a tf.data.Dataset or a generator"
        raise invalid(name, f"expected it to return {expected}, received {kind_of(result)}")
    return from_values(*result, name=name)


def _read_given(config: Config, part: str) -> AnyRows:
    x, y, weight = config.given.rows(part)
    name = f"retrain(…): {part}"
    if is_dataset(x):
        return read_dataset(x, name)
    return from_values(x, y, weight, name=name)
