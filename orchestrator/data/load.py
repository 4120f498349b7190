"""The rows of a config: read, checked to the last value, split, encoded and standardised.

Only callables can bring TensorFlow in; tables and archives are read with NumPy alone, so that what
is wrong with them is said before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
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
from orchestrator.data import rows, split, standardize
from orchestrator.data.arrays import from_values, has_texts, invalid
from orchestrator.data.files import arrow, csv, encoding, names, numpy
from orchestrator.data.files.encoding import Encoding
from orchestrator.data.files.tables import Table, target_columns
from orchestrator.data.rows import Array, Rows, Scaling, Tree
from orchestrator.data.split import Positions
from orchestrator.data.streams import recording, sources
from orchestrator.data.streams.recording import Live, Reading, Recorded, Report
from orchestrator.data.streams.sources import Source, kind_of
from orchestrator.errors import InvalidError, Reporter
from orchestrator.record.events import ReadingProgress


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Dataset:
    """What an attempt trains on."""

    train: Rows
    """Training rows; of a source of batches those of one epoch."""
    validation: Rows | None
    """Rows that are never trained on, treated alike."""
    scalings: Mapping[str, Scaling]
    """The standardisation of each input by its path; empty without one."""
    encoding: Encoding
    """How texts became numbers."""
    fingerprint: str
    """Hash of the rows before standardisation."""
    live: Live | None = None
    """What training takes from a source of batches; None where it takes the rows."""
    warnings: tuple[str, ...] = ()
    """What the user should know of the rows although nothing is wrong with them."""

    @property
    def num_rows(self) -> int:
        """Rows of an epoch, of which `train` holds the first where they are too large to keep."""
        return len(self.train) if self.live is None else self.live.rows


def load(config: Config) -> Dataset:
    """Read, check, split, encode and standardise the rows of a config, in memory.

    Args:
        config: the config.

    Returns:
        The dataset; the same one for every attempt of a run. What is mapped from a file is
        standardised batch by batch.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    return in_memory(load_lazily(config))


def in_memory(dataset: Dataset) -> Dataset:
    """The dataset with inputs as the model takes them, but for what is mapped."""
    held = None if dataset.validation is None else _ready(dataset.validation)
    return dataclasses.replace(dataset, train=_ready(dataset.train), validation=held)


def _ready(part: Rows) -> Rows:
    if part.mapped:
        return part
    x, _, _ = part.batch(slice(None))
    return dataclasses.replace(part, x=x, order=None, scalings={})


def standardized(dataset: Dataset, leaving: Container[str] = ()) -> Dataset:
    """The dataset with inputs standardised, which were as they were read.

    Columns that float32 cannot standardise stay as they are.

    Args:
        dataset: all rows.
        leaving: paths of inputs that stay as they are.
    """
    scalings = {
        path: standardize.feasible(each)
        for path, each in standardize.statistics(dataset.train).items()
        if path not in leaving
    }
    held = dataset.validation
    return dataclasses.replace(
        dataset,
        train=dataclasses.replace(dataset.train, scalings=scalings),
        validation=None if held is None else dataclasses.replace(held, scalings=scalings),
        scalings=scalings,
    )


def _say_nothing(progress: ReadingProgress) -> None:
    """Take a report that nobody waits for."""


