"""A model file and a data file, diagnosed: what `orchestrate check` does in its worker."""

from __future__ import annotations

import dataclasses
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.config.schema import (
    TABLES,
    Config,
    CsvSource,
    FileModel,
    NpySource,
    NpzSource,
    TableSource,
)
from orchestrator.data import load as data
from orchestrator.data.files import encoding, numpy
from orchestrator.data.rows import Rows
from orchestrator.diagnosis import diagnose as diagnosis
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.errors import InvalidError, Problem
from orchestrator.model.saving import input_names, load_file


def check(examinee: Examinee) -> Health:
    """Diagnose a model of a file on the rows of another.

    Args:
        examinee: the files.

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
        model = load_file(plan, config, config.seed)
    except InvalidError as error:
        raise InvalidError([_of_file(each, examinee) for each in error.problems]) from error
    rows = _read(examinee, config, input_names(model))
    otherwise: diagnosis.Gradients = "when_suspicious" if examinee.exhaustive else "never"
    gradients: diagnosis.Gradients = "always" if examinee.gradients else otherwise
    return diagnosis.of_rows(
        model,
        rows,
        _DataFile(examinee),
        exhaustive=examinee.exhaustive,
        gradients=gradients,
    )


def _of_file(problem: Problem, examinee: Examinee) -> Problem:
    """What is wrong with the model's file, without the keys that only a config has."""
    hint = problem.hint
    if hint is not None:
        hint = hint.replace("modules: [my_layers]", "--module my_layers")
    return dataclasses.replace(problem, file=str(examinee.model), key=None, hint=hint)


@dataclasses.dataclass(frozen=True, slots=True)
class _DataFile:
    """Names the file at fault where a config would name its key."""

    examinee: Examinee

    def problem(self, key: tuple[Any, ...], message: str, hint: str | None = None) -> Problem:
        """A problem with the data, which is to fit the model."""
        return Problem(file=str(self.examinee.data), message=message, hint=hint)


def _read(examinee: Examinee, config: Config, inputs: Sequence[str]) -> Rows:
    """The rows of the file, every value checked; of an archive, the model's inputs by name."""
    suffix = examinee.data.suffix.lower()
    for key, kind in TABLES.items():
        if suffix in kind.SUFFIXES:
            return _read_table(examinee, config, key, kind)
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
            return dataclasses.replace(
                numpy.read_npz(path, NpzSource(npz=name, y=source.x), name=name), y=None
            )
        return numpy.read_npz(path, source, name=name)
    if suffix == ".npy":
        if examinee.target is not None:
            return numpy.read_npy(NpySource(npy=name, y=examinee.target), config)
        return numpy.read_inputs(path, name)
    ends = ", ".join((".npz", ".npy", *(end for kind in TABLES.values() for end in kind.SUFFIXES)))
    message = f"expected a file {ends}, received {examinee.data.name}"
    raise InvalidError([Problem(file=name, message=message)])


def _read_table(examinee: Examinee, config: Config, key: str, kind: type[TableSource]) -> Rows:
    # An empty dict of targets: a table without a column to predict.
    columns: dict[str, Any] = {
        "target": {} if examinee.target is None else examinee.target,
        "features": list(examinee.features) or None,
        key: str(examinee.data),
    }
    if kind is CsvSource:
        is_tabbed = examinee.data.suffix.lower() == ".tsv"
        columns["delimiter"] = "\t" if is_tabbed else examinee.delimiter
    table = data.read_table(kind.model_construct(None, **columns), config)
    rows = encoding.encode(table, encoding.learn(table))
    return rows if examinee.target is not None else dataclasses.replace(rows, y=None)


def _arrays_of(path: Path) -> list[str]:
    """Names of the arrays in an archive; none where it cannot be read, which is told later."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError):
        return ["y"]
