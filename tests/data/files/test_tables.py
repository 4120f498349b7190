"""Tables: read from text and from parquet to the last cell, and encoded as arrays."""
# ruff: noqa: E501 - messages are quoted whole

import dataclasses
import datetime
import decimal
import re

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pyarrow import csv as arrow_csv
from pyarrow import feather, ipc, parquet

from orchestrator.config import load as config
from orchestrator.config.sections.data import CsvSource, FeatherSource, ParquetSource
from orchestrator.data import load as data
from orchestrator.data.files import arrow as arrow_files
from orchestrator.data.files import csv, encoding, tables
from orchestrator.errors import InvalidError
from tests.builders import LAW


def table(tmp_path, text, *, target="y", delimiter=","):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = CsvSource(csv="t.csv", target=target, delimiter=delimiter)
    found = csv.read(path, source, name="t.csv")
    rows = encoding.encode(found, encoding.learn(found))
    return dataclasses.replace(rows, x=np.asarray(rows.x))


@pytest.mark.parametrize(
    "text",
    [
        "x,y\n1,2\n3,4\n",
        "x,y\n1,2\n3,4",
        "\ufeffx,y\n1,2\n3,4\n",
        "x,y\r\n1,2\r\n3,4\r\n",
        "x,y\r1,2\r3,4\r",
        "\n  \nx,y\n\n1,2\n \t\n3,4\n\n",
        ' x , y \n 1 , 2 \n"3",\t4\n',
        '"x","y"\n"1\n",2\n3,"4.0"\n',
        "x,y\n1e0,+2\n0.3E1,4.\n",
    ],
)
def test_tables_in_all_their_forms_read_the_same(tmp_path, text):
    found = table(tmp_path, text)
    assert found.x.tolist() == [[1.0], [3.0]]
    assert found.y.tolist() == [2.0, 4.0]
    assert found.columns == ("x",)


def test_the_target_may_stand_anywhere_and_be_quoted(tmp_path):
    found = table(tmp_path, 'a,"t,1",b\n1,2,3\n', target="t,1")
    assert (found.columns, found.x.tolist(), found.y.tolist()) == (("a", "b"), [[1, 3]], [2])


def test_the_delimiter_may_be_another(tmp_path):
    assert table(tmp_path, "x\ty\n1\t2\n", delimiter="\t").y.tolist() == [2.0]
    assert table(tmp_path, "x;y\n1;2\n", delimiter=";").y.tolist() == [2.0]