def load_lazily(
    config: Config, folder: Path | None = None, report: Report = _say_nothing
) -> Dataset:
    """Read, check, split and encode the rows of a config, to be standardised batch by batch.

    Args:
        config: the config.
        folder: gets the rows of sources of batches; None for files without a name.
        report: told how far the reading has come.

    Returns:
        The dataset, with inputs that may be `Columns`.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    found = read(config, "train", folder, report)
    live = found.live if isinstance(found, Recorded) else None
    found, held_found, digests = _split(found, config, folder, report)
    learnt = Encoding()
    naming: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    train, held = found, held_found
    if isinstance(found, Table):
        learnt = encoding.learn(found)
        naming, warnings = names.naming(found, learnt), tuple(names.warnings(found, learnt))
        train = encoding.encode(found, learnt)
    if isinstance(held_found, Table):
        held = encoding.encode(held_found, learnt, naming, _drawn(config))
    train, held, classes = _encode_targets(train, held, config)
    learnt = dataclasses.replace(learnt, classes={**learnt.classes, **classes})
    if held is not None:
        _check_alike(train, held, config)
    parts = [
        part if digest is None else digest
        for part, digest in zip((train, held), digests, strict=True)
        if part is not None
    ]
    digest = rows.fingerprint(parts, repr(learnt) if learnt != Encoding() else "")
    scalings = standardize.scalings(train, config) if config.data.standardize is True else {}
    return Dataset(
        train=_scaled(train, scalings),
        validation=None if held is None else _scaled(held, scalings),
        scalings=scalings,
        encoding=learnt,
        fingerprint=digest,
        live=live,
        warnings=warnings,
    )


def _drawn(config: Config) -> int | None:
    """The seed of the split that holds rows back at random; None where none does."""
    held = config.data.validation
    return config.seed if isinstance(held, Split) and not held.last else None


def _split(
    found: Rows | Table | Recorded, config: Config, folder: Path | None, report: Report
) -> tuple[Any, Any, tuple[int | None, int | None]]:
    """Training rows and validation rows, before texts are encoded, and the hashes of batches'."""
    validation = config.data.validation
    own = found.digest if isinstance(found, Recorded) else None
    train = found.kept if isinstance(found, Recorded) else found
    if validation is None:
        return train, None, (own, None)
    if not isinstance(validation, Split):
        held = read(config, "validation", folder, report)
        if isinstance(held, Recorded):
            return train, held.kept, (own, held.digest)
        return train, held, (own, None)
    if isinstance(found, Recorded):
        message = "a stream of batches cannot be split"
        hint = "give data.validation a source of its own"
        raise InvalidError([config.problem(("data", "validation", "fraction"), message, hint)])
    kept, held_back = _positions(found, validation, config)
    return found.take(kept), found.take(held_back), (None, None)


def _positions(found: Rows | Table, wanted: Split, config: Config) -> tuple[Positions, Positions]:
    """Positions of the training rows and of those that are held back."""

    def refused(name: str, message: str, hint: str | None = None) -> InvalidError:
        return InvalidError([config.problem(("data", "validation", name), message, hint)])

    if len(found) < 2:
        raise refused("fraction", f"expected at least 2 rows to split, received {len(found)}")
    if wanted.last:
        return split.last(len(found), wanted.fraction)
    try:
        if wanted.group is not None:
            if not isinstance(found, Table):
                message = f"expected a column of a table, received {wanted.group!r}"
                raise refused("group", message, "only csv, parquet and feather have columns")
            groups, texts = found.values(wanted.group), found.texts(wanted.group)
            return split.by_group(groups, wanted.fraction, config.seed, texts)
        if wanted.stratify:
            labels, texts = _labels(found)
            return split.by_class(labels, wanted.fraction, config.seed, texts)
    except ValueError as error:
        name = "stratify" if wanted.stratify else "group"
        raise refused(name, str(error)) from error
    return split.at_random(len(found), wanted.fraction, config.seed)


def _labels(found: Rows | Table) -> tuple[Array, tuple[str, ...]]:
    """The class of each row, and the texts of a table in which it is a position.

    Raises:
        ValueError: there are several targets, or what they hold are no classes.
    """
    texts: tuple[str, ...] = ()
    if isinstance(found, Table):
        columns = target_columns(found.source)
        targets = [found.values(column) for column in columns]
        texts = found.texts(columns[0])
    else:
        targets = [array for _, array in rows.leaves(found.y)]
    if len(targets) != 1:
        raise ValueError(f"expected one target with classes, received {len(targets)} targets")
    labels = np.asarray(targets[0])
    if rows.is_text(labels):
        labels = rows.decoded(labels)
    if labels.ndim > 1 and labels.shape[-1] > 1:
        one_hot = labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()
        if not one_hot:
            raise ValueError(f"expected one class a row, received targets of {labels.shape[1:]}")
        labels = labels.argmax(axis=1)
    labels = labels.reshape(len(labels), -1)[:, 0]
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        raise ValueError("expected classes as targets, received numbers that are not whole")
    return labels, texts


