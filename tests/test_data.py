"""Rows: read to the last value, refused with file, row and column, split and standardised."""
# ruff: noqa: E501 - messages are quoted whole

import io
import pathlib
import pickle
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator import config, data, rows, schema, tables
from orchestrator.errors import InvalidError, UserCodeError

BASE = """\
data:
  train: {callable: "m:f"}
model: {factory: {callable: "m:f"}}
phases: [{name: main, epochs: 1}]
"""


@pytest.fixture
def load(tmp_path):
    """Load the data of a config that differs from BASE by its `data` section."""

    def run(*assignments):
        (tmp_path / "c.yaml").write_text(BASE)
        return data.load(config.load(tmp_path / "c.yaml", assignments))

    return run


def table(tmp_path, text, *, target="y", delimiter=","):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    source = schema.CsvSource(csv="t.csv", target=target, delimiter=delimiter)
    found = tables.read_csv(path, source, name="t.csv")
    return tables.encode(found, tables.learn(found))


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
    source = schema.CsvSource(csv="t.csv", target="y")
    with pytest.raises(InvalidError, match=r"t\.csv: cannot be read: No such file or directory"):
        tables.read_csv(tmp_path / "t.csv", source, name="t.csv")
    with pytest.raises(InvalidError, match=r"t\.csv: cannot be read: Is a directory"):
        tables.read_csv(tmp_path, source, name="t.csv")


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


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from('01.e-+,\n\r \t"_naif\x0b'), max_size=40))
def test_the_fast_parser_agrees_with_the_slow_one_wherever_it_answers(text):
    fast = tables._parse_fast(text, 0, ",", ["a", "b"])
    if fast is not None:
        lines = list(tables._lines(text, ","))
        source = schema.CsvSource(csv="t.csv", target="b")
        slow = tables._parse_slowly(lines, ["a", "b"], {"a": 0, "b": 1}, source, "t")
        np.testing.assert_array_equal(fast, np.stack(list(slow.columns.values()), axis=1))


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_a_table_or_refused(tmp_path_factory, content):
    try:
        found = table(tmp_path_factory.getbasetemp(), b"x,y\n" + content)
    except InvalidError as error:
        assert all(problem.file == "t.csv" for problem in error.problems)
    else:
        assert np.isfinite(found.x).all()


X = np.arange(6.0).reshape(3, 2)
Y = np.arange(3.0)


def archive(tmp_path, arrays, **names):
    path = tmp_path / "t.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    else:
        np.savez(path, **arrays)
    return data.read_npz(path, schema.NpzSource(npz="t.npz", **names), name="t.npz")


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "i1", "u8"])
def test_archives_keep_shapes_and_number_types(tmp_path, dtype):
    found = archive(tmp_path, {"a": X.astype(dtype), "b": Y}, x="a", y="b")
    assert (found.x.shape, found.x.dtype, found.columns) == ((3, 2), np.dtype(dtype), ())
    np.testing.assert_array_equal(found.x, X.astype(dtype))


def test_a_vector_of_inputs_becomes_one_column(tmp_path):
    assert archive(tmp_path, {"x": Y, "y": Y}).x.shape == (3, 1)