MISSING = "expected a number, the value is missing; fill it in or drop the row"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("x,y\n1,2\n,4\n", [f"t.csv:3: x: row 2: {MISSING}"]),
        ("x,y\n1,2\n3, \n", [f"t.csv:3: y: row 2: {MISSING}"]),
        ("x,y\n\n,\n", [f"t.csv:3: x: row 1: {MISSING}", f"t.csv:3: y: row 1: {MISSING}"]),
        ("x,y,\n1,2,\n", [f"t.csv:2: column 3: row 1: {MISSING}"]),
        ("x,y\nNA,2\n", ["t.csv:2: x: row 1: expected a number, received 'NA'; fill it in or drop the row"]),
        ("x,y\n1,2\nred,2\n", ["t.csv:3: x: row 2: expected a number, received 'red'; correct it, or read the column as categories with text: [x]"]),
        ("x,y\n\ufeff1,2\n3,4\n", ["t.csv:2: x: row 1: expected a number, received '\\ufeff1'; correct it, or read the column as categories with text: [x]"]),
        ("x,y\n1_000,2\n", ["t.csv:2: x: row 1: expected a number, received '1_000'; write decimals with a point, and no other separators or units"]),
        ("x,y\n12%,2\n", ["t.csv:2: x: row 1: expected a number, received '12%'; write decimals with a point, and no other separators or units"]),
        ("x,y\nred,2\n,2\nNA,2\n", ["t.csv:3: x: row 2: expected a text, the value is missing; fill it in or drop the row", "t.csv:4: x: row 3: expected a text, received 'NA'; fill it in or drop the row"]),
        ("x,y,z\n1,2,3\nnan,b,3\n3,4\n1,2,inf\n", ["t.csv:3: x: row 2: expected a finite float32 number, received nan; fill it in or drop the row", "t.csv:3: y: row 2: expected a number, received 'b'; correct it, or read the column as categories with text: [y]", "t.csv:4: row 3: expected 3 values as in the header, received 2", "t.csv:5: z: row 4: expected a finite float32 number, received inf; fill it in or drop the row"]),
        ('x,y\n"1,5",2\n', ["t.csv:2: x: row 1: expected a number, received '1,5'; write decimals with a point, and no other separators or units"]),
        ("x,y\nnan,2\n", ["t.csv:2: x: row 1: expected a finite float32 number, received nan; fill it in or drop the row"]),
        ("x,y\n\n1,2\n3,-inf\n", ["t.csv:4: y: row 2: expected a finite float32 number, received -inf; fill it in or drop the row"]),
        ("x,y\n1e39,2\n", ["t.csv:2: x: row 1: expected a finite float32 number, received 1e+39; rescale the column"]),
        ("x,y\n1,2\n3\n4,5,6\n", ["t.csv:3: row 2: expected 2 values as in the header, received 1", "t.csv:4: row 3: expected 2 values as in the header, received 3"]),
        ("x,y\n1,2,3\n4,5,6\n", ["t.csv:2: row 1: expected 2 values as in the header, received 3", "t.csv:3: row 2: expected 2 values as in the header, received 3"]),
        ('x,y\n"1,2\n3,4\n', ["t.csv:2: row 1: expected 2 values as in the header, received 1; a quote may not be closed"]),
        ('x,y\n"1\n",2\na,3\n', ["t.csv:4: x: row 2: expected a number, received 'a'; correct it, or read the column as categories with text: [x]"]),
        ('"x\n1",y\n1,2\n3,a\n', ["t.csv:4: y: row 2: expected a number, received 'a'; correct it, or read the column as categories with text: [y]"]),
        ("x,z\n1,2\n", ["t.csv:1: there is no target column 'y'; expected one of x, z"]),
        ("\nx,Y\n1,2\n", ["t.csv:2: there is no target column 'y'; did you mean 'Y'?"]),
        ("x;y\n1;2\n", ["t.csv:1: there is no target column 'y'; the columns look separated by ';': add delimiter: \";\""]),
        ("x\ty\n1\t2\n", ["t.csv:1: there is no target column 'y'; the columns look separated by '\\t': add delimiter: \"\\t\""]),
        ("1,2\n3,4\n", ["t.csv:1: there is no target column 'y'; the first line must name the columns, here it has numbers"]),
        ("x,x,y\n1,2,3\n", ["t.csv:1: x: columns 1 and 2 have the same name 'x'; rename one"]),
        (",,z\n1,2,3\n", ["t.csv:1: columns 1 and 2 have no name; rename one", "t.csv:1: there is no target column 'y'; expected one of z"]),
        ("y\n1\n", ["t.csv:1: expected input columns beside the target, found none"]),
        ("", ["t.csv: expected a header line and rows of numbers, received an empty file"]),
        ("\n \n", ["t.csv: expected a header line and rows of numbers, received an empty file"]),
        ("x,y\n", ["t.csv: expected rows of numbers below the header, received none"]),
        ("x,y\n\n \n", ["t.csv: expected rows of numbers below the header, received none"]),
        (b"x,y\n1,\xe9\n", ["t.csv:2: expected UTF-8 text, received the byte 0xe9; save the table as UTF-8"]),
        ('x,y\n"' + "1" * 200_000, ["t.csv: cannot be read as a table: field larger than field limit (131072); a quote may not be closed"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_table_is_named_with_line_and_column(tmp_path, text, problems):
    with pytest.raises(InvalidError, match=r"t\.csv") as caught:
        table(tmp_path, text)
    assert [str(problem) for problem in caught.value.problems] == problems


@pytest.mark.parametrize(
    ("cells", "more"),
    [("1_0,2_0", "and 50 more like these"), ("nan,inf", "and 50 more like these")],
)
def test_only_the_first_problems_of_a_table_are_named_the_rest_counted(tmp_path, cells, more):
    with pytest.raises(InvalidError, match=more) as caught:
        table(tmp_path, "x,y\n" + f"{cells}\n" * 30)
    assert len(caught.value.problems) == 11


def test_a_tab_separated_row_of_nothing_is_missing_values_not_a_blank_line(tmp_path):
    with pytest.raises(InvalidError, match=r"t\.csv:2: x: row 1: .* the value is missing"):
        table(tmp_path, "x\ty\n\t\n1\t2\n", delimiter="\t")


def test_a_table_that_is_gone_or_a_folder_is_named(tmp_path):
    source = CsvSource(csv="t.csv", target="y")
    with pytest.raises(InvalidError, match=r"t\.csv: cannot be read: No such file or directory"):
        csv.read(tmp_path / "t.csv", source, name="t.csv")
    with pytest.raises(InvalidError, match=r"t\.csv: cannot be read: Is a directory"):
        csv.read(tmp_path, source, name="t.csv")


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=40)
@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=float32s),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
)
def test_every_table_of_finite_floats_reads_back_the_same(
    tmp_path_factory, values, mark, end, quoted
):
    names = [f"c{index}" for index in range(values.shape[1])]
    cell = '"{!r}"'.format if quoted else repr
    lines = [names, *([cell(float(value)) for value in row] for row in values)]
    text = end.join(mark.join(line) for line in lines)
    found = table(tmp_path_factory.getbasetemp(), text, target="c0", delimiter=mark)
    np.testing.assert_array_equal(found.x, values[:, 1:])
    np.testing.assert_array_equal(found.y, values[:, 0])


