"""How the texts of a file become the numbers that the model of another was trained on.

A class index says nothing of the text that it stood for, so it is the record of the run that the
model lies in which tells; where there is none, the texts of the file itself are numbered.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from orchestrator.data import rows
from orchestrator.data.files import encoding
from orchestrator.data.files.encoding import Encoding
from orchestrator.data.files.tables import Table, target_columns
from orchestrator.data.load import class_indices, texts_in
from orchestrator.data.rows import Rows
from orchestrator.errors import RecordError, Reporter
from orchestrator.record.records import Inputs
from orchestrator.record.storage import archive
from orchestrator.record.storage.directory import run_of


def recorded(model: Path) -> Inputs:
    """What is recorded of the inputs of a model; nothing where it lies in no run's directory."""
    directory = run_of(model.resolve())
    if directory is None:
        return Inputs()
    try:
        return archive.read(directory).inputs
    except RecordError:  # the model can be looked at all the same, with a warning
        return Inputs()


def columns(inputs: Inputs, features: Sequence[str], target: str | None) -> list[str]:
    """Columns that held texts when the model was trained, whatever they look like now."""
    targets = [] if target is None else [target]
    return [*(name for name in features if name in _inputs(inputs)), *_classes_of(inputs, targets)]


def encode(table: Table, inputs: Inputs) -> tuple[Rows, list[str]]:
    """A table as arrays.

    Args:
        table: the rows.
        inputs: what is recorded of the model's inputs.

    Returns:
        The rows, and a note where the texts were numbered by the table itself.

    Raises:
        InvalidError: a text that the model was not trained on, or texts where it had numbers.
    """
    known = _classes_of(inputs, target_columns(table.source))
    if inputs.columns:
        used = Encoding(categories=_inputs(inputs), classes=known)
        return encoding.encode(table, used), []
    learnt = encoding.learn(table)
    assumed = {**learnt.categories, **learnt.classes}.keys() - known.keys()
    used = dataclasses.replace(learnt, classes={**learnt.classes, **known})
    ordered = [name for name in table.columns if name in assumed]
    return encoding.encode(table, used), _assumed(ordered)


def encode_targets(found: Rows, inputs: Inputs, reporter: Reporter) -> tuple[Rows, list[str]]:
    """Rows of arrays with class indices for texts among the targets, as `encode` does it."""
    if found.y is None or not rows.is_text(found.y):
        return found, []
    known = _classes_of(inputs, ["y"]).get("y")
    y = class_indices(found.y, known or texts_in(found.y, "train", reporter), "train", reporter)
    return dataclasses.replace(found, y=y), _assumed([] if known else ["the targets"])


def _inputs(inputs: Inputs) -> dict[str, tuple[str, ...]]:
    """The recorded categories of each text column among the inputs."""
    return {name: each for name, each in inputs.categories.items() if name in inputs.columns}


def classes(inputs: Inputs) -> dict[str, tuple[str, ...]]:
    """The recorded classes of each target that held texts."""
    return {name: each for name, each in inputs.categories.items() if name not in inputs.columns}


def _classes_of(inputs: Inputs, targets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The recorded classes of each target that has some.

    A lone target may have another name in this file than where the model was trained.
    """
    known = classes(inputs)
    if len(known) == len(targets) == 1:
        return dict(zip(targets, known.values(), strict=True))
    return {name: known[name] for name in targets if name in known}


def _assumed(names: Sequence[str]) -> list[str]:
    """What was assumed of the texts of some columns."""
    if not names:
        return []
    return [
        f"no record of a run beside the model says how texts became numbers: those of "
        f"{' and '.join(names)} were numbered in alphabetical order of what this file has, which "
        "is right only where the training rows had the same texts"
    ]
