"""`retrain`: the loop for people who stay in their own code."""

from __future__ import annotations

import dataclasses
import numbers
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config import load as configs
from orchestrator.config import yaml12
from orchestrator.config.backend import check_backend
from orchestrator.config.document import Document
from orchestrator.config.given import Given, Values, send
from orchestrator.config.schema import Config
from orchestrator.data import arrays, split
from orchestrator.data.rows import Rows, leaves, name_of, num_rows, select
from orchestrator.data.streams.sources import (
    Started,
    find,
    gives_batches,
    is_dataset,
    is_py_dataset,
    kind_of,
    unpacked,
)
from orchestrator.errors import InvalidError, NotSentError, Problem
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Run
from orchestrator.training import launch as launcher
from orchestrator.training.retraining import pickling, plain


def retrain(
    build: Callable[..., Any],
    x: Any,
    y: Any = None,
    *,
    phases: Sequence[Mapping[str, Any]],
    compile: Mapping[str, Any] | None = None,
    checks: Mapping[str, Any] | None = None,
    restart: Mapping[str, Any] | None = None,
    validation: Any = None,
    sample_weight: Any = None,
    standardize: bool | None = None,
    batch_size: int = 32,
    steps_per_epoch: int | None = None,
    seed: int = 0,
    name: str | None = None,
    runs_dir: Path | str = "runs",
    quiet: bool = False,
    **sections: Any,
) -> tuple[Any, dict[str, Any]]:
    """Train a model until its checks pass, and record every attempt.

    Attempts train in processes of their own. A function, or a dataset, that cannot be sent there
    trains in this one, with a warning in the record; a crash then ends the run.

    Args:
        build: returns a `keras.Model`; called for every attempt, after the seeds are set. With an
            `activation` argument it can be given leaky relu.
        x: inputs: an array of shape (rows, …), or a dict or tuple of arrays. Or batches (x, y) or
            (x, y, sample_weight): a `tf.data.Dataset`, a `keras.utils.PyDataset`, an iterator, or a
            function that returns any of these, such as a generator function.
        y: targets, shape (rows,) or (rows, …), or a dict or tuple of arrays; None for batches,
            and for a model that trains without targets.
        phases: the phases, as in a config: `[{"name": "main", "epochs": 20}]`.
        compile: as in a config: `{"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": "mse"}`;
            Keras's own objects will do. None when `build` compiles.
        checks: as in a config.
        restart: as in a config.
        validation: share of the rows to hold back; as in a config `{"fraction": 0.2, "stratify":
            True}`, or with `"last": True`, or with the `"group"` of each row, an array of shape
            (rows,); a tuple (x, y) or (x, y, sample_weight); or batches like x.
        sample_weight: weight of each row in the loss, shape (rows,).
        standardize: shift and scale the inputs; the model that is returned takes raw ones. None
            does so where a failure has shown that inputs out of scale are at fault.
        batch_size: rows of a training step; batches have a size of their own.
        steps_per_epoch: batches of an epoch, which goes on where the one before has stopped; for
            batches without an end.
        seed: seed of the first attempt.
        name: name of the run; default the function's.
        runs_dir: folder of all runs.
        quiet: no progress on stderr.
        **sections: more keys of a config, such as `fit`, `tensorboard` or `keep`.

    Returns:
        The model that passed, or None when no attempt did, and the run's record, which is the same
        as `run.json`. The model's `history` is what Keras's `fit` returns, over all phases.

    Raises:
        InvalidError: an argument or the data is at fault; nothing was written.
        KeyboardInterrupt: Ctrl-C; what was recorded until then stays.

    Examples:
        >>> import keras
        >>> import numpy as np
        >>> from orchestrator import retrain
        >>> def build(activation="relu"):
        ...     hidden = keras.layers.Dense(16, activation=activation)
        ...     return keras.Sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
        >>> x = np.linspace(-2, 2, 256)[:, None]
        >>> model, record = retrain(
        ...     build,
        ...     x,
        ...     np.abs(x[:, 0]),
        ...     phases=[{"name": "main", "epochs": 10}],
        ...     compile={"optimizer": keras.optimizers.Adam(0.01), "loss": "mse"},
        ...     quiet=True,
        ... )
        >>> record["status"]
        'passed'
        >>> model.predict(x, verbose=0).shape
        (256, 1)
    """
    check_backend()
    sections |= {
        "name": name,
        "seed": seed,
        "compile": compile,
        "batch_size": batch_size,
        "phases": phases,
        "checks": checks,
        "restart": restart,
    }
    config, given = describe(
        build,
        x,
        y,
        validation=validation,
        sample_weight=sample_weight,
        standardize=standardize,
        steps_per_epoch=steps_per_epoch,
        sections=sections,
    )
    run, directory = _launch(config, given, Path(runs_dir), quiet)
    return _model(run, directory, config, given), jsonable(run)