CELLS = st.sampled_from(
    [
        "01",
        ".5",
        "e",
        "-",
        "+2",
        ",",
        "\n",
        "\r",
        " ",
        "\t",
        '"',
        "_",
        "nan",
        "inf",
        "a",
        "\x0b",
        "é",
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.lists(CELLS, max_size=30).map("".join), st.sampled_from([(), ("a",), ("a", "b")]))
def test_arrow_reads_what_python_reads_or_leaves_it_to_python(tmp_path_factory, text, texts):
    path = tmp_path_factory.getbasetemp() / "t.csv"
    path.write_bytes(f"a,b\n{text}".encode())
    source = CsvSource(csv="t.csv", target="b", text=list(texts))

    def outcome():
        try:
            found = csv.read(path, source, name="t.csv")
        except InvalidError as error:
            return [str(problem) for problem in error.problems]
        return {
            name: [column.texts[code] for code in column.codes]
            if isinstance(column, tables.Texts)
            else column.tolist()
            for name, column in found.columns.items()
        }

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv._Reader, "_read_blocks", lambda self, gathering, place, kinds: 0)
        expected = outcome()
    assert outcome() == expected


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_table_or_refused(tmp_path_factory, content):
    try:
        found = table(tmp_path_factory.getbasetemp(), b"x,y\n" + content)
    except InvalidError as error:
        assert all(problem.file == "t.csv" for problem in error.problems)
    else:
        assert np.isfinite(found.x).all()


# ------------------------------------------------------------------------------- columns

MIXED = "size,color,w,y,kind\n1,red,1,10,cat\n2,blue,2,20,dog\n3,red,0,30,cat\n"


def rows_of(tmp_path, text, /, **roles):
    """The rows of a text file whose columns have the given roles."""
    (tmp_path / "t.csv").write_text(text)
    found = csv.read(
        tmp_path / "t.csv", CsvSource(csv="t.csv", **{"target": "y", **roles}), name="t.csv"
    )
    rows = encoding.encode(found, encoding.learn(found))
    return dataclasses.replace(rows, x=np.asarray(rows.x))


def refused(call, *arguments, **keywords):
    with pytest.raises(InvalidError, match=r"t\.|config") as caught:
        call(*arguments, **keywords)
    return [str(problem) for problem in caught.value.problems]


def test_texts_become_a_column_for_each_category_in_order(tmp_path):
    found = rows_of(tmp_path, MIXED, features=["size", "color"])
    assert found.x.tolist() == [[1, 0, 1], [2, 1, 0], [3, 0, 1]]  # blue, red
    assert found.columns == ("size", "color")


def test_features_choose_the_inputs_and_their_order(tmp_path):
    assert rows_of(tmp_path, MIXED, features=["w", "size"]).x.tolist() == [[1, 1], [2, 2], [0, 3]]
    assert rows_of(tmp_path, MIXED, target="w", features=["y"]).x.tolist() == [[10], [20], [30]]


def test_columns_with_another_role_are_no_inputs(tmp_path):
    found = rows_of(tmp_path, MIXED, target=["y", "size"], sample_weight="w")
    assert found.columns == ("color", "kind")
    assert found.weight.tolist() == [1, 2, 0]


def test_columns_that_are_not_asked_for_may_hold_anything(tmp_path):
    text = "x,y,note\n1,2,\n3,4,NA\n"
    assert rows_of(tmp_path, text, features=["x"]).x.tolist() == [[1], [3]]


def test_several_targets_stand_side_by_side_or_by_name_of_the_output(tmp_path):
    assert rows_of(tmp_path, MIXED, target=["y", "w"]).y.tolist() == [[10, 1], [20, 2], [30, 0]]
    found = rows_of(tmp_path, MIXED, target={"price": "y", "animal": "kind"})
    assert found.y["price"].tolist() == [10, 20, 30]
    assert (found.y["animal"].tolist(), found.y["animal"].dtype) == ([0, 1, 0], np.int64)


def test_a_column_that_looks_like_numbers_is_text_where_the_user_says_so(tmp_path):
    text = "x,y\n01,1\n-,2\n1,3\nnone,4\n"
    assert rows_of(tmp_path, text, text=["x"]).x.tolist() == np.eye(4)[[1, 0, 2, 3]].tolist()
    assert rows_of(tmp_path, "x,y\n1,5\n2,3\n", text=["y"]).y.tolist() == [1, 0]


def test_one_number_among_texts_makes_the_texts_wrong(tmp_path):
    hint = "correct it, or read the column as categories with text: [x]"
    assert refused(rows_of, tmp_path, "x,y\nred,1\n3,2\nblue,3\n") == [
        f"t.csv:2: x: row 1: expected a number, received 'red'; {hint}",
        f"t.csv:4: x: row 3: expected a number, received 'blue'; {hint}",
    ]


def test_an_empty_text_is_missing_even_where_texts_are_asked_for(tmp_path):
    assert refused(rows_of, tmp_path, "x,y\nred,1\n ,2\n", text=["x"]) == [
        "t.csv:3: x: row 2: expected a text, the value is missing; fill it in or drop the row"
    ]


