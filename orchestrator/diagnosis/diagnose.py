"""Diagnosing a model that was trained elsewhere: in memory, or in a file beside a file of rows."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from orchestrator.config.schema import Config
from orchestrator.config.sections.base import DELIMITER
from orchestrator.config.sections.checks import Checks
from orchestrator.config.sections.data import TABLES, CsvSource, NpySource, NpzSource, TableSource
from orchestrator.config.sections.model import FileModel
from orchestrator.config.yaml12 import Key
from orchestrator.data.files import numpy
from orchestrator.data.files.tables import Table
from orchestrator.data.load import read_table
from orchestrator.data.rows import Precision, Readable, Rows
from orchestrator.data.streams.batches import Batches
from orchestrator.diagnosis import texts
from orchestrator.diagnosis.causes.before.find import find_before
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.diagnosis.examine import (
    Examination,
    Gradients,
    examine,
    non_finite_variables,
)
from orchestrator.diagnosis.health import Examinee, Health, LayerHealth, Verdicts
from orchestrator.diagnosis.skill.columns import numbered
from orchestrator.diagnosis.tracing.probe import BATCH_SIZE, Probe
from orchestrator.diagnosis.verdicts.checks import Evidence, judge, with_findings
from orchestrator.errors import InvalidError, Problem, Reporter, short
from orchestrator.model.build import try_call
from orchestrator.model.losses.targets import check_fit
from orchestrator.model.outputs import Output, find_outputs
from orchestrator.model.saving import input_names, load_file
from orchestrator.record.checks import AnyCheck
from orchestrator.record.records import Finding, Inputs

_LENIENT = "only a warning, for no config tells how it was trained"
_NOTHING = "nothing was found in the model and these rows, which do not tell how it was trained"


def diagnose(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    sample_weight: Any = None,
    batch_size: int = BATCH_SIZE,
    steps_per_epoch: int | None = None,
    exhaustive: bool = True,
    gradients: bool = False,
) -> Health:
    """Tell which units of a model are dead, and what its predictions are worth.

    Args:
        model: any built Keras model.
        x: inputs, shape (rows, …), or a dict or tuple of such arrays; memory-mapped ones are read
            a batch at a time. Or batches x, (x, y) or (x, y, sample_weight): a `tf.data.Dataset`,
            a `keras.utils.PyDataset`, an iterator, or a function that returns any of these.
        y: targets, where x is arrays; without them only the units are judged, and whether the
            predictions differ at all.
        sample_weight: weight in the worth of the predictions of each row, shape (rows,), or of
            each position, shape (rows, …).
        batch_size: rows of one forward pass, where x is arrays.
        steps_per_epoch: batches to read, where they have no end.
        exhaustive: read every row. Otherwise reading stops when no further row can make the verdict
            on dead units or on a constant prediction another one, and the skill is then not judged;
            batches of x and y are read to the end in any case.
        gradients: find the units and rows from which no gradient reaches an output, too; about
            three times the cost.

    Returns:
        The evidence, exact over all rows that were read, and the verdicts.

    Raises:
        InvalidError: x and y do not fit each other or the model.

    Examples:
        Of three units the first is active where x > 0, the second where x < 0, the third nowhere.

        >>> import keras
        >>> import numpy as np
        >>> from orchestrator import diagnose
        >>> hidden = keras.layers.Dense(3, activation="relu", name="hidden")
        >>> model = keras.Sequential([keras.Input((1,)), hidden, keras.layers.Dense(1)])
        >>> hidden.set_weights([np.array([[1.0, -1.0, 1.0]]), np.array([0.0, 0.0, -9.0])])
        >>> health = diagnose(model, np.linspace(-1, 1, 100)[:, None])
        >>> health.layers[0].name, health.layers[0].dead, health.layers[0].active_rows
        ('hidden', array([2]), array([50, 50,  0]))
        >>> health.verdicts["dead_neurons"].verdict
        'pass'
    """
    given = Batches(x, y, sample_weight, steps=steps_per_epoch)
    rows: Readable = given if exhaustive or given.arrays is None else given.arrays
    return of_rows(
        model, rows, Arguments(), exhaustive=rows is given, batch_size=batch_size,
        gradients="always" if gradients else "never",
        # Rows that are not read may hold values that are not finite, too.
        non_finite=given.non_finite if rows is given else given.look(),
    )  # fmt: skip


def of_rows(
    model: keras.Model,
    rows: Readable,
    reporter: Reporter,
    *,
    exhaustive: bool,
    gradients: Gradients,
    batch_size: int = BATCH_SIZE,
    non_finite: Sequence[str] = (),
    report: Callable[[str], None] = lambda _: None,
    ignored: Collection[str] = (),
) -> Health:
    """`diagnose` for rows that can be read a batch at a time.

    Args:
        model: a built model.
        rows: what to run through it.
        reporter: knows the place of a problem.
        exhaustive: read every row even when no further one can change a verdict.
        gradients: when to measure what needs gradients.
        batch_size: rows of one forward pass, where the rows leave the choice.
        non_finite: clauses on what is not finite in the rows, filled while they are read.
        report: told what takes long, and how far it has come.
        ignored: names of causes that are not to be told of.

    Returns:
        The evidence and the verdicts.

    Raises:
        InvalidError: rows and model do not fit.
        UserCodeError: the model's own code raised.
    """
    if isinstance(rows, Rows):
        rows = dataclasses.replace(rows, precision=input_precision(model))
    elif isinstance(rows, Batches):
        rows.precision = input_precision(model)
    try_call(model, reporter, rows, "file")
    outputs = find_outputs(model, reporter, rows)
    _fit_weights(outputs, rows.first(2)[2], reporter)
    if isinstance(rows, Batches):
        rows.fit = lambda y, weight, position: _fit(outputs, y, weight, position)
    elif isinstance(rows, Rows) and rows.y is not None:
        check_fit(outputs, rows.y, rows.weight, reporter, ("data", "train"))
    limits = Checks()
    known = non_finite_variables([("weight", model.weights)])
    if not isinstance(rows, Batches):
        known += non_finite
    examined = examine(
        Probe(model, report=report),
        rows,
        outputs,
        limits,
        Evidence(non_finite=known, lenient=_LENIENT),
        exhaustive=exhaustive,
        gradients=gradients,
        batch_size=batch_size,
    )
    if isinstance(rows, Batches) and non_finite:
        examined = Examination(
            checks=judge(Evidence(non_finite=non_finite), limits), rows=examined.rows
        )
    checks: tuple[AnyCheck, ...] = examined.checks
    found: tuple[Finding, ...] = ()
    if all(check.verdict == "pass" for check in checks if check.check == "finite"):
        found = find_before(
            Subject(
                model=model,
                outputs=outputs,
                rows=rows,
                layers=examined.layers,
                flow=examined.flow,
            ),
            ignored,
        )
        checks = with_findings(checks, found, _NOTHING)
    return Health(
        finite=all(check.verdict == "pass" for check in checks if check.check == "finite"),
        layers=tuple(LayerHealth.of(layer) for layer in examined.layers),
        outputs=tuple(numbered(examined.columns)),
        verdicts=Verdicts(checks),
        rows=examined.rows,
        exact=examined.complete,
        responding_rows=examined.responding,
        notes=examined.notes,
        findings=found,
    )


def input_precision(model: keras.Model) -> Precision:
    """The type in which the model takes floating-point inputs."""
    known = {keras.config.floatx(), model.compute_dtype}
    known |= {each.dtype for each in keras.tree.flatten(getattr(model, "inputs", None) or [])}
    return "float64" if "float64" in known else "float32"


class Arguments:
    """Names the arguments of `diagnose` where a config would name its keys."""

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem with an argument."""
        name = "sample_weight" if key[-1] == "weight" else "y" if key[0] == "data" else "x"
        return Problem(file="diagnose", key=name, message=message, hint=hint)