def describe(
    build: Any,
    x: Any,
    y: Any,
    *,
    validation: Any,
    sample_weight: Any,
    standardize: bool | None,
    sections: Mapping[str, Any],
    steps_per_epoch: int | None = None,
) -> tuple[Config, Given]:
    """What a call in Python asks for, as a config of what can be written and what was given.

    Args:
        build: returns a `keras.Model`.
        x: inputs.
        y: targets.
        validation: as `retrain` takes it.
        sample_weight: weight of each row.
        standardize: shift and scale the inputs; None where a failure asks for it.
        sections: every other key of a config.
        steps_per_epoch: as `retrain` takes it.

    Raises:
        InvalidError: an argument is at fault.
    """
    _expect_builder(build)
    train = _values("train", x, y, sample_weight)
    if isinstance(validation, Mapping) and not isinstance(validation.get("group", ""), str):
        train, validation = _parted(train, validation, int(sections.get("seed", 0)))
    given = Given(build=build, train=train, validation=_held(validation))
    written = {
        **sections,
        "compile": _listed(sections.get("compile"), "metrics", "weighted_metrics"),
        "fit": _listed(sections.get("fit"), "callbacks"),
        "name": sections.get("name") or _name_of(build),
        "data": _describe_data(given, validation, standardize, steps_per_epoch),
        "model": {"given": plain.describe(build)},
    }
    found = plain.Plain()
    config = _config({key: found.of(value, (key,)) for key, value in written.items()})
    return config, dataclasses.replace(given, objects=found.kept)


def _expect_builder(build: Any) -> None:
    """Refuse a model in place of what makes one: it could be called, and returns predictions."""
    is_model = any(
        kind.__name__ == "Model" and kind.__module__.partition(".")[0] == "keras"
        for kind in type(build).__mro__
    )
    if not is_model and (callable(build) or hasattr(build, "build")):
        return
    received = f"{'a model, ' if is_model else ''}{kind_of(build)}"
    message = f"expected a function that builds the model, received {received}"
    hint = "every attempt trains a new one: give lambda: keras.Sequential([…])"
    raise InvalidError([Problem(file=plain.NAME, key="build", message=message, hint=hint)])


def _values(role: str, x: Any, y: Any = None, weight: Any = None) -> Values:
    if gives_batches(x):
        if y is not None or weight is not None:
            message = "the batches bring their own targets and weights"
            problem = Problem(file=plain.NAME, key=role, message=message, hint="leave y out")
            raise InvalidError([problem])
        is_iterator = isinstance(x, Iterator) and not is_py_dataset(x)
        return Started(x) if is_iterator else x, None, None
    name = f"{plain.NAME}: {role}"
    return arrays.converted(x, y, weight, name=name)


def _held(validation: Any) -> Values | None:
    """Rows that are held back; None where a share of the training rows is, or nothing."""
    if gives_batches(validation):
        return _values("validation", validation)
    if isinstance(validation, list | tuple) and 1 <= len(validation) <= 3:
        return _values("validation", *validation)
    if validation is None or isinstance(validation, numbers.Real | Mapping):
        return None
    expected = "a share of the rows, a tuple (x, y) or (x, y, sample_weight), or batches of such"
    message = f"expected {expected}, received {kind_of(validation)}"
    raise InvalidError([Problem(file=plain.NAME, key="validation", message=message)])


def _parted(train: Values, validation: Mapping[str, Any], seed: int) -> tuple[Values, Values]:
    """Rows to train on and rows to hold back, by the group of each row."""
    key = "validation.group"

    def refused(message: str, hint: str | None = None) -> InvalidError:
        return InvalidError([Problem(file=plain.NAME, key=key, message=message, hint=hint)])

    fraction = validation.get("fraction")
    if set(validation) != {"fraction", "group"} or not isinstance(fraction, numbers.Real):
        raise refused("expected a group beside a fraction and nothing else")
    if not 0 < float(fraction) < 1:
        raise refused(f"expected a fraction between 0 and 1, received {fraction}")
    if gives_batches(train[0]):
        raise refused("a stream of batches cannot be split", "give validation batches of its own")
    groups = arrays.tree_of(validation["group"], "group", plain.NAME)
    count = num_rows(train[0])
    if not isinstance(groups, np.ndarray) or groups.shape != (count,):
        shape = getattr(groups, "shape", kind_of(groups))
        raise refused(f"expected the group of each of {count} rows, received shape {shape}")
    try:
        parts = split.by_group(groups, float(fraction), seed)
    except ValueError as error:
        raise refused(str(error)) from error
    kept, held = (select(train, part) for part in parts)
    return kept, held