@pytest.mark.parametrize(
    ("roles", "problems"),
    [
        ({"features": ["size", "colour"]}, ["t.csv:1: there is no feature column 'colour'; did you mean 'color'?"]),
        ({"text": ["colour"]}, ["t.csv:1: there is no text column 'colour'; did you mean 'color'?"]),
        ({"sample_weight": "v"}, ["t.csv:1: there is no column of sample weights 'v'; expected one of color, kind, size, w, y"]),
        ({"target": ["y", "z"]}, ["t.csv:1: there is no target column 'z'; expected one of color, kind, size, w, y"]),
        ({"target": {"out": "z"}}, ["t.csv:1: there is no target column 'z'; expected one of color, kind, size, w, y"]),
        ({"features": ["size", "y"]}, ["t.csv:1: y: the column is an input and a target or weight; name it once"]),
        ({"features": ["w"], "sample_weight": "w"}, ["t.csv:1: w: the column is an input and a target or weight; name it once"]),
    ],
)  # fmt: skip
def test_roles_that_no_column_can_have_are_refused(tmp_path, roles, problems):
    assert refused(rows_of, tmp_path, MIXED, **roles) == problems


@pytest.mark.parametrize("roles", [{"target": ""}, {"features": [""]}, {"text": [""]}])
def test_a_column_without_a_name_cannot_be_named(tmp_path, roles):
    (problem,) = refused(rows_of, tmp_path, ",x,y\n1,2,3\n", **roles)
    assert problem.startswith("t.csv:1: there is no ")
    assert problem.endswith(" column without a name; give the column a name")


@pytest.mark.parametrize(
    ("cells", "problems"),
    [
        ("1,-2,0", ["t.csv:3: w: row 2: expected a weight of at least 0, received -2"]),
        ("0,0,0", ["t.csv: w: expected weights above 0, received only zeros"]),
        ("a,b,a", ["t.csv: w: expected numbers as sample weights, received texts"]),
    ],
)
def test_weights_are_numbers_of_at_least_0(tmp_path, cells, problems):
    lines = [f"{index},{cell},{index}" for index, cell in enumerate(cells.split(","))]
    text = "\n".join(["x,w,y", *lines, ""])
    assert refused(rows_of, tmp_path, text, sample_weight="w") == problems


def test_a_column_of_too_many_texts_is_refused(tmp_path):
    count = encoding.MAX_CATEGORIES
    text = "x,y\n" + "".join(f"id {index},{index}\n" for index in range(count))
    assert rows_of(tmp_path, text).x.shape == (count, count)
    assert refused(rows_of, tmp_path, text + "one more,1\n") == [
        f"t.csv: x: {count + 1} different texts in {count + 1} rows are too many; "
        "encode the column as numbers, or leave it out with features: [COLUMN, …]"
    ]


def test_groups_and_classes_may_be_more_than_texts_of_an_input(tmp_path):
    count = encoding.MAX_CATEGORIES + 1
    text = "x,who,y\n" + "".join(f"{index},id {index},class {index}\n" for index in range(count))
    (tmp_path / "t.csv").write_text(text)
    source = CsvSource(csv="t.csv", target="y").grouped_by("who")
    found = csv.read(tmp_path / "t.csv", source, name="t.csv")
    learnt = encoding.learn(found)
    assert (learnt.categories, len(learnt.classes["y"])) == ({}, count)
    assert sorted(encoding.encode(found, learnt).y.tolist()) == list(range(count))


WORDS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], include_characters=',;"\n'), min_size=1
)


@LAW
@given(st.lists(WORDS.filter(lambda word: word.strip() == word), min_size=1, max_size=8))
def test_encoding_and_decoding_gives_the_texts_back(tmp_path_factory, words):
    quoted = ['"{}"'.format(word.replace('"', '""')) for word in words]
    text = "a,b\n" + "".join(f"{word},{word}\n" for word in quoted)
    path = tmp_path_factory.getbasetemp() / "words.csv"
    path.write_text(text, newline="")
    source = CsvSource(csv="t", target="b", text=["a", "b"])
    found = csv.read(path, source, name="t")
    learnt = encoding.learn(found)
    rows = encoding.encode(found, learnt)
    assert (np.asarray(rows.x).sum(axis=1) == 1).all()
    assert [learnt.categories["a"][index] for index in np.asarray(rows.x).argmax(axis=1)] == words
    assert [learnt.classes["b"][index] for index in rows.y] == words


# ------------------------------------------------------------------------------- two tables


@pytest.fixture
def load(tmp_path):
    """Load training rows and validation rows, each from the text of a file."""

    def run(train, held, *, train_roles="", held_roles=None):
        (tmp_path / "a.csv").write_text(train)
        (tmp_path / "t.csv").write_text(held)
        (tmp_path / "c.yaml").write_text(
            "model: {layers: [{Dense: {units: 1}}]}\ncompile: {loss: mse}\n"
            "phases: [{name: main, epochs: 1}]\ndata:\n"
            f"  train: {{csv: a.csv, target: y{train_roles}}}\n  validation: "
            f"{{csv: t.csv, target: y{train_roles if held_roles is None else held_roles}}}\n"
        )
        return data.load(config.load(tmp_path / "c.yaml"))

    return run


def test_validation_rows_are_encoded_as_the_training_rows(load):
    found = load("c,y\nred,1\nblue,2\ngreen,3\n", "c,y\ngreen,1\n")
    assert found.validation.x.tolist() == [[0, 1, 0]]
    assert found.encoding.categories == {"c": ("blue", "green", "red")}
    assert found.encoding.classes == {}