def _encode_targets(
    train: Rows, held: Rows | None, config: Config
) -> tuple[Rows, Rows | None, dict[str, tuple[str, ...]]]:
    """Texts among the target arrays as class indices, by the classes of the training rows."""
    classes: dict[str, tuple[str, ...]] = {}
    for path, array in rows.leaves(train.y):
        if rows.is_text(array):
            classes[path or "y"] = texts_in(array, "train", config)

    def encode(part: Rows, role: str) -> Rows:
        encoded = []
        for path, array in rows.leaves(part.y):
            known = classes.get(path or "y")
            if (known is not None) != rows.is_text(array):
                expected, received = ("texts", "numbers") if known else ("numbers", "texts")
                message = f"expected {expected} as targets like the training data, not {received}"
                raise InvalidError([config.problem(("data", role), message)])
            if known is not None:
                array = class_indices(array, known, role, config, _drawn(config))
            encoded.append(array)
        return dataclasses.replace(
            part, y=optree.tree_unflatten(optree.tree_structure(part.y), encoded)
        )

    if not classes and (held is None or not has_texts(held.y)):
        return train, held, classes
    return encode(train, "train"), None if held is None else encode(held, "validation"), classes


def texts_in(array: Array, role: str, reporter: Reporter) -> tuple[str, ...]:
    """The texts that an array has, sorted.

    Raises:
        InvalidError: bytes are no UTF-8.
    """
    return tuple(np.unique(_texts(array, role, reporter)).tolist())


def _texts(array: Array, role: str, reporter: Reporter) -> Array:
    try:
        return rows.decoded(array)
    except UnicodeDecodeError as error:
        message = f"expected UTF-8 texts as targets, received {error.object!r}"
        raise InvalidError([reporter.problem(("data", role), message)]) from error


def class_indices(
    array: Array, known: Sequence[str], role: str, reporter: Reporter, drawn: int | None = None
) -> Array:
    """Texts as positions in the known classes.

    Args:
        array: texts, shape (rows,).
        known: the classes, sorted.
        role: `train` or `validation`, for the place of a problem.
        reporter: knows that place.
        drawn: seed of the split that has held the rows back; None where none has.

    Returns:
        int64 of the same shape.

    Raises:
        InvalidError: a text is not among them, or bytes are no UTF-8.
    """
    texts = _texts(array, role, reporter)
    places = np.minimum(np.searchsorted(known, texts), len(known) - 1)
    unseen = np.flatnonzero((np.asarray(known)[places] != texts).reshape(len(texts), -1).any(1))
    if len(unseen):
        row = int(unseen[0])
        message = f"row {row} (from 0): the class {str(texts[row])!r} is not in the training rows"
        raise InvalidError([reporter.problem(("data", role), *encoding.unseen(message, drawn))])
    return places.astype(np.int64)


def _check_alike(train: Rows, held: Rows, config: Config) -> None:
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


def _scaled(part: Rows, scalings: Mapping[str, Scaling]) -> Rows:
    """The rows with what is still to be applied to them."""
    y = rows.transform(rows.exact, part.y)
    weight = None if part.weight is None else rows.exact(part.weight)
    return dataclasses.replace(part, y=y, weight=weight, scalings=scalings)


