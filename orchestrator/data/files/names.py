"""Columns of a table that name its rows or count them, and so say nothing of other rows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from orchestrator.data.files.encoding import Encoding
from orchestrator.data.files.tables import Table, Texts

_FEW = 20
"""Rows, or texts, up to which a column of categories or of measurements may look the same."""


def naming(table: Table, encoding: Encoding) -> tuple[str, ...]:
    """Text columns among the inputs that look like names of rows rather than categories.

    Args:
        table: the training rows.
        encoding: what was learnt from them.
    """
    most = max(_FEW, len(table) / 2)
    return tuple(name for name, known in encoding.categories.items() if len(known) > most)


def counting(table: Table) -> tuple[str, ...]:
    """Number columns among the inputs that go up by one from row to row of the file.

    An index that pandas has saved is such a column. In a file that is sorted by its target it gives
    the target away, also to rows that are held back.
    """
    return tuple(name for name in table.features if _counts(table, name))


def _counts(table: Table, name: str) -> bool:
    values = table.columns[name]
    if isinstance(values, Texts) or len(values) <= _FEW or values[1] - values[0] != 1:
        return False
    return bool(values[0].is_integer() and (np.diff(values) == 1).all())


def warnings(table: Table, encoding: Encoding) -> Iterator[str]:
    """A sentence for each such column; takes what `naming` takes."""
    for name in naming(table, encoding):
        yield (
            f"the text column {name} has {len(encoding.categories[name])} categories in "
            f"{len(table)} training rows: what names a row says nothing of others; "
            "features: [COLUMN, …] leaves it out"
        )
    for name in counting(table):
        yield (
            f"the values of {name} go up by one from row to row: what counts the rows says nothing "
            "of others, and where they are sorted by the target it gives that away; "
            "features: [COLUMN, …] leaves it out"
        )