def test_a_header_is_checked_in_steps_that_grow_as_it_does():
    compared = 0

    class Name(str):
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    names = [Name(f"gene {index}") for index in range(500)]
    source = CsvSource(
        csv="t.csv", target="gene 0", features=[f"gene {index}" for index in range(1, 500)]
    )
    gathering = tables.Gathering(names, source, "t.csv")
    assert len(gathering.used) == 500
    assert compared < 20 * 500


def test_unseen_categories_are_named_with_file_line_row_and_column(load):
    assert refused(load, "c,d,y\nred,a,1\nblue,b,2\n", "c,d,y\n\nred,a,1\npink,c,2\npink,b,1\nlila,b,1\n") == [
        "t.csv:6: c: row 4: 'lila' is not in the training rows, which have 'blue', 'red'; drop the row, or train on such rows too",
        "t.csv:4: c: row 2: 'pink' is not in the training rows, which have 'blue', 'red'; drop the row, or train on such rows too",
        "t.csv:4: d: row 2: 'c' is not in the training rows, which have 'a', 'b'; drop the row, or train on such rows too",
    ]  # fmt: skip


def test_many_unseen_categories_are_counted_and_many_known_ones_too(load):
    train = "c,y\n" + "".join(f"k{index:02},1\n" for index in range(13))
    problems = refused(load, train, "c,y\n" + "".join(f"u{index:02},1\n" for index in range(14)))
    assert len(problems) == 11
    assert problems[-1] == "t.csv: and 4 more like these"
    assert "'k00', 'k01'" in problems[0]
    assert "'k09' and 3 more; drop the row" in problems[0]


def test_a_column_whose_texts_name_the_rows_is_one_problem(load):
    train = "date,c,y\n" + "".join(f"day {index},red,1\n" for index in range(30))
    held = "date,c,y\n" + "".join(f"later {index},red,1\n" for index in range(12))
    assert refused(load, train, held + "day 3,pink,1\n") == [
        "t.csv: date: 30 different texts in the training rows, and 12 others here; what names a row says nothing of others: leave it out with features: [COLUMN, …]",
        "t.csv:14: c: row 13: 'pink' is not in the training rows, which have 'red'; drop the row, or train on such rows too",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values", "warned"),
    [
        ("", range(30), "column 2"),
        ("id", range(1001, 1031), "id"),
        ("id", range(20), None),
        ("id", [*range(1, 30), 0], None),
        ("id", range(0, 60, 2), None),
        ("seconds", [0.5 + index for index in range(30)], None),
        ("year", [2000 + index // 2 for index in range(30)], None),
    ],
)
def test_a_column_that_only_counts_the_rows_is_warned_of(load, name, values, warned):
    text = f"x,{name},y\n" + "".join(f"{each % 7},{each},3\n" for each in values)
    warnings = load(text, text).warnings
    assert [each.partition(" go up by one")[0] for each in warnings] == (
        [] if warned is None else [f"the values of {warned}"]
    )


def test_an_unseen_class_is_named_like_an_unseen_category(load):
    assert refused(load, "x,y\n1,cat\n2,dog\n", "x,y\n1,dog\n2,cow\n") == [
        "t.csv:3: y: row 2: 'cow' is not in the training rows, which have 'cat', 'dog'; drop the row, or train on such rows too"
    ]


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (b"\xe9", r"t\.csv:20002: expected UTF-8 text, received the byte 0xe9"),
        (b"z" * 200_000, r"t\.csv: cannot be read as a table: field larger than field limit"),
    ],
)
def test_a_column_that_is_not_used_may_be_unreadable_until_a_line_is_named(tmp_path, cell, problem):
    known = b"c,note,y\n" + b"red,x,3\n" * 20_000
    source = CsvSource(csv="t.csv", target="y", features=["c"])
    learnt = encoding.Encoding(categories={"c": ("red",)})
    (tmp_path / "t.csv").write_bytes(known + b"red," + cell + b",3\n")
    found = csv.read(tmp_path / "t.csv", source, name="t.csv")
    assert len(encoding.encode(found, learnt)) == 20_001
    (tmp_path / "t.csv").write_bytes(known + b"pink," + cell + b",3\n")
    found = csv.read(tmp_path / "t.csv", source, name="t.csv")
    with pytest.raises(InvalidError, match=problem):
        encoding.encode(found, learnt)


def test_rows_between_two_stray_quotes_are_no_text(tmp_path):
    text = "c,y\n" + "red,1\n" * 200 + '"' + "red,1\n" * 30_000 + 'red",1\n'
    with pytest.raises(InvalidError, match="field larger than field limit .* may not be closed"):
        table(tmp_path, text)


@pytest.mark.parametrize("column", ["c", "y"])
def test_texts_where_the_training_rows_have_numbers_are_refused(load, column):
    held = {"c": "1", "y": "1"} | {column: "red"}
    assert refused(load, "c,y\n1,2\n", f"c,y\n{held['c']},{held['y']}\n") == [
        f"t.csv: {column}: expected numbers as in the training rows, received texts"
    ]