def _fit_weights(outputs: Sequence[Output], weight: Any, reporter: Reporter) -> None:
    """Refuse weights that are neither of the rows nor of the positions of every output."""
    if weight is None:
        return
    each = int(np.prod(weight.shape[1:]))
    for output in outputs:
        positions = output.shape[:-1]
        if each != 1 and (None in positions or each != int(np.prod(positions))):
            message = (
                f"expected one weight a row, or one for each position of shape {positions}, "
                f"received weights of shape {weight.shape[1:]} a row"
            )
            raise InvalidError([reporter.problem(("data", "weight"), message)])


def _fit(outputs: Sequence[Output], y: Any, weight: Any, position: int) -> None:
    """Refuse targets that the outputs' losses cannot take."""
    for output in outputs:
        targets = None if y is None or output.guessed else output.targets(y)
        misfit = None if targets is None else output.misfit(targets, weight, "row", position)
        if misfit is not None:
            name = f"output {output.name}: " if output.name else ""
            raise InvalidError([Problem(file="diagnose", key="y", message=name + misfit)])


def check(examinee: Examinee, report: Callable[[str], None] = lambda _: None) -> Health:
    """Diagnose a model of a file on the rows of another.

    Args:
        examinee: the files.
        report: told what takes long, and how far it has come.

    Returns:
        The evidence, and the verdicts at their default limits.

    Raises:
        InvalidError: a file cannot be read, or the rows do not fit the model.
        UserCodeError: the model's own code raised.
    """
    plan = FileModel(file=str(examinee.model), modules=list(examinee.modules))
    config = Config.model_validate(
        {
            "name": examinee.model.name,
            "base": os.getcwd(),
            "data": {"train": {"npz": str(examinee.data)}},
            "model": plan.model_dump(),
            "phases": [{"name": "main", "epochs": 1}],
        }
    )
    try:
        model = load_file(plan, config, config.seed, naming="--module my_layers")
    except InvalidError as error:
        raise InvalidError([_of_file(each, examinee) for each in error.problems]) from error
    inputs = texts.recorded(examinee.model)
    rows, notes = _encoded(examinee, config, input_names(model), inputs)
    otherwise: Gradients = "when_suspicious" if examinee.exhaustive else "never"
    gradients: Gradients = "always" if examinee.gradients else otherwise
    health = of_rows(
        model,
        rows,
        _DataFile(examinee),
        exhaustive=examinee.exhaustive,
        gradients=gradients,
        report=report,
        # These rows need not have every class that is recorded.
        ignored=("wrong_labels",) if texts.classes(inputs) else (),
    )
    return dataclasses.replace(health, notes=(*notes, *health.notes))