def read(
    config: Config, part: str, folder: Path | None = None, report: Report = _say_nothing
) -> Rows | Table | Recorded:
    """Read one source of a config and check every value of it.

    Args:
        config: the config.
        part: `train` or `validation`.
        folder: gets the rows of a source of batches; None for files without a name.
        report: told how far the reading has come.

    Returns:
        Rows with finite numbers only, or a table of them whose texts are not encoded yet.

    Raises:
        InvalidError: the data is at fault.
        UserCodeError: the callable raised.
    """
    source = getattr(config.data, part)
    match source:
        case TableSource():
            held = config.data.validation
            group = held.group if isinstance(held, Split) else None
            return read_table(source.grouped_by(group), config)
        case NpzSource():
            return numpy.read_npz(config.path(source.npz), source, name=source.npz)
        case NpySource():
            return numpy.read_npy(source, config)
        case CallableSource() | GivenSource():
            report(ReadingProgress(what=_what(config, part)))
            found = _read_code(config, part, folder, report)
            report(ReadingProgress(what=_what(config, part), done=True))
            return found
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


def open_source(config: Config, part: str) -> Source | None:
    """What gives the batches of a part of the data, ready to be read from its beginning.

    Args:
        config: the config.
        part: `train` or `validation`.

    Returns:
        None where the rows are arrays.

    Raises:
        InvalidError: there is no such function.
        UserCodeError: it raised.
    """
    found = _returned(config, part)
    return found if isinstance(found, Source) else None


def _name(config: Config, part: str) -> str:
    """How the user's code that gives rows is called in problems."""
    source = getattr(config.data, part)
    return f"retrain(…): {part}" if isinstance(source, GivenSource) else source.callable


def _what(config: Config, part: str) -> str:
    """How it is called while it is waited for."""
    source = getattr(config.data, part)
    if isinstance(source, GivenSource):
        return f"what retrain was given as {'rows' if part == 'train' else 'validation rows'}"
    return f"the data callable {source.callable}"


def _read_code(config: Config, part: str, folder: Path | None, report: Report) -> Rows | Recorded:
    """What the user's code gives, as rows."""
    name, key = _name(config, part), ("data", part, "steps_per_epoch")
    steps = getattr(config.data, part).steps_per_epoch
    found = _returned(config, part)
    if isinstance(found, Source):
        argument = "pass steps_per_epoch=N" if part == "train" else "give one that ends"
        written = f"write data.{part}.steps_per_epoch: N"
        hint = argument if name.startswith("retrain") else written
        return recording.record(
            found,
            Reading(
                name=name,
                what=_what(config, part),
                steps_per_epoch=steps,
                hint=f"{hint}, where N is the number of batches of an epoch",
                folder=folder,
                report=report,
            ),
        )
    if steps is not None:
        message = "expected batches, whose number is that of steps; an epoch of arrays has all rows"
        raise InvalidError([config.problem(key, message, "leave it out")])
    return from_values(*found, name=name)


def _returned(config: Config, part: str) -> Source | tuple[Any, Any, Any]:
    """A source of batches, or (x, y, sample_weight)."""
    source = getattr(config.data, part)
    name = _name(config, part)
    if isinstance(source, CallableSource):
        key = ("data", part)
        function = user_code.find(source.callable, config, key=(*key, "callable"))
        user_code.check_arguments(function, source.kwargs, config, key=(*key, "kwargs"))
        return _called(lambda: function(**source.kwargs), name, _what(config, part))
    x, y, weight = config.given.rows(part)
    found = sources.find(x, name)
    if found is None and callable(x):
        return _called(x, name, f"the function {getattr(x, '__qualname__', type(x).__name__)}")
    return (x, y, weight) if found is None else found


def _called(function: Callable[[], Any], name: str, what: str) -> Source | tuple[Any, Any, Any]:
    """What a function of the user's returns.

    Raises:
        InvalidError: it returns anything but arrays or batches.
        UserCodeError: it raised.
    """

    def call() -> Any:
        with user_code.blamed(what):
            return function()

    result = call()
    found = sources.find(result, name, again=call)
    if found is not None:
        return found
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        expected = (
            "a tuple (x, y) or (x, y, sample_weight), a tf.data.Dataset, a keras.utils.PyDataset "
            "or a generator"
        )
        raise invalid(name, f"expected it to return {expected}, received {kind_of(result)}")
    x, y, weight = (*result, None)[:3]
    return x, y, weight