@pytest.mark.parametrize("column", ["c", "y"])
def test_numbers_where_the_training_rows_have_texts_are_refused(load, column):
    train = {"c": "1", "y": "1"} | {column: "red"}
    assert refused(load, f"c,y\n{train['c']},{train['y']}\n", "c,y\n1,2\n") == [
        f"t.csv: {column}: expected texts as in the training rows, received numbers; "
        f"read the column as categories with text: [{column}]"
    ]


def test_a_category_that_only_held_back_rows_have_is_named(tmp_path):
    text = "c,y\n" + "".join(f"k{index},1\n" for index in range(8))
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "c.yaml").write_text(
        "model: {layers: [{Dense: {units: 1}}]}\ncompile: {loss: mse}\n"
        "phases: [{name: main, epochs: 1}]\n"
        "data: {train: {csv: t.csv, target: y}, validation: {fraction: 0.2}}\n"
    )
    for problem in refused(data.load, config.load(tmp_path / "c.yaml")):
        line, row, text = re.fullmatch(
            r"t\.csv:(\d): c: row (\d): 'k(\d)' is not .*", problem
        ).groups()
        assert int(line) == int(row) + 1 == int(text) + 2


# ------------------------------------------------------------------------------- parquet


def parquet_table(tmp_path, columns, **roles):
    """The table of a parquet file with the given columns."""
    path = tmp_path / "t.parquet"
    if isinstance(columns, bytes):
        path.write_bytes(columns)
    else:
        table = columns if isinstance(columns, pyarrow.Table) else pyarrow.table(columns)
        parquet.write_table(table, path)
    source = ParquetSource(parquet="t.parquet", **{"target": "y", **roles})
    return arrow_files.read_parquet(path, source, name="t.parquet")


def arrow(values, kind, **arguments):
    return pyarrow.array(values, getattr(pyarrow, kind)(**arguments))


def encoded(table):
    found = encoding.encode(table, encoding.learn(table))
    return np.asarray(found.x).tolist(), found.y.tolist(), found.columns


def test_a_parquet_file_reads_like_the_text_file_of_the_same_rows(tmp_path):
    (tmp_path / "t.csv").write_text(MIXED)
    columns = arrow_csv.read_csv(tmp_path / "t.csv")
    for roles in ({}, {"features": ["kind", "size"]}, {"target": "kind", "text": ["w"]}):
        one, other = parquet_table(tmp_path, columns, **roles), rows_of(tmp_path, MIXED, **roles)
        assert encoded(one) == (other.x.tolist(), other.y.tolist(), other.columns)


NUMBERS = [
    *(("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")),
    *(("float16", "float32", "float64")),
]


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_type_of_number_is_a_number(tmp_path, kind):
    values = np.array([1, 2, 3], "f2").tolist() if "f" not in kind else np.array([1, 2, 3], "f2")
    found = parquet_table(tmp_path, {"x": arrow(values, kind), "y": arrow([1, 2, 3], "int64")})
    assert (found.columns["x"].tolist(), found.columns["x"].dtype) == ([1, 2, 3], np.float64)


def test_truth_values_decimals_and_dictionaries_are_what_they_stand_for(tmp_path):
    columns = {
        "truth": arrow([True, False], "bool_"),
        "cents": arrow([decimal.Decimal("1.25"), decimal.Decimal("-3.50")], "decimal128", precision=5, scale=2),
        "large": arrow(["red", "blue"], "large_string"),
        "coded": arrow(["b", "a"], "string").dictionary_encode(),
        "codes": arrow([7, 5], "int64").dictionary_encode(),
        "y": arrow([1, 2], "int64"),
    }  # fmt: skip
    x, y, _ = encoded(parquet_table(tmp_path, columns))
    assert x == [[1, 1.25, 0, 1, 0, 1, 7], [0, -3.5, 1, 0, 1, 0, 5]]
    assert y == [1, 2]


def test_whole_numbers_beyond_53_bits_are_rounded_as_a_text_file_rounds_them(tmp_path):
    large = 2**53 + 1
    found = parquet_table(tmp_path, {"x": arrow([large], "int64"), "y": arrow([1], "int64")})
    assert found.columns["x"].tolist() == [float(large)]
    assert rows_of(tmp_path, f"x,y\n{large},1\n").x.tolist() == [[float(large)]]


def test_missing_values_of_a_parquet_file_are_named_with_row_and_column(tmp_path):
    columns = {
        "c": arrow(["red", None], "string"),
        "x": arrow([None, 2.0], "float64"),
        "y": arrow([float("nan"), 1e39], "float64"),
    }
    found = refused(parquet_table, tmp_path, columns)
    assert found == [
        "t.parquet: x: row 1: expected a number, the value is missing; fill it in or drop the row",
        "t.parquet: y: row 1: expected a finite float32 number, received nan; fill it in or drop the row",
        "t.parquet: c: row 2: expected a text, the value is missing; fill it in or drop the row",
        "t.parquet: y: row 2: expected a finite float32 number, received 1e+39; rescale the column",
    ]