def _of_file(problem: Problem, examinee: Examinee) -> Problem:
    """What is wrong with the model's file, without the keys that only a config has."""
    return dataclasses.replace(problem, file=str(examinee.model), key=None)


@dataclasses.dataclass(frozen=True, slots=True)
class _DataFile:
    """Names the file at fault where a config would name its key."""

    examinee: Examinee

    def problem(self, key: tuple[Any, ...], message: str, hint: str | None = None) -> Problem:
        """A problem with the data, which is to fit the model."""
        return Problem(file=str(self.examinee.data), message=message, hint=hint)


def _encoded(
    examinee: Examinee, config: Config, names: Sequence[str], inputs: Inputs
) -> tuple[Rows, Sequence[str]]:
    """The rows of the file as the model takes them, and notes on what was assumed of texts."""
    suffix = examinee.data.suffix.lower()
    for key, kind in TABLES.items():
        if suffix in kind.SUFFIXES:
            rows, notes = texts.encode(_read_table(examinee, config, key, kind, inputs), inputs)
            return rows if examinee.target is not None else dataclasses.replace(rows, y=None), notes
    return texts.encode_targets(_read(examinee, config, names), inputs, _DataFile(examinee))


def _read(examinee: Examinee, config: Config, inputs: Sequence[str]) -> Rows:
    """The rows of arrays, every value checked; of an archive, the model's inputs by name."""
    suffix = examinee.data.suffix.lower()
    if examinee.features:
        message = f"only a table has columns, received {examinee.data.name}"
        raise InvalidError([Problem(file="command line", key="--features", message=message)])
    name, path = str(examinee.data), config.path(str(examinee.data))
    if suffix == ".npz":
        source = NpzSource(npz=name, y=examinee.target or "y")
        known = _arrays_of(path)
        if inputs and set(inputs) <= set(known):
            given = examinee.target is not None or source.y in set(known) - set(inputs)
            return numpy.read_npz_inputs(path, inputs, source.y if given else None, name=name)
        if examinee.target is None and "y" not in known:
            return numpy.read_npz_inputs(path, [source.x], None, name=name)
        return numpy.read_npz(path, source, name=name)
    if suffix == ".npy":
        if examinee.target is not None:
            return numpy.read_npy(NpySource(npy=name, y=examinee.target), config)
        return numpy.read_inputs(path, name)
    ends = ", ".join((".npz", ".npy", *(end for kind in TABLES.values() for end in kind.SUFFIXES)))
    message = f"expected a file {ends}, received {examinee.data.name}"
    raise InvalidError([Problem(file=name, message=message)])


def _read_table(
    examinee: Examinee, config: Config, key: str, kind: type[TableSource], inputs: Inputs
) -> Table:
    features = examinee.features or inputs.columns
    # An empty dict of targets: a table without a column to predict.
    columns: dict[str, Any] = {
        "target": {} if examinee.target is None else examinee.target,
        "features": list(features) or None,
        "text": texts.columns(inputs, features, examinee.target),
        key: str(examinee.data),
    }
    if kind is CsvSource:
        is_tabbed = examinee.data.suffix.lower() == ".tsv"
        columns["delimiter"] = "\t" if is_tabbed else _delimiter(examinee)
    return read_table(kind.model_construct(None, **columns), config)


def _delimiter(examinee: Examinee) -> str:
    """The character that separates the columns; a tab may be typed as it is written in a config."""
    if examinee.delimiter == r"\t":
        return "\t"
    if not re.fullmatch(DELIMITER, examinee.delimiter):
        message = f"expected one character, received {short(examinee.delimiter)}"
        hint = r"write \t for a tab"
        raise InvalidError(
            [Problem(file="command line", key="--delimiter", message=message, hint=hint)]
        )
    return examinee.delimiter


def _arrays_of(path: Path) -> list[str]:
    """Names of the arrays in an archive; where it cannot be read, the next reader says why."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except Exception:  # noqa: BLE001 - what is no archive raises all kinds of errors
        return ["y"]
