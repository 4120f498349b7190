"""Rows as a table, as CSV and as Markdown."""

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from orchestrator.display.tables import Cell, Column, as_csv, as_markdown, as_table
from tests.builders import LAW

COLUMNS = (
    Column("run"),
    Column("started", optional=2),
    Column("failures", least=10),
    Column("skill", right=True),
    Column("time", right=True, optional=1),
)
ROWS = (
    (Cell("a"), Cell(1, "yesterday"), Cell("x", "dead_neurons, finite", "red"), Cell(0.5), Cell(9)),
    (Cell("long"), Cell(None), Cell(""), Cell(None), Cell(12.25, "12.2 s")),
)  # fmt: skip


def test_columns_are_aligned_and_numbers_stand_to_the_right() -> None:
    assert as_table(COLUMNS, ROWS, width=None, color=False).splitlines() == [
        "run   started    failures              skill    time",
        "a     yesterday  dead_neurons, finite    0.5       9",
        "long                                          12.2 s",
    ]


def test_a_narrow_table_gives_way_and_then_leaves_out_what_is_optional() -> None:
    assert as_table(COLUMNS, ROWS, width=45, color=False).splitlines()[:2] == [
        "run   started    failures       skill    time",
        "a     yesterday  dead_neurons…    0.5       9",
    ]
    assert as_table(COLUMNS, ROWS, width=38, color=False).splitlines()[:2] == [
        "run   failures           skill    time",
        "a     dead_neurons, fi…    0.5       9",
    ]
    assert as_table(COLUMNS, ROWS, width=5, color=False).splitlines()[:2] == [
        "run   failu…  skill",
        "a     dead_…    0.5",
    ]


def test_the_first_column_gives_way_last_and_in_its_middle() -> None:
    columns = (Column("run", least=10, middle=True), Column("why", least=10), Column("time"))
    rows = [(Cell("airfoil-20261123-ab12"), Cell("a reason of some length"), Cell(12))]

    def lines(width: int) -> list[str]:
        return as_table(columns, rows, width=width, color=False).splitlines()[1:]

    assert lines(44) == ["airfoil-20261123-ab12  a reason of so…  12"]
    assert lines(38) == ["airfoi…20261123-ab12  a reason…   12"]
    assert lines(24) == ["air…3-ab12  a rea…  12"]


def test_colour_only_colours() -> None:
    plain = as_table(COLUMNS, ROWS, width=60, color=False)
    colored = as_table(COLUMNS, ROWS, width=60, color=True)
    assert "\x1b[31mdead_neurons, finite" in colored
    without = re.sub(r"\x1b\[\d+m", "", colored)
    assert [line.rstrip() for line in without.splitlines()] == plain.splitlines()


TEXTS = st.text(max_size=12)


@LAW
@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.integers(1, 40))
def test_no_line_is_wider_than_the_others_whatever_it_holds(
    texts: list[tuple[str, str]], width: int
) -> None:
    columns = (Column("a", least=10), Column("b", least=10))
    rows = [tuple(map(Cell, pair)) for pair in texts]
    lines = as_table(columns, rows, width=width, color=False).splitlines()
    assert len(lines) == len(rows) + 1
    assert all(cell_len(line) <= max(width, 22) for line in lines)


@LAW
@given(st.lists(st.tuples(TEXTS.filter(lambda text: "\r" not in text), st.floats()), max_size=4))
def test_csv_is_read_back_as_it_was(rows: list[tuple[str, float]]) -> None:
    text = as_csv((Column("a"), Column("b")), [tuple(map(Cell, row)) for row in rows])
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read == [["a", "b"], *([name, str(value)] for name, value in rows)]


def test_a_heading_is_one_line_and_breaks_no_column() -> None:
    columns = (Column("a|b\nc"), Column("d"))
    rows = [(Cell("x"), Cell("y"))]
    assert as_markdown(columns, rows).splitlines()[0] == "| a\\|b c | d |"
    assert as_table(columns, rows, width=None, color=False) == "a|b c  d\nx      y\n"
    assert as_csv(columns, rows) == '"a|b\nc",d\nx,y\n'


def test_markdown_has_a_line_a_row_and_escapes_what_would_break_it() -> None:
    columns = (Column("name"), Column("skill", right=True))
    rows = [(Cell("a|b\nc\\"), Cell(0.25, "0.2")), (Cell(None), Cell(None))]
    assert as_markdown(columns, rows) == (
        "| name | skill |\n| --- | ---: |\n| a\\|b c\\\\ | 0.2 |\n|  |  |\n"
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("dead_neurons", "dead_neurons"),
        ("warn > 50%", "warn > 50%"),
        ("<lambda> & <class 'x.Y'>", "&lt;lambda> &amp; &lt;class 'x.Y'>"),
        ("2*a*b of `f`", r"2\*a\*b of \`f\`"),
        ("x.__init__ and _y", r"x.\_\_init\_\_ and \_y"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, written: str) -> None:
    assert f"\n| {written} |\n" in as_markdown((Column("a"),), ((Cell(text),),))


@pytest.mark.parametrize("form", [as_csv, as_markdown])
def test_no_rows_leave_the_heading(form) -> None:  # type: ignore[no-untyped-def]
    assert form(COLUMNS, ()).startswith(("run,started", "| run | started"))