def test_texts_of_a_parquet_file_are_categories_whatever_they_say(tmp_path):
    """What is missing is null there, so that an empty text and NA are the user's own."""
    columns = {"c": arrow(["red", "", "NA"], "string"), "y": arrow([1, 2, 3], "int64")}
    assert encoded(parquet_table(tmp_path, columns))[0] == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]


def test_many_missing_values_are_counted(tmp_path):
    columns = {"x": arrow([None] * 30, "float64"), "y": arrow(range(30), "int64")}
    found = refused(parquet_table, tmp_path, columns)
    assert (len(found), found[-1]) == (11, "t.parquet: and 20 more like these")


@pytest.mark.parametrize(
    ("values", "kind", "arguments", "name"),
    [
        ([datetime.datetime(2026, 1, 1)], "timestamp", {"unit": "us"}, "timestamp[us]"),
        ([b"a"], "binary", {}, "binary"),
        ([datetime.date(2026, 1, 1)], "date32", {}, "date32[day]"),
        ([None], "null", {}, "null"),
    ],
)
def test_what_is_neither_number_nor_text_is_refused(tmp_path, values, kind, arguments, name):
    columns = {"x": arrow(values, kind, **arguments), "y": arrow([1], "int64")}
    assert refused(parquet_table, tmp_path, columns) == [
        f"t.parquet: x: expected numbers or texts, received the type {name}; "
        "convert the column, or leave it out with features:"
    ]
    found = parquet_table(tmp_path, {**columns, "z": arrow([3], "int64")}, features=["z"])
    assert encoded(found)[0] == [[3]]


def test_the_header_of_a_parquet_file_is_checked_like_that_of_a_text_file(tmp_path):
    columns = {"x": arrow([1], "int64"), "Y": arrow([1], "int64")}
    assert refused(parquet_table, tmp_path, columns) == [
        "t.parquet: there is no target column 'y'; did you mean 'Y'?"
    ]
    columns = {"x": arrow([], "int64"), "y": arrow([], "int64")}
    assert refused(parquet_table, tmp_path, columns) == ["t.parquet: expected rows, received none"]


def test_an_index_that_pandas_has_saved_is_no_input(tmp_path):
    columns = {name: arrow([5], "int64") for name in ("x", "y", "__index_level_0__")}
    assert encoded(parquet_table(tmp_path, columns)) == ([[5]], [5], ("x",))


def test_rows_of_a_parquet_file_are_numbered_where_lines_are_missing(tmp_path):
    columns = {"x": arrow([1, 2, 3], "int64"), "y": arrow(["a", "b", "c"], "string")}
    found = parquet_table(tmp_path, columns)
    with pytest.raises(InvalidError, match=r"t\.parquet: y: row 2: 'b' is not in .* 'a', 'c'"):
        encoding.encode(found, encoding.learn(found.take(np.array([0, 2]))))


@LAW
@given(st.binary(max_size=40), st.integers(0, 400))
def test_a_damaged_parquet_file_is_refused_or_read(tmp_path_factory, noise, cut):
    folder = tmp_path_factory.getbasetemp()
    columns = {"x": arrow([1, 2, 3], "int64"), "y": arrow([1, 2, 3], "int64")}
    parquet_table(folder, columns)
    content = (folder / "t.parquet").read_bytes()
    try:
        found = parquet_table(folder, content[:cut] + noise + content[cut + len(noise) :])
    except InvalidError as error:
        assert all(problem.file == "t.parquet" for problem in error.problems)
    else:
        assert len(found) > 0


def test_what_is_no_parquet_file_is_refused(tmp_path):
    (problem,) = refused(parquet_table, tmp_path, b"x,y\n1,2\n")
    assert problem.startswith("t.parquet: cannot be read as a parquet file: ")


# ------------------------------------------------------------------------------- feather


def write_feather(path, table, form):
    """Write a table as a feather file, at once or in blocks, or as a stream."""
    if form == "stream":
        with ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    elif form == "blocks":
        with ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
    else:
        feather.write_feather(table, path)


def feather_table(path, **roles):
    source = FeatherSource(feather="t.feather", **{"target": "y", **roles})
    return arrow_files.read_feather(path, source, name="t.feather")


@pytest.mark.parametrize("form", ["file", "blocks", "stream"])
def test_a_feather_file_reads_like_the_text_file_of_the_same_rows(tmp_path, form):
    (tmp_path / "t.csv").write_text(MIXED)
    write_feather(tmp_path / "t.feather", arrow_csv.read_csv(tmp_path / "t.csv"), form)
    for roles in ({}, {"features": ["kind", "size"]}, {"target": "kind", "text": ["w"]}):
        other = rows_of(tmp_path, MIXED, **roles)
        found = encoded(feather_table(tmp_path / "t.feather", **roles))
        assert found == (other.x.tolist(), other.y.tolist(), other.columns)


def test_what_is_missing_in_a_feather_file_is_named_with_row_and_column(tmp_path):
    columns = pyarrow.table({"x": [1.0, 2.0, None], "c": ["a", None, "b"], "y": [1, 2, 3]})
    write_feather(tmp_path / "t.feather", columns, "blocks")
    assert refused(feather_table, tmp_path / "t.feather") == [
        "t.feather: c: row 2: expected a text, the value is missing; fill it in or drop the row",
        "t.feather: x: row 3: expected a number, the value is missing; fill it in or drop the row",
    ]