def saved(array):
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("arrays", "problems"),
    [
        ({"x": X, "Y": Y}, ["t.npz: y: there is no array 'y'; did you mean 'Y'?"]),
        ({"a": X}, ["t.npz: x: there is no array 'x'; expected one of a", "t.npz: y: there is no array 'y'; expected one of a"]),
        ({}, ["t.npz: x: there is no array 'x'; there is none to choose from", "t.npz: y: there is no array 'y'; there is none to choose from"]),
        ({"x": X, "y": Y[:2]}, ["t.npz: expected as many targets as inputs, received 3 rows of x and 2 of y"]),
        ({"x": X[:0], "y": Y[:0]}, ["t.npz: x: expected at least one row, received shape (0, 2)", "t.npz: y: expected at least one row, received shape (0,)"]),
        ({"x": X, "y": np.float64(3)}, ["t.npz: y: expected one row per sample, received a single number"]),
        ({"x": X[:, :0], "y": Y}, ["t.npz: x: expected at least one row, received shape (3, 0)"]),
        ({"x": np.array([1, None, 2]), "y": Y}, ["t.npz: x: expected an array of numbers, received Python objects; set its dtype"]),
        ({"x": np.array(["a"] * 3), "y": Y}, ["t.npz: x: expected an array of numbers, received dtype <U1"]),
        ({"x": X * 1j, "y": Y}, ["t.npz: x: expected an array of numbers, received dtype complex128"]),
        ({"x": X, "y": Y.astype("M8[s]")}, ["t.npz: y: expected an array of numbers, received dtype datetime64[s]"]),
        ({"x": np.where(X == 3, np.nan, X), "y": Y}, ["t.npz: x: row 1, column 1 (from 0): expected a finite float32 number, received nan"]),
        ({"x": X, "y": np.where(Y == 2, -np.inf, Y)}, ["t.npz: y: row 2 (from 0): expected a finite float32 number, received -inf"]),
        ({"x": X * 1e300, "y": Y}, ["t.npz: x: row 0, column 1 (from 0): expected a finite float32 number, received 1e+300"]),
        ({"x": np.array([[1.0], [np.inf], [1.0]], dtype="f2"), "y": Y}, ["t.npz: x: row 1, column 0 (from 0): expected a finite float32 number, received inf"]),
        ({"x": np.full((1, 2, 2), np.nan), "y": Y[:1]}, ["t.npz: x: row 0, column 0, 0 (from 0): expected a finite float32 number, received nan"]),
        (b"", ["t.npz: expected an .npz archive, received another kind of file, or a part of one; save it with numpy.savez"]),
        (saved(X), ["t.npz: expected an .npz archive, received another kind of file, or a part of one; save it with numpy.savez"]),
        (pickle.dumps(X), ["t.npz: expected an .npz archive, received another kind of file, or a part of one; save it with numpy.savez"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_archive_is_named_with_array_and_row(tmp_path, arrays, problems):
    with pytest.raises(InvalidError, match=r"t\.npz") as caught:
        archive(tmp_path, arrays)
    assert [str(problem) for problem in caught.value.problems] == problems


def test_the_first_bad_row_is_found_beyond_the_first_piece(tmp_path):
    x = np.zeros((70_000, 1), dtype="f4")
    x[69_999] = np.nan
    with pytest.raises(InvalidError, match="row 69999, column 0"):
        archive(tmp_path, {"x": x, "y": x})


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(InvalidError, match=r"t\.npz: cannot be read: No such file"):
        data.read_npz(tmp_path / "t.npz", schema.NpzSource(npz="t.npz"), name="t.npz")


@settings(deadline=None, max_examples=100)
@given(
    st.booleans(), st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=3), st.data()
)
def test_damaged_archives_are_read_or_refused(tmp_path_factory, compressed, flips, draw):
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, x=X, y=Y)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[place % len(content)] = value
    kept = draw.draw(st.sampled_from([len(content), len(content), len(content) // 2, 30]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of odd but harmless headers
        try:
            found = archive(tmp_path_factory.getbasetemp(), bytes(content[:kept]))
        except InvalidError as error:
            assert all(problem.file == "t.npz" for problem in error.problems)
        else:
            assert found.x.shape[0] == found.y.shape[0]


@pytest.fixture
def call(tmp_path, monkeypatch, request):
    """Write a module with a function `f` and load what it returns."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    module = f"rows_{abs(hash(request.node.name))}"

    def run(source, *assignments):
        (tmp_path / f"{module}.py").write_text(f"import numpy as np\n{source}\n")
        (tmp_path / "c.yaml").write_text(BASE.replace("m:f", f"{module}:f"))
        return data.load(config.load(tmp_path / "c.yaml", assignments))

    yield run
    sys.modules.pop(module, None)


def test_a_callable_gives_arrays_or_what_becomes_one(call):
    found = call("def f(n): return np.eye(n), [0] * n", "data.train.kwargs.n=4").train
    assert (found.x.shape, found.y.tolist()) == ((4, 4), [0, 0, 0, 0])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return np.eye(3)",
            r"rows_\d+:f: expected it to return a tuple \(x, y\) or .* a generator, received ndarray",
        ),
        (
            "return None",
            r"expected it to return a tuple \(x, y\) or .* a generator, received NoneType",
        ),
        ("return 1, 2, 3, 4", r"expected it to return .* received a tuple of 4"),
        ("return [[1], [2, 3]], [1, 2]", r"x: expected an array of numbers, received list: "),
        ("return [['a'], ['b']], [1, 2]", r"x: expected an array of numbers, received dtype <U1"),
        (
            "return np.eye(2), [1, 2], [1, -1]",
            r"sample_weight: row 1 .* of at least 0, received -1",
        ),
        ("return np.eye(2), [1, 2], [0, 0]", r"expected weights above 0, received only zeros"),
        ("return np.eye(2), [1, 2], np.eye(2)", r"expected one weight a row, received shape"),
        ("return [[1], [None]], [1, 2]", r"x: expected an array of numbers, received dtype object"),
        ("return np.eye(3), [1, 2]", r"received 3 rows of x and 2 of y"),
        ("return [[1.0], [float('nan')]], [1, 2]", r"x: row 1, column 0 \(from 0\)"),
    ],
)
def test_what_a_callable_should_not_return_is_refused(call, body, message):
    with pytest.raises(InvalidError, match=message):
        call(f"def f(): {body}")


def test_a_callable_that_raises_is_the_users_code(call):
    with pytest.raises(UserCodeError, match=r"f raised ZeroDivisionError: .*\.py:2, in f\)"):
        call("def f(): 1 / 0")


def test_arguments_that_a_callable_does_not_take_are_the_configs_problem(call):
    with pytest.raises(InvalidError, match=r"kwargs: the function has got an unexpected .*'cuont'"):
        call("def f(count=3): pass", "data.train.kwargs.cuont=4")


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 60), st.floats(0.001, 0.999), st.integers(0, 2**32 - 1))
def test_a_split_is_a_partition_that_depends_on_the_seed_alone(count, fraction, seed):
    x = np.arange(count)[:, None]
    train, held = rows.split(rows.Rows(x=x, y=10 * x[:, 0]), fraction, seed)
    assert sorted([*train.x[:, 0], *held.x[:, 0]]) == list(range(count))
    assert len(held) == min(max(round(count * fraction), 1), count - 1)
    for part in (train, held):
        np.testing.assert_array_equal(part.y, 10 * part.x[:, 0])
    again = rows.split(rows.Rows(x=-x, y=x[:, 0]), fraction, seed)
    np.testing.assert_array_equal(again[1].x, -held.x)


def test_another_seed_holds_back_other_rows():
    found = rows.Rows(x=np.arange(100)[:, None], y=np.arange(100))
    assert rows.split(found, 0.2, 0)[1].y.tolist() != rows.split(found, 0.2, 1)[1].y.tolist()


def test_statistics_come_from_the_training_rows_and_leave_targets_alone(load, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,100\n3,300\n")
    (tmp_path / "b.csv").write_text("x,y\n5,500\n")
    found = load(
        "data={train: {csv: a.csv, target: y}, validation: {csv: b.csv, target: y}, standardize: on}"
    )
    assert found.train.x.tolist() == [[-1.0], [1.0]]
    assert found.validation.x.tolist() == [[3.0]]
    assert found.train.y.tolist() == [100.0, 300.0]
    assert found.train.x.dtype == found.train.y.dtype == np.float32


def test_integers_stay_integers_unless_they_are_standardised(call):
    source = "def f(): return np.array([[1], [3]]), np.array([0, 1])"
    assert call(source).train.x.dtype == np.int64
    assert call(source, "data.standardize=true").train.x.tolist() == [[-1.0], [1.0]]


def test_a_fraction_needs_two_rows(load, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(
        InvalidError, match="fraction: expected at least 2 rows to split, received 1"
    ):
        load("data={train: {csv: a.csv, target: y}, validation: {fraction: 0.5}}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("b,a,y\n1,2,3\n", "expected the columns a, b as in the training data, received b, a"),
        ("a,y\n1,3\n", "expected the columns a, b as in the training data, received a"),
    ],
)
def test_validation_rows_must_look_like_training_rows(load, tmp_path, text, message):
    (tmp_path / "a.csv").write_text("a,b,y\n1,2,3\n")
    (tmp_path / "b.csv").write_text(text)
    with pytest.raises(InvalidError, match=f"--set data=.*: data.validation: {message}"):
        load("data={train: {csv: a.csv, target: y}, validation: {csv: b.csv, target: y}}")


def test_a_constant_column_is_shifted_and_not_scaled():
    x = np.stack([np.full(1000, 0.1), np.full(1000, 1e4 + 0.3), np.arange(1000.0)], axis=1)
    scaling = rows.standardization(rows.Rows(x=x, y=x))[""]
    assert scaling.variance[:2].tolist() == [1.0, 1.0]
    assert (scaling.apply(x)[:, :2] == 0).all()


def test_a_large_offset_does_not_spoil_a_tiny_variance():
    x = np.float32(1e4) + np.float32(2**-10) * np.array([[0], [1], [2], [3]], dtype=np.float32)
    scaling = rows.standardization(rows.Rows(x=x, y=x))[""]
    assert scaling.variance[0] == pytest.approx(1.25 * 2.0**-20, rel=1e-6)
    assert scaling.apply(x).std() == pytest.approx(1.0, rel=1e-6)


def test_statistics_are_taken_over_rows_and_positions():
    x = np.array([[[1.0, 0.0], [3.0, 4.0]], [[5.0, 0.0], [7.0, 4.0]]])
    scaling = rows.standardization(rows.Rows(x=x, y=x))[""]
    assert scaling.mean.tolist() == [4.0, 2.0]
    assert scaling.variance.tolist() == [5.0, 4.0]


def test_scaling_divides_by_no_less_than_keras_does():
    scaling = rows.Scaling(mean=np.zeros(1, "f4"), variance=np.full(1, 1e-20, "f4"))
    assert scaling.apply(np.array([[1e-7]])).tolist() == [[pytest.approx(1.0)]]


finite = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 20), st.integers(1, 3)),
    elements=st.floats(-1e6, 1e6, width=32),
)


@settings(deadline=None, max_examples=40)
@given(finite)
def test_standardising_is_one_float32_subtraction_and_one_division(x):
    scaling = rows.standardization(rows.Rows(x=x, y=x))[""]
    scaled = scaling.apply(x)
    deviation = np.maximum(np.sqrt(scaling.variance), np.float32(1e-7))
    expected = np.divide(np.subtract(x, scaling.mean), deviation)
    assert scaled.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(scaled, expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("1e-9\n3e-9", "column x varies too little to be standardised in float32"),
        ("1e-30\n3e-30", "column x varies too little to be standardised in float32"),
        ("-3e38\n3e38", "column x varies too far to be standardised in float32"),
    ],
)
def test_columns_that_float32_cannot_standardise_are_refused(load, tmp_path, values, message):
    found = values.replace("\n", ",0\n")
    (tmp_path / "a.csv").write_text(f"x,y\n{found},1\n")
    with pytest.raises(InvalidError, match=f"{message}; give the column in another unit"):
        load("data={train: {csv: a.csv, target: y}, standardize: on}")


def test_the_fingerprint_tells_values_shapes_and_types_apart():
    base = rows.fingerprint([rows.Rows(x=X, y=Y)])
    assert base == rows.fingerprint([rows.Rows(x=np.asfortranarray(X), y=Y.copy())])
    others = [
        rows.fingerprint([rows.Rows(x=X.astype("f4"), y=Y)]),
        rows.fingerprint([rows.Rows(x=X.reshape(2, 3), y=Y)]),
        rows.fingerprint([rows.Rows(x=X + 1, y=Y)]),
        rows.fingerprint([rows.Rows(x=X, y=Y), rows.Rows(x=X, y=Y)]),
    ]
    assert len({base, *others}) == 5


def test_only_callables_are_code_of_the_users(tmp_path):
    def config_of(*assignments):
        (tmp_path / "c.yaml").write_text(BASE)
        return config.load(tmp_path / "c.yaml", assignments)

    (tmp_path / "a.npz").write_bytes(b"")
    assert data.has_user_code(config_of())
    assert not data.has_user_code(config_of("data.train={npz: a.npz}"))
    assert data.has_user_code(
        config_of("data={train: {npz: a.npz}, validation: {callable: 'm:f'}}")
    )


def test_truth_values_become_numbers(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.eye(2, dtype=bool), y=np.array([True, False]))
    found = data.read_npz(tmp_path / "a.npz", schema.NpzSource(npz="a.npz"), name="a.npz")
    assert (found.x.dtype, found.y.dtype) == (np.float32, np.float32)
    assert found.y.tolist() == [1.0, 0.0]
