"""The rows of a config: read, checked to the last value, split, encoded and standardised.

Only callables can bring TensorFlow in; tables and archives are read with NumPy alone, so that what
is wrong with them is said before TensorFlow is imported.
"""

from __future__ import annotations

import dataclasses
import inspect
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optree

from orchestrator.config import user_code
from orchestrator.config.schema import (
    CallableSource,
    Config,
    CsvSource,
    GivenSource,
    NpySource,
    NpzSource,
    ParquetSource,
    Split,
)
from orchestrator.data import rows, tables
from orchestrator.data.rows import AnyRows, Array, Batch, Rows, Scaling, Stream, Tree
from orchestrator.data.tables import Encoding, Table, invalid, open_file, summary
from orchestrator.errors import InvalidError, Problem, suggestion

_MAX_PROBLEMS = 10
"""Columns named that cannot be standardised."""

_KERAS_EPSILON = 1e-7
"""`keras.config.epsilon()`: `Normalization` divides by no less than this."""


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
    """Read, check, split, encode and standardise the rows of a config.

    Args:
        config: the config.

    Returns:
        The dataset; the same one for every attempt of a run.

    Raises:
        InvalidError: the data is at fault; names file, row and column.
        UserCodeError: a data callable raised.
    """
    found, held_found = _split(read(config, "train"), config)
    encoding = tables.learn(found) if isinstance(found, Table) else Encoding()
    train = tables.encode(found, encoding) if isinstance(found, Table) else found
    held = held_found
    if isinstance(held_found, Table):
        held = tables.encode(held_found, encoding)
    train, held, classes = _encode_targets(train, held, config)
    encoding = dataclasses.replace(encoding, classes={**encoding.classes, **classes})
    if held is not None:
        _check_alike(train, held, config)
    parts = [train] if held is None else [train, held]
    digest = rows.fingerprint(parts, repr(encoding) if encoding != Encoding() else "")
    scalings = _scalings(train, config) if config.data.standardize else {}
    return Dataset(
        train=_prepared(train, scalings),
        validation=None if held is None else _prepared(held, scalings),
        scalings=scalings,
        encoding=encoding,
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

    if not classes and (held is None or not _has_texts(held.y)):
        return train, held, classes
    return encode(train, "train"), None if held is None else encode(held, "validation"), classes


def _has_texts(tree: Tree) -> bool:
    return any(array.dtype.kind in "US" for _, array in rows.leaves(tree))


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


def _scalings(train: AnyRows, config: Config) -> dict[str, Scaling]:
    """The standardisation, refused for columns that float32 cannot standardise."""
    scalings = rows.standardization(train)
    problems = []
    for path, scaling in scalings.items():
        deviation = np.sqrt(scaling.variance)
        bad = np.flatnonzero(~(np.isfinite(deviation) & (deviation >= _KERAS_EPSILON)))
        for column in map(int, bad):
            name = train.columns[column] if train.columns else f"{column} (from 0)"
            of_input = f" of input {path}" if path else ""
            size = "far" if np.isinf(deviation[column]) else "little"
            message = f"column {name}{of_input} varies too {size} to be standardised in float32"
            hint = "give the column in another unit"
            problems.append(config.problem(("data", "standardize"), message, hint))
    if problems:
        raise InvalidError(problems[:_MAX_PROBLEMS])
    return scalings


def _prepared(part: AnyRows, scalings: Mapping[str, Scaling]) -> AnyRows:
    """The rows as the model gets them: at once, or batch by batch where they are not in memory."""
    y = rows.transform(rows.exact, part.y)
    weight = None if part.weight is None else rows.exact(part.weight)
    if isinstance(part, Stream) or part.mapped:
        return dataclasses.replace(part, y=y, weight=weight, scalings=scalings)
    x, _, _ = rows.ready((part.x, part.y, None), scalings)
    return dataclasses.replace(part, x=x, y=y, weight=weight)


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
        case CsvSource():
            return tables.read_csv(config.path(source.csv), source, name=source.csv)
        case ParquetSource():
            return tables.read_parquet(config.path(source.parquet), source, name=source.parquet)
        case NpzSource():
            return read_npz(config.path(source.npz), source, name=source.npz)
        case NpySource():
            return read_npy(source, config)
        case CallableSource():
            return read_callable(source, config, part)
        case GivenSource():
            return _read_given(config, part)
    raise TypeError(f"Expected a source with rows of its own. Received: {source!r}")


def has_user_code(config: Config) -> bool:
    """Whether reading the data runs code of the user's, or needs what only a worker has."""
    sources = (config.data.train, config.data.validation)
    return any(isinstance(source, CallableSource | GivenSource) for source in sources)


def read_npz(path: Path, source: NpzSource, *, name: str) -> Rows:
    """Read the arrays of a NumPy archive, without unpickling anything.

    Args:
        path: the file.
        source: the arrays' names.
        name: how to call the file in messages.

    Returns:
        The rows.

    Raises:
        InvalidError: not an archive, an unknown array, arrays that do not fit or are not finite.
    """
    names = {"x": source.x, "y": source.y}
    if source.sample_weight is not None:
        names["weight"] = source.sample_weight
    arrays = _members(path, names, name)
    return checked(arrays["x"], arrays["y"], arrays.get("weight"), name, names)


def read_npz_inputs(path: Path, inputs: Sequence[str], target: str | None, *, name: str) -> Rows:
    """Read inputs from a NumPy archive, each by its name.

    Args:
        path: the file.
        inputs: names of the arrays.
        target: name of the targets' array, if there is one.
        name: how to call the file in messages.

    Raises:
        InvalidError: as `read_npz`.
    """
    names = {each: each for each in (*inputs, *([] if target is None else [target]))}
    arrays = _members(path, names, name)
    x = {each: arrays[each] for each in inputs} if len(inputs) > 1 else arrays[inputs[0]]
    if target is not None:
        return checked(x, arrays[target], None, name, {"x": "x", "y": target})
    none = np.zeros(len(arrays[inputs[0]]), np.float32)
    return dataclasses.replace(checked(x, none, None, name, {"x": "x", "y": "y"}), y=None)


def _members(path: Path, names: Mapping[str, str], name: str) -> dict[str, Any]:
    """Arrays of an archive by their roles."""
    with open_file(path, name) as file:
        if not zipfile.is_zipfile(file):
            message = "expected an .npz archive, received another kind of file, or a part of one"
            raise invalid(name, message, "save it with numpy.savez")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                arrays = {role: _member(archive, key, name) for role, key in names.items()}
        except Exception as error:
            # What a damaged archive raises has no common base: zipfile, zlib, NumPy have their own.
            message = f"cannot be read as an .npz archive: {summary(error)}"
            raise invalid(name, message) from error
    problems = [array for array in arrays.values() if isinstance(array, Problem)]
    if problems:
        raise InvalidError(problems)
    return arrays


def _member(archive: Any, key: str, name: str) -> Any:
    """An array of the archive, or the problem with it."""
    if key not in archive.files:
        message, hint = f"there is no array {key!r}", suggestion(key, archive.files)
        return Problem(file=name, key=key, message=message, hint=hint)
    try:
        return np.asarray(archive[key])
    except Exception as error:  # noqa: BLE001 - as above; the other array may be damaged too
        return _unreadable(error, name, key)


def _unreadable(error: Exception, name: str, key: str) -> Problem:
    if "allow_pickle" in str(error):
        message, hint = "expected an array of numbers, received Python objects", "set its dtype"
        return Problem(file=name, key=key, message=message, hint=hint)
    return Problem(file=name, key=key, message=f"cannot be read: {summary(error)}")


def read_npy(source: NpySource, config: Config) -> Rows:
    """Map the inputs from a file and read the rest, without unpickling anything.

    Args:
        source: the files.
        config: the config, from whose folder the paths start.

    Returns:
        The rows; x stays in its file.

    Raises:
        InvalidError: not .npy files, arrays that do not fit or are not finite.
    """
    names = {"x": source.npy, "y": source.y}
    if source.sample_weight is not None:
        names["weight"] = source.sample_weight
    arrays: dict[str, Array] = {}
    problems = []
    for role, name in names.items():
        try:
            arrays[role] = np.load(
                config.path(name), mmap_mode="r" if role == "x" else None, allow_pickle=False
            )
        except Exception as error:  # noqa: BLE001 - as of an archive
            problems.append(_unreadable_npy(error, name))
            continue
        if not isinstance(arrays[role], np.ndarray):
            message = "expected an .npy file, received an archive"
            problems.append(Problem(file=name, message=message, hint="use npz: for archives"))
    if problems:
        raise InvalidError(problems)
    return checked(arrays["x"], arrays["y"], arrays.get("weight"), source.npy, names)


def read_inputs(path: Path, name: str) -> Rows:
    """Map inputs without targets from a file.

    Args:
        path: the .npy file.
        name: how to call it in messages.

    Raises:
        InvalidError: not such a file, or values that are not finite.
    """
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        raise InvalidError([_unreadable_npy(error, name)]) from error
    none = np.zeros(len(x), np.float32)
    return dataclasses.replace(checked(x, none, None, name, {"x": name, "y": name}), y=None)


def _unreadable_npy(error: Exception, name: str) -> Problem:
    if "Python objects" in str(error) or "Object arrays" in str(error):
        message, hint = "expected an array of numbers, received Python objects", "set its dtype"
        return Problem(file=name, message=message, hint=hint)
    if isinstance(error, OSError) and error.strerror:
        return Problem(file=name, message=f"cannot be read: {error.strerror}")
    message = "cannot be read as an .npy file, received another kind of file, or a part of one"
    return Problem(file=name, message=message, hint="save it with numpy.save")


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
        return _read_dataset(result, name)
    if inspect.isgenerator(result):
        return _read_stream(lambda: _blamed_batches(call(), name), name)
    if not isinstance(result, tuple) or len(result) not in (2, 3):
        expected = "a tuple (x, y) or (x, y, sample_weight), a tf.data.Dataset or a generator"
        raise invalid(name, f"expected it to return {expected}, received {_kind(result)}")
    return from_values(*result, name=name)


def _read_given(config: Config, part: str) -> AnyRows:
    x, y, weight = config.given.rows(part)
    name = f"retrain(…): {part}"
    if is_dataset(x):
        return _read_dataset(x, name)
    return from_values(x, y, weight, name=name)


def is_dataset(value: Any) -> bool:
    """Whether a value is a `tf.data.Dataset`."""
    return hasattr(value, "as_numpy_iterator") and hasattr(value, "element_spec")


def _kind(value: Any) -> str:
    """What a value is called in messages."""
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def from_values(x: Any, y: Any, weight: Any = None, *, name: str, whole: bool = True) -> Rows:
    """Rows from arrays, or what becomes one, and trees of them.

    Args:
        x: inputs.
        y: targets.
        weight: weight of each row, or None.
        name: how to call them in messages.
        whole: whether these are all rows, and not a batch of them.

    Returns:
        The rows.

    Raises:
        InvalidError: they are not arrays of numbers, do not fit or are not finite.
    """
    names = {"x": "x", "y": "y", "weight": "sample_weight"}
    return checked(*converted(x, y, weight, name=name), name, names, whole=whole)


def converted(x: Any, y: Any, weight: Any = None, *, name: str) -> Batch:
    """What the user's code gives, as trees of arrays.

    Args:
        x: inputs.
        y: targets.
        weight: weight of each row, or None.
        name: how to call them in messages.

    Raises:
        InvalidError: NumPy makes no array of them.
    """
    count = max(_counts(x) & _counts(y), default=0)
    given = None if weight is None else _array(weight, "sample_weight", name)
    return _arrays(_several(x, count), "x", name), _arrays(_several(y, count), "y", name), given


def _counts(value: Any) -> set[int]:
    """How many rows a value can be taken to have: a list of arrays in one of two ways."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple) and value and not np.isscalar(value[0]):
        return _counts(value[0])
    if isinstance(value, list | tuple):
        firsts = {tuple(getattr(each, "shape", ())[:1]) for each in value}
        return {len(value), *(map(int, firsts.pop()) if len(firsts) == 1 else ())}
    return {int(length) for length in getattr(value, "shape", ())[:1]}


def _several(value: Any, count: int) -> Any:
    """A list of arrays, which is rows to NumPy, as Keras's several inputs or outputs if it is."""
    if isinstance(value, list) and value and len(value) != count:
        if all(tuple(getattr(each, "shape", ())[:1]) == (count,) for each in value):
            return tuple(value)
    return value


def _arrays(value: Any, role: str, name: str) -> Tree:
    """A dict or tuple of arrays, or else what NumPy makes an array of."""
    if isinstance(value, Mapping) and value:
        return {str(key): _arrays(each, f"{role}.{key}", name) for key, each in value.items()}
    if isinstance(value, tuple) and value and not any(np.isscalar(each) for each in value):
        return tuple(_arrays(each, f"{role}.{index}", name) for index, each in enumerate(value))
    return _array(value, role, name)


def _array(value: Any, role: str, name: str) -> Array:
    try:
        return np.asanyarray(value)
    except Exception as error:
        message = f"{role}: expected an array of numbers, received {type(value).__name__}"
        raise invalid(name, f"{message}: {summary(error)}") from error


def checked(
    x: Tree,
    y: Tree,
    weight: Array | None,
    name: str,
    names: dict[str, str],
    *,
    whole: bool = True,
) -> Rows:
    """Rows of arrays that fit each other and hold nothing but finite numbers.

    Args:
        x: inputs.
        y: targets; texts are classes.
        weight: weight of each row, or None.
        name: how to call the file or function in messages.
        names: how to call x, y and weight.
        whole: whether these are all rows, of which one at least must count.

    Returns:
        The rows, arranged as `_arranged` does.

    Raises:
        InvalidError: with every problem.
    """
    batch = _arranged((x, y, weight))
    problems = []
    lengths: dict[str, int] = {}
    for role, tree in zip(("x", "y", "weight"), batch, strict=True):
        for path, array in rows.leaves(tree):
            key = rows.name_of(names[role], path)
            message = _wrong(array, texts=role == "y")
            if message:
                problems.append(Problem(file=name, key=key, message=message))
            if array.ndim:
                lengths[key] = array.shape[0]
    if weight is not None and not problems:
        problems += _wrong_weights(weight, name, names["weight"], whole=whole)
    if len(set(lengths.values())) > 1:
        first, count = next(iter(lengths.items()))
        other = next(key for key, length in lengths.items() if length != count)
        received = f"received {count} rows of {first} and {lengths[other]} of {other}"
        message = f"expected as many targets as inputs, {received}"
        problems.append(Problem(file=name, message=message))
    if problems:
        raise InvalidError(problems)
    x, y, weight = batch
    return Rows(x=x, y=y, weight=weight)


def _arranged(batch: Batch) -> Batch:
    """Truth values as numbers, texts as NumPy's own, a vector of inputs as one column."""
    x, y, weight = batch

    def column(array: Array) -> Array:
        return array[:, np.newaxis] if array.ndim == 1 else array

    return (
        rows.transform(lambda array: column(_without_truth(array)), x),
        rows.transform(lambda array: _texts(_without_truth(array)), y),
        weight,
    )


def _without_truth(array: Array) -> Array:
    """Keras and NumPy calculate with numbers, not with truth values; mapped ones stay mapped."""
    mapped = isinstance(array, np.memmap)
    return array.astype(np.float32) if array.dtype.kind == "b" and not mapped else array


def _texts(array: Array) -> Array:
    """Python's own texts in an array of objects as NumPy's."""
    if array.dtype == object and array.size and all(isinstance(each, str) for each in array.flat):
        return array.astype(str)
    return array


def _wrong(array: Array, *, texts: bool) -> str:
    """A clause on what is wrong with an array, or an empty text."""
    if texts and array.dtype.kind in "US" and array.ndim == 1 and array.size:
        return ""
    if array.dtype.kind not in "fiub":
        return f"expected an array of numbers, received dtype {array.dtype}"
    if array.ndim == 0:
        return "expected one row per sample, received a single number"
    if array.shape[0] == 0 or array.size == 0:
        return f"expected at least one row, received shape {array.shape}"
    return _non_finite(array)


def _wrong_weights(weight: Array, name: str, key: str, *, whole: bool) -> Iterator[Problem]:
    if weight.ndim != 1:
        message = f"expected one weight a row, received shape {weight.shape}"
        yield Problem(file=name, key=key, message=message)
    elif (weight < 0).any():
        row = int(np.flatnonzero(weight < 0)[0])
        message = f"row {row} (from 0): expected a weight of at least 0, received {weight[row]:g}"
        yield Problem(file=name, key=key, message=message)
    elif whole and not weight.any():
        yield Problem(file=name, key=key, message="expected weights above 0, received only zeros")


def _non_finite(array: Array) -> str:
    """A clause on the first value that float32 cannot hold, or an empty text."""
    if array.dtype.kind != "f":
        return ""
    size = rows.piece(array)
    for begin in range(0, array.shape[0], size):
        part = np.asarray(array[begin : begin + size])
        bad = np.argwhere(tables.beyond_float32(part))
        if len(bad):
            row, *column = (int(index) for index in bad[0])
            place = f", column {', '.join(map(str, column))}" if column else ""
            value = part[tuple(bad[0])]
            where = f"row {begin + row}{place} (from 0)"
            return f"{where}: expected a finite float32 number, received {value}"
    return ""


# ---------------------------------------------------------------------------- streams


def _read_dataset(dataset: Any, name: str) -> Stream:
    """A `tf.data.Dataset` of batches, after a first pass."""
    size = int(dataset.cardinality())
    if size == -1:
        hint = "end it with .take(number of batches)"
        raise invalid(name, "expected a dataset that ends, received one that repeats", hint)
    if not isinstance(dataset.element_spec, tuple):
        received = type(dataset.element_spec).__name__
        message = f"expected batches (x, y) or (x, y, sample_weight), received {received}"
        raise invalid(name, message)

    def source() -> Iterator[Any]:
        with user_code.blamed(f"the dataset of {name}"):
            yield from dataset.as_numpy_iterator()

    return dataclasses.replace(_read_stream(source, name), dataset=dataset)


def _blamed_batches(generator: Any, name: str) -> Iterator[Any]:
    with user_code.blamed(f"the generator {name}"):
        yield from generator


def _read_stream(source: Callable[[], Iterator[Any]], name: str) -> Stream:
    """A stream after a first pass, in which every value was checked and the targets were kept."""
    count, length, digest = 0, 0, 0
    targets: list[tuple[Tree, Array | None]] = []
    shapes: list[tuple[str, Any]] | None = None
    for value in source():
        batch = _checked_batch(value, name, count)
        found = [(path, (array.shape[1:], array.dtype)) for path, array in rows.leaves(batch)]
        shapes = shapes or found
        if found != shapes:
            message = f"expected batches alike, received {_alike(shapes)} and then {_alike(found)}"
            raise invalid(name, message, "pad or convert them to one shape and type")
        targets.append(batch[1:])
        digest = (digest + rows.digest_rows(batch)) % 2**64
        count += rows.num_rows(batch[0])
        length += 1
    if not targets:
        raise invalid(name, "expected at least one batch, received none")
    ys, weights = zip(*targets, strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    if weight is not None:
        wrong = list(_wrong_weights(weight, name, "sample_weight", whole=True))
        if wrong:
            raise InvalidError(wrong)

    def batches() -> Iterator[Batch]:
        for value in source():
            yield _arranged(converted(*value, name=name))

    return Stream(
        source=batches,
        y=rows.transform(lambda *parts: np.concatenate(parts), *ys),
        weight=weight,
        rows=count,
        length=length,
        digest=f"{count} {digest} {_alike(shapes or [])}".encode(),
    )


def _alike(shapes: list[tuple[str, Any]]) -> str:
    """The arrays of a batch, each with its name, type and shape of a row."""
    told = []
    for place, (shape, dtype) in shapes:
        role, _, path = place.partition("/")
        name = rows.name_of(("x", "y", "sample_weight")[int(role)], path)
        told.append(f"{name} {dtype} {shape}")
    return ", ".join(told)


def _checked_batch(value: Any, name: str, start: int) -> Batch:
    """One batch with every value checked; rows are counted from the stream's start."""
    if not isinstance(value, tuple | list) or len(value) not in (2, 3):
        message = f"expected batches (x, y) or (x, y, sample_weight), received {_kind(value)}"
        raise invalid(name, message)
    try:
        found = from_values(*value, name=name, whole=False)
    except InvalidError as error:
        place = f"in the batch that begins at row {start}"
        problems = [
            dataclasses.replace(problem, message=f"{problem.message} ({place})")
            for problem in error.problems
        ]
        raise InvalidError(problems) from error
    if _has_texts(found.y):
        message = "expected class indices as targets, received texts"
        raise invalid(name, message, "encode the classes as numbers from 0")
    return found.x, found.y, found.weight
