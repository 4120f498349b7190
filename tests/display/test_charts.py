"""Curves and bars, at their edges and for any values."""

import io
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.display.charts import (
    SPINNER,
    Fitted,
    Indented,
    Legible,
    aligned,
    bar,
    is_logarithmic,
    sparkline,
)
from orchestrator.display.text import clean
from tests.builders import LAW


def rendered(renderable: RenderableType, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    found: str = console.file.getvalue()  # type: ignore[attr-defined]
    return found.splitlines()


def table(*cells: str) -> Table:
    found = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    for index in range(len(cells)):
        found.add_column(overflow="fold", min_width=12 if not index else None)
    found.add_row(*cells)
    found.add_row("x", "")
    return found


@pytest.mark.parametrize("width", [30, 80, 1000])
def test_what_is_indented_is_whole_and_has_no_blanks_at_its_ends(width: int) -> None:
    shown = rendered(Indented(table("name", "one two -0.125"), 4), width)
    assert " ".join(" ".join(shown).split()) == "name one two -0.125 x"
    assert all(line.startswith("    ") and line == line.rstrip() for line in shown)
    assert len(shown) == 2 + (width == 30)


def test_what_is_fitted_knows_the_columns_that_there_are() -> None:
    assert rendered(Indented(Fitted(lambda width: f"{width} columns"), 4), 40) == ["    36 columns"]


@pytest.mark.parametrize(
    ("values", "curve"),
    [
        ([], ""),
        ([3.0], "▁"),
        ([2.0, 2.0, 2.0], "▁▁▁"),
        ([0.0, 7.0], "▁█"),
        ([8, 7, 6, 5, 4, 3, 2, 1], "█▇▆▅▄▃▂▁"),
        ([-1.0, 0.0, 1.0], "▁▅█"),
        ([math.nan], "×"),
        ([1.0, math.nan, 2.0, math.inf, -math.inf], "▁×█××"),
        # Spans of more than two orders of magnitude: equal factors are equal steps.
        ([1e7, 1e6, 1e5, 1e4, 1e3, 1e2, 1e1, 1.0], "█▇▆▅▄▃▂▁"),
        ([1e6, 1e3, math.nan, 1.0], "█▅×▁"),
        ([100.0, 50.0, 1.0], "█▄▁"),
        ([101.0, 10.0, 1.0], "█▄▁"),
        # No logarithm of zero.
        ([1e6, 1.0, 0.0], "█▁▁"),
        ([1e308, -1e308], "█▁"),
        ([0.0, 5e-324], "▁▁"),
    ],
)
def test_sparkline(values: list[float], curve: str) -> None:
    assert sparkline(values, 20) == curve


def test_a_long_curve_is_shortened_by_its_plan() -> None:
    values = [float(value) for value in range(100)]
    assert len(sparkline(values, 25)) == 25
    assert len(sparkline(values[:50], 25, planned=100)) == 13
    assert sparkline(values, 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([1.0, math.nan, 1.0, 2.0], 2) == "×▁"


def test_the_scale_follows_from_values_that_are_not_drawn_too() -> None:
    drawn = [1.0, 4.0, 20.0]
    logarithmic, linear = "▁▄█", "▁▂█"
    assert sparkline(drawn, 3) == linear
    assert sparkline([each for value in drawn for each in (1e3, value)], 3) == logarithmic
    assert sparkline(drawn, 3, log=True) == logarithmic


VALUES = st.lists(st.floats(), max_size=60)


@LAW
@given(VALUES, st.integers(-1, 40), st.integers(0, 200))
def test_a_curve_is_never_too_wide(values: list[float], width: int, planned: int) -> None:
    curve = sparkline(values, width, planned)
    assert cell_len(curve) <= max(width, 0)
    assert set(curve) <= set("▁▂▃▄▅▆▇█×")
    if width >= max(len(values), planned):
        assert len(curve) == len(values)
        marks = [character == "×" for character in curve]
        assert marks == [not math.isfinite(value) for value in values]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], False), ([1.0, 100.0], False), ([1.0, 100.1], True), ([0.0, 1e9], False),
     ([math.nan], False), ([math.inf, 1.0], False)],
)  # fmt: skip
def test_is_logarithmic(values: list[float], expected: bool) -> None:
    assert is_logarithmic(values) is expected


@LAW
@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(2, 60))
def test_only_nothing_is_an_empty_bar_and_only_all_a_full_one(
    part: int, whole: int, width: int
) -> None:
    part = min(part, whole)
    filled = bar(part, whole, width)
    assert 0 <= filled <= width
    if width > 1:
        assert (filled == 0) == (part == 0)
        assert (filled == width) == (part == whole)


@pytest.mark.parametrize(
    ("part", "whole", "width", "filled"),
    [(0, 0, 10, 0), (1, 1, 0, 0), (1, 2, 10, 5), (31, 32, 10, 9), (1, 1000, 10, 1), (3, 2, 4, 4)],
)
def test_bar(part: int, whole: int, width: int, filled: int) -> None:
    assert bar(part, whole, width) == filled


@LAW
@given(
    st.lists(st.lists(st.text(max_size=30).map(clean), min_size=3, max_size=3), max_size=5),
    st.integers(1, 60),
    st.integers(0, 2),
)
def test_aligned_rows_fit(rows: list[list[str]], width: int, flexible: int) -> None:
    cells = [[Text(cell) for cell in row] for row in rows]
    lines = aligned(cells, width, flexible=flexible)
    assert len(lines) == len(rows)
    assert all(line.cell_len <= width for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_picture_has_one_in_ascii(encoding: str) -> None:
    binary = io.BytesIO()
    pictures = f"▁▂▃▄▅▆▇█×░━─·…–{SPINNER}≤ 3"
    with io.TextIOWrapper(binary, encoding=encoding) as stream:
        Console(file=stream, width=80).print(Legible(Text(pictures)))
        stream.flush()
        shown = binary.getvalue().decode(encoding).rstrip("\n")
    assert len(shown) == len(pictures)
    assert (shown == pictures) == (encoding == "utf-8")
    assert shown.isascii() == (encoding != "utf-8")
    assert shown.endswith("≤ 3" if encoding == "utf-8" else "<=3")
