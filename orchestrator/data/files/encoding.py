"""Tables as arrays: a text becomes 0 and 1 in a column for each category, or a class index."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from orchestrator.data.files.tables import (
    MAX_PROBLEMS,
    Table,
    Texts,
    more,
    target_columns,
)
from orchestrator.data.rows import Array, Columns, Lookup, Rows, Tree
from orchestrator.errors import InvalidError, Problem

MAX_CATEGORIES = 1000
"""An input column of more texts than this is refused: each would be an input of its own."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """How the texts of a table become numbers, learnt from the training rows."""

    categories: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Categories of each text column among the inputs, in the order of their columns."""
    classes: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Classes of each text target; a class index is a position in them."""


def learn(table: Table) -> Encoding:
    """The categories that the training rows have, sorted.

    Raises:
        InvalidError: a text column among the inputs has too many of them.
    """
    categories = _present(table, table.features)
    problems = []
    for name, found in categories.items():
        if len(found) > MAX_CATEGORIES:
            message = f"{len(found)} different texts in {len(table)} rows are too many"
            hint = "encode the column as numbers, or leave it out with features: [COLUMN, …]"
            problems.append(Problem(file=table.name, key=name, message=message, hint=hint))
    if problems:
        raise InvalidError(problems)
    return Encoding(categories=categories, classes=_present(table, target_columns(table.source)))


def _present(table: Table, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The texts that the rows have in each of these columns that holds texts, sorted."""
    found = {}
    for name in names:
        column = table.columns[name]
        if isinstance(column, Texts):
            present = np.flatnonzero(np.bincount(table.values(name), minlength=len(column.texts)))
            found[name] = tuple(sorted(column.texts[code] for code in present))
    return found


def unseen(message: str, drawn: int | None) -> tuple[str, str]:
    """What is said of a text that the training rows do not have, and what to do about it.

    Args:
        message: what is wrong.
        drawn: seed of the split that has held the row back; None where the rows were given so.
    """
    if drawn is None:
        return message, "drop the row, or train on such rows too"
    hint = "merge or drop what is so rare, or give data.validation a source of its own"
    return f"{message}: the split of seed {drawn} has held back all that there are", hint


def encode(
    table: Table, encoding: Encoding, naming: Collection[str] = (), drawn: int | None = None
) -> Rows:
    """The table as arrays.

    Args:
        table: training or validation rows.
        encoding: what was learnt from the training rows.
        naming: text columns that name each training row, so that others cannot be among them.
        drawn: seed of the split that has held the rows back; None where none has.

    Returns:
        Inputs of shape (rows, columns), a text column as one column a category, which is made only
        where rows are looked at; targets of shape (rows,), or (rows, targets) for a list of them,
        or a dict of vectors for named outputs.

    Raises:
        InvalidError: a text that the training rows do not have, or texts where they have numbers.
    """
    problems = list(_other_kinds(table, encoding))
    if problems:
        raise InvalidError(problems)
    parts: list[Array | Lookup] = []
    for name in table.features:
        column = table.columns[name]
        if isinstance(column, Texts):
            known = encoding.categories[name]
            codes = _known_codes(table, name, known, problems, naming, drawn)
            parts.append(Lookup(codes=codes, table=np.eye(len(known) + 1, len(known))))
        else:
            parts.append(column)
    targets = {
        name: _known_codes(table, name, encoding.classes[name], problems, (), drawn)
        if name in encoding.classes
        else np.asarray(table.columns[name])
        for name in target_columns(table.source)
    }
    if problems:
        raise InvalidError([*problems[:MAX_PROBLEMS], *more(len(problems), table.name)])
    if table.order is not None:
        targets = {name: values[table.order] for name, values in targets.items()}
    weight = table.source.sample_weight
    return Rows(
        x=Columns(parts=tuple(parts)),
        y=_target_tree(table.source.target, targets),
        weight=None if weight is None else table.values(weight),
        columns=table.features,
        order=table.order,
    )


def _other_kinds(table: Table, encoding: Encoding) -> Iterator[Problem]:
    """Columns of numbers where the training rows have texts, and the other way round."""
    for name in (*table.features, *target_columns(table.source)):
        texts = isinstance(table.columns[name], Texts)
        if texts == (name in encoding.categories or name in encoding.classes):
            continue
        expected, received = ("numbers", "texts") if texts else ("texts", "numbers")
        message = f"expected {expected} as in the training rows, received {received}"
        hint = None if texts else f"read the column as categories with text: [{name}]"
        yield Problem(file=table.name, key=name, message=message, hint=hint)


def _known_codes(
    table: Table,
    name: str,
    known: Sequence[str],
    problems: list[Problem],
    naming: Collection[str],
    drawn: int | None,
) -> npt.NDArray[np.int64]:
    """Position of each text of the file among the known ones, and what is wrong with others.

    Rows that are not meant may have a text that is not known; theirs is one past the last.
    """
    column = table.columns[name]
    if not isinstance(column, Texts):
        raise TypeError(f"Expected a column of texts. Received: {name}")
    index = {text: position for position, text in enumerate(known)}
    places = np.asarray([index.get(text, len(known)) for text in column.texts], np.int64)
    strange = np.flatnonzero(places[table.values(name)] == len(known))
    first = np.unique(table.values(name)[strange], return_index=True)[1]
    if name in naming and len(first):
        message = f"{len(known)} different texts in the training rows, and {len(first)} others here"
        hint = "what names a row says nothing of others: leave it out with features: [COLUMN, …]"
        problems.append(Problem(file=table.name, key=name, message=message, hint=hint))
        return places[column.codes]
    for row in sorted(map(int, strange[first]), key=lambda row: _text(table, name, row)):
        message = f"{_text(table, name, row)!r} is not in the training rows, which have "
        problems.append(table.problem(row, name, *unseen(message + _listed(known), drawn)))
    return places[column.codes]


def _text(table: Table, name: str, row: int) -> str:
    column = table.columns[name]
    return column.texts[table.values(name)[row]] if isinstance(column, Texts) else ""


def _listed(texts: Sequence[str]) -> str:
    shown = ", ".join(map(repr, texts[:10]))
    return shown if len(texts) <= 10 else f"{shown} and {len(texts) - 10} more"


def _target_tree(target: str | list[str] | dict[str, str], columns: Mapping[str, Array]) -> Tree:
    if isinstance(target, str):
        return columns[target]
    if isinstance(target, Mapping):
        return {output: columns[name] for output, name in target.items()}
    return np.stack([columns[name] for name in target], axis=1)