def _describe_data(
    given: Given, validation: Any, standardize: bool | None, steps_per_epoch: int | None
) -> dict[str, Any]:
    found: dict[str, Any] = {"train": {"given": _describe(given.train)}}
    if steps_per_epoch is not None:
        found["train"]["steps_per_epoch"] = steps_per_epoch
    if given.validation is not None:
        found["validation"] = {"given": _describe(given.validation)}
    elif validation is not None:
        mapping = isinstance(validation, Mapping)
        found["validation"] = validation if mapping else {"fraction": validation}
    return {**found, "standardize": "auto" if standardize is None else standardize}


def _describe(values: Values) -> str:
    """Types and shapes of rows."""
    x = values[0]
    if is_dataset(x):
        return "a tf.data.Dataset"
    if gives_batches(x):
        named = getattr(x, "__qualname__", None)
        given = x.iterator if isinstance(x, Started) else x
        return f"the function {named}" if named and callable(x) else kind_of(given)
    return ", ".join(
        f"{name_of(role, path)} {array.dtype} {array.shape}"
        for role, tree in zip(("x", "y", "sample_weight"), values, strict=True)
        for path, array in leaves(tree)
    )


def _name_of(build: Callable[..., Any]) -> str:
    name = re.sub(r"\W", "", getattr(build, "__name__", type(build).__name__))
    return name if name and name != "lambda" else "retrain"


def _listed(section: Any, *keys: str) -> Any:
    """A section in which a single object may stand for a list of one."""
    if not isinstance(section, Mapping):
        return section
    listed = {name: _in_list(section[name]) for name in keys if section.get(name) is not None}
    return {**section, **listed}


def _in_list(value: Any) -> Any:
    """A list of one where it is a single object; of each output where there is one by its name."""
    if isinstance(value, Mapping):
        if any(isinstance(each, Mapping) for each in value.values()):  # one object's arguments
            return value
        return {name: _in_list(each) for name, each in value.items() if each is not None}
    return value if isinstance(value, list | tuple) else [value]


def _config(written: dict[str, Any]) -> Config:
    """Check the arguments as a config is checked."""
    source = yaml12.dump(written).encode()
    found = Document(file=plain.NAME, value=written, lines={}, overrides={}, source=source)
    return configs.check(found, Path.cwd() / "retrain")


def _launch(config: Config, given: Given, runs_dir: Path, quiet: bool) -> tuple[Run, Path]:
    """Run in processes of their own where that is possible, else in this one."""
    with tempfile.TemporaryDirectory(prefix="orchestrator-") as folder:
        try:
            if any(part and is_dataset(part[0]) for part in (given.train, given.validation)):
                raise NotSentError("a tf.data.Dataset cannot be sent to another one")
            sent = send(given, Path(folder), pickling.dumps)
            return launcher.launch_from_python(
                config.with_given(sent), runs_dir=runs_dir, quiet=quiet
            )
        except NotSentError as error:
            here = config.with_given(given)
            if config.deterministic == "auto":
                # What it switches on would stay on in the caller's process.
                here = here.model_copy(update={"deterministic": False})
            return launcher.launch_from_python(
                here, runs_dir=runs_dir, quiet=quiet, local=str(error)
            )


def _model(run: Run, directory: Path, config: Config, given: Given) -> Any:
    """The accepted model, loaded in this process."""
    if run.accepted_attempt is None:
        return None
    from orchestrator.training.retraining import fitted  # noqa: PLC0415 - imports Keras

    return fitted.load(run, directory, config.with_given(given), lambda: _first_rows(given))


def _first_rows(given: Given) -> Rows:
    """Rows that show how the inputs look."""
    x, y, weight = given.train
    if not gives_batches(x):
        return arrays.from_values(x, y, weight, name=plain.NAME)
    found = x() if callable(x) and not is_py_dataset(x) else x
    source = find(found, plain.NAME)
    if source is None:
        return arrays.from_values(*found, name=plain.NAME)
    known = isinstance(x, Started) and x.first is not None  # where it was read in this process
    batch = x.first if known else next(source.read())
    return arrays.from_values(*(unpacked(batch) or ()), name=plain.NAME, whole=False)