@LAW
@given(
    st.binary(min_size=1, max_size=40),
    st.integers(0, 2000),
    st.sampled_from(["file", "blocks", "stream"]),
)
def test_a_damaged_feather_file_is_refused_or_read(tmp_path_factory, noise, cut, form):
    path = tmp_path_factory.getbasetemp() / "t.feather"
    texts = pyarrow.array(["red", "blue", "more than twelve bytes"])
    columns = {"a": texts, "b": texts.dictionary_encode(), "c": texts.cast(pyarrow.string_view())}
    write_feather(path, pyarrow.table({**columns, "x": [1, 2, 3], "y": [1, 2, 3]}), form)
    content = path.read_bytes()
    path.write_bytes(content[:cut] + noise + content[cut + len(noise) :])
    try:
        found = feather_table(path)
    except InvalidError as error:
        assert all(problem.file == "t.feather" for problem in error.problems)
    else:
        assert len(found) > 0


@pytest.mark.parametrize("form", ["file", "stream"])
def test_a_category_beyond_the_last_is_refused(tmp_path, form):
    codes = pyarrow.array([0, 10**9], pyarrow.int32())
    texts = pyarrow.DictionaryArray.from_arrays(codes, pyarrow.array(["a", "b"]), safe=False)
    write_feather(tmp_path / "t.feather", pyarrow.table({"c": texts, "y": [1, 2]}), form)
    (problem,) = refused(feather_table, tmp_path / "t.feather")
    assert problem.startswith("t.feather: cannot be read as a feather file: ")


@pytest.mark.parametrize(
    ("content", "received"),
    [(b"FEA1" + b"\0" * 60, "version 1 of it"), (b"x,y\n1,2\n", "another kind of file")],
)
def test_a_file_that_is_no_feather_file_is_called_so(tmp_path, content, received):
    (tmp_path / "t.feather").write_bytes(content)
    assert refused(feather_table, tmp_path / "t.feather") == [
        f"t.feather: expected a feather file of version 2, received {received}; "
        "save it with pyarrow.feather.write_feather"
    ]


def test_a_column_without_a_name_is_an_input_like_others(tmp_path):
    columns = pyarrow.table({"": [1, 2], "__index_level_0__": [7, 8], "y": [3, 4]})
    write_feather(tmp_path / "t.feather", columns, "file")
    for found in (parquet_table(tmp_path, columns), feather_table(tmp_path / "t.feather")):
        assert encoded(found) == ([[1], [2]], [3, 4], ("column 1",))


# ------------------------------------------------------------------------------- in pieces


@pytest.fixture
def small_blocks(monkeypatch):
    """Text files are read in many blocks."""
    monkeypatch.setattr(csv, "_BLOCK_BYTES", 64)
    monkeypatch.setattr(csv, "_BLOCK_ROWS", 3)
    monkeypatch.setattr(csv, "_FIRST_ROWS", 2)


def test_rows_that_arrow_does_not_take_are_read_in_their_place(small_blocks, tmp_path):
    lines = [f"{row},{row % 3}" for row in range(200)]
    lines[20] = "  "
    lines[90] = '"90\n",0'
    lines[150] = "150\x0b,0"
    found = table(tmp_path, "x,y\n" + "\n".join(lines))
    assert found.x[:, 0].tolist() == [row for row in range(200) if row != 20]


def test_a_bad_cell_in_any_block_is_named_with_its_line(small_blocks, tmp_path):
    lines = [f"{row},{row % 3}" for row in range(200)]
    lines[90] = '"90\n",x'
    lines[150] = "150"
    lines[170] = "nan,inf"
    with pytest.raises(InvalidError, match=r"t\.csv") as caught:
        table(tmp_path, "x,y\n\n" + "\n".join(lines))
    found = [str(problem) for problem in caught.value.problems]
    assert [problem.split(": expected")[0] for problem in found] == [
        "t.csv:93: y: row 91", "t.csv:154: row 151", "t.csv:174: x: row 171", "t.csv:174: y: row 171"
    ]  # fmt: skip


def test_a_number_far_down_makes_the_texts_above_it_wrong(small_blocks, tmp_path):
    lines = [f"red,{row}" for row in range(200)]
    lines[190] = "1,190"
    with pytest.raises(InvalidError, match="and 189 more like these") as caught:
        table(tmp_path, "x,y\n" + "\n".join(lines))
    assert "t.csv:2: x: row 1: expected a number, received 'red'" in str(caught.value.problems[0])


def test_texts_are_found_below_values_that_are_missing(small_blocks, tmp_path):
    lines = ["NA,1"] * 20 + ["red,2"] * 20
    with pytest.raises(InvalidError, match="and 10 more like these") as caught:
        table(tmp_path, "x,y\n" + "\n".join(lines))
    assert "expected a text, received 'NA'" in str(caught.value.problems[0])
