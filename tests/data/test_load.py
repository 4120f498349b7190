"""Rows: read to the last value, refused with file, row and column, split and standardised."""
# ruff: noqa: E501 - messages are quoted whole

import contextlib
import importlib
import io
import pathlib
import pickle
import re
import resource
import sys
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from orchestrator.config import load as config
from orchestrator.config.sections.data import NpySource, NpzSource
from orchestrator.data import load as data
from orchestrator.data import rows, standardize
from orchestrator.data.files import numpy as numpy_files
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


X = np.arange(6.0).reshape(3, 2)
Y = np.arange(3.0)


def archive(tmp_path, arrays, **names):
    path = tmp_path / "t.npz"
    if isinstance(arrays, bytes):
        path.write_bytes(arrays)
    else:
        np.savez(path, **arrays)
    return numpy_files.read_npz(path, NpzSource(npz="t.npz", **names), name="t.npz")


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
        ({"x": X.astype("M8[D]"), "y": Y}, ["t.npz: x: expected an array of numbers, received dtype datetime64[D]"]),
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


def test_arrays_that_do_not_fit_into_memory_are_not_unpacked(tmp_path, monkeypatch):
    zeros = bytes(2 * 10**8)  # a bomb in small: a thousandth of that in the file
    with zipfile.ZipFile(tmp_path / "t.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("x.npy", zeros)
    monkeypatch.setattr(numpy_files, "_memory", lambda: 10**8)
    content = (tmp_path / "t.npz").read_bytes()
    with pytest.raises(InvalidError, match=r"t\.npz: its arrays take 0\.4 GB, .* has 0\.1 GB"):
        archive(tmp_path, content, x="x", y="x")


def test_the_first_bad_row_is_found_beyond_the_first_piece(tmp_path):
    x = np.zeros((70_000, 1), dtype="f4")
    x[69_999] = np.nan
    with pytest.raises(InvalidError, match="row 69999, column 0"):
        archive(tmp_path, {"x": x, "y": x})


def test_a_missing_archive_is_named(tmp_path):
    with pytest.raises(InvalidError, match=r"t\.npz: cannot be read: No such file"):
        numpy_files.read_npz(tmp_path / "t.npz", NpzSource(npz="t.npz"), name="t.npz")


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
        sys.modules.pop(module, None)
        importlib.invalidate_caches()
        return data.load(
            config.load(
                tmp_path / "c.yaml", [each.replace("m:f", f"{module}:f") for each in assignments]
            )
        )

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
        (
            "return np.eye(2), [1, 2], [1, -1]",
            r"sample_weight: row 1 .* of at least 0, received -1",
        ),
        ("return np.eye(2), [1, 2], [0, 0]", r"expected weights above 0, received only zeros"),
        ("return np.eye(2), [1, 2], np.eye(2)", r"expected one weight a row, received shape"),
        (
            "return [[1], [None]], [1, 2]",
            r"x: expected an array of numbers, received NoneType in row 1",
        ),
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


def test_statistics_come_from_the_training_rows_and_leave_targets_alone(load, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,100\n3,300\n")
    (tmp_path / "b.csv").write_text("x,y\n5,500\n")
    found = load(
        "data={train: {csv: a.csv, target: y}, validation: {csv: b.csv, target: y}, standardize: on}"
    )
    assert found.train.x.tolist() == [[-1.0], [1.0]]
    assert found.validation.x.tolist() == [[3.0]]
    assert found.train.y.tolist() == [100.0, 300.0]
    assert (found.train.x.dtype, found.train.y.dtype) == (np.float32, np.float64)


def test_integers_stay_integers_unless_they_are_standardised(call):
    source = "def f(): return np.array([[1], [3]]), np.array([0, 1])"
    assert call(source).train.x.dtype == np.int64
    assert call(source, "data.standardize=true").train.x.tolist() == [[-1.0], [1.0]]


TABLE = "who,x,y\n" + "".join(f"p{i % 5},{i},{'ab'[i % 4 == 0]}\n" for i in range(40))
SPLIT = "data.validation={{fraction: 0.25, {}}}"


def test_the_same_share_of_each_class_is_held_back(load, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    found = load(
        "data.train={csv: t.csv, target: y, features: [x]}", SPLIT.format("stratify: true")
    )
    assert [int((part.y == 1).sum()) for part in (found.train, found.validation)] == [7, 3]
    assert [len(part) for part in (found.train, found.validation)] == [30, 10]


def test_the_rows_of_a_group_stay_together_and_the_group_is_no_input(load, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    found = load("data.train={csv: t.csv, target: y}", SPLIT.format("group: who"))
    groups = [
        set((np.asarray(part.x)[:, 0] % 5).tolist()) for part in (found.train, found.validation)
    ]
    assert groups[0] | groups[1] == set(range(5))
    assert not groups[0] & groups[1]
    assert (found.train.columns, len(groups[1])) == (("x",), 1)


def test_the_last_rows_are_held_back(load, tmp_path):
    (tmp_path / "t.csv").write_text(TABLE)
    found = load("data.train={csv: t.csv, target: y, features: [x]}", SPLIT.format("last: true"))
    assert np.asarray(found.validation.x)[:, 0].tolist() == list(range(30, 40))


@pytest.mark.parametrize(
    ("train", "way", "message"),
    [
        ("{csv: t.csv, target: y}", "group: whom", "t.csv:1: there is no column of groups 'whom'; did you mean 'who'?"),
        ("{csv: t.csv, target: y, features: [who]}", "group: who", "t.csv:1: who: the column tells the groups that validation holds back, and cannot be an input; leave it out of features"),
        ("{npz: t.npz}", "group: who", "data.validation.group: expected a column of a table, received 'who'; only csv, parquet and feather have columns"),
        ("{csv: one.csv, target: y}", "group: who", "data.validation.group: all rows have the value 'a', which cannot be parted"),
        ("{csv: one.csv, target: y}", "stratify: true", "data.validation.stratify: the class 2.0 has a single row, which cannot be on both sides"),
        ("{csv: one.csv, target: name, features: [x]}", "stratify: true", "data.validation.stratify: the class 'c' has a single row, which cannot be on both sides"),
        ("{npz: t.npz}", "stratify: true", "data.validation.stratify: expected classes as targets, received numbers that are not whole"),
        ("{npz: t.npz, y: x}", "stratify: true", "data.validation.stratify: expected one class a row, received targets of (2,)"),
        ("{csv: t.csv, target: y}", "stratify: true, last: true", "data.validation: expected one of stratify, group and last, received stratify and last"),
    ],
)  # fmt: skip
def test_what_cannot_be_split_so_is_told(load, tmp_path, train, way, message):
    (tmp_path / "t.csv").write_text(TABLE)
    (tmp_path / "one.csv").write_text("who,x,y,name\na,1,1,b\na,2,1,b\na,3,2,c\n")
    np.savez(tmp_path / "t.npz", x=X, y=Y + 0.5)
    with pytest.raises(InvalidError, match=re.escape(message)):
        load(f"data.train={train}", SPLIT.format(way))


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
    scaling = standardize.statistics(rows.Rows(x=x, y=x))[""]
    assert scaling.variance[:2].tolist() == [1.0, 1.0]
    assert (scaling.apply(x)[:, :2] == 0).all()


def test_a_large_offset_does_not_spoil_a_tiny_variance():
    x = np.float32(1e4) + np.float32(2**-10) * np.array([[0], [1], [2], [3]], dtype=np.float32)
    scaling = standardize.statistics(rows.Rows(x=x, y=x))[""]
    assert scaling.variance[0] == pytest.approx(1.25 * 2.0**-20, rel=1e-6)
    assert scaling.apply(x).std() == pytest.approx(1.0, rel=1e-6)


def test_statistics_are_taken_over_rows_and_positions():
    x = np.array([[[1.0, 0.0], [3.0, 4.0]], [[5.0, 0.0], [7.0, 4.0]]])
    scaling = standardize.statistics(rows.Rows(x=x, y=x))[""]
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
    scaling = standardize.statistics(rows.Rows(x=x, y=x))[""]
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


def test_a_column_beside_texts_that_cannot_be_standardised_is_called_by_its_name(load, tmp_path):
    (tmp_path / "a.csv").write_text("c,x,y\nred,1e-9,0\nblue,3e-9,1\n")
    with pytest.raises(InvalidError, match="column x varies too little"):
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
    found = numpy_files.read_npz(tmp_path / "a.npz", NpzSource(npz="a.npz"), name="a.npz")
    assert (found.x.dtype, found.y.dtype) == (np.float32, np.float32)
    assert found.y.tolist() == [1.0, 0.0]


# ------------------------------------------------------------------------------- callables


def problems(call, source, *assignments):
    with pytest.raises(InvalidError, match=r":f|config|c\.yaml|--set") as caught:
        call(source, *assignments)
    return [re.sub(r"rows_\d+:", "", str(problem)) for problem in caught.value.problems]


def shapes(tree):
    return {path: array.shape for path, array in rows.leaves(tree)}


@pytest.mark.parametrize(
    ("returned", "x", "y"),
    [
        ("X, Y", {"": (4, 2)}, {"": (4,)}),
        ("X.tolist(), Y.tolist()", {"": (4, 2)}, {"": (4,)}),
        ("Y, Y", {"": (4, 1)}, {"": (4,)}),
        ("X, X", {"": (4, 2)}, {"": (4, 2)}),
        ("X, X.tolist()", {"": (4, 2)}, {"": (4, 2)}),
        ("X, list(Y)", {"": (4, 2)}, {"": (4,)}),
        ("(X.tolist(), Y.tolist()), Y", {"0": (4, 2), "1": (4, 1)}, {"": (4,)}),
        ("[(X, Y), {'a': X}], Y", {"0/0": (4, 2), "0/1": (4, 1), "1/a": (4, 2)}, {"": (4,)}),
        ("{'a': X, 'b': Y}, Y", {"a": (4, 2), "b": (4, 1)}, {"": (4,)}),
        ("(X, Y), Y", {"0": (4, 2), "1": (4, 1)}, {"": (4,)}),
        ("[X, Y], Y", {"0": (4, 2), "1": (4, 1)}, {"": (4,)}),
        ("[X, X], Y", {"0": (4, 2), "1": (4, 2)}, {"": (4,)}),
        ("[X, X], {'p': Y}", {"0": (4, 2), "1": (4, 2)}, {"p": (4,)}),
        ("[X, X, X], (Y, X)", {"0": (4, 2), "1": (4, 2), "2": (4, 2)}, {"0": (4,), "1": (4, 2)}),
        ("X, [Y, X]", {"": (4, 2)}, {"0": (4,), "1": (4, 2)}),
        ("[X, X], [Y, Y]", {"0": (4, 2), "1": (4, 2)}, {"0": (4,), "1": (4,)}),
        ("{'a': (X, X)}, {'p': Y, 'q': Y}", {"a/0": (4, 2), "a/1": (4, 2)}, {"p": (4,), "q": (4,)}),
        ("X, tuple(Y)", {"": (4, 2)}, {"": (4,)}),
    ],
)  # fmt: skip
def test_a_callable_may_return_arrays_lists_dicts_and_tuples(call, returned, x, y):
    source = f"X = np.arange(8.0).reshape(4, 2)\nY = np.arange(4.0)\ndef f(): return {returned}"
    found = call(source).train
    assert (shapes(found.x), shapes(found.y), len(found)) == (x, y, 4)
    for _, array in rows.leaves((found.x, found.y)):
        assert np.isin(array, np.arange(8)).all()


BOTH = "expected it to return a tuple (x, y) or (x, y, sample_weight), a tf.data.Dataset, a keras.utils.PyDataset or a generator"


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("[X, Y]", f"f: {BOTH}, received list"),
        ("{'x': X, 'y': Y}", f"f: {BOTH}, received dict"),
        ("(X,)", f"f: {BOTH}, received a tuple of 1"),
        ("{'a': X, 'b': X[:2]}, Y", "f: expected as many targets as inputs, received 4 rows of x.a and 2 of x.b"),
        ("{'a': X, 'b': 1.0}, Y", "f: x.b: expected one row per sample, received a single number"),
        ("{}, Y", "f: x: expected an array of numbers, received dict"),
        ("X, {'p': Y, 'q': Y / 0}", "f: y.q: row 0 (from 0): expected a finite float32 number, received nan"),
        ("(X, {'a': X * 1e300}), Y", "f: x.1.a: row 0, column 1 (from 0): expected a finite float32 number, received 1e+300"),
        ("X, list(X)", "f: expected as many targets as inputs, received 4 rows of x and 2 of y.0; several arrays are several inputs or outputs: numpy.stack makes one of them"),
        ("X, Y, Y[:3] + 1", "f: expected as many targets as inputs, received 4 rows of x and 3 of sample_weight"),
        ("X, Y, {'p': Y}", "f: sample_weight: expected one weight a row for all outputs, received several; compile.loss_weights says how much each output counts"),
        ("X, Y, X", "f: sample_weight: expected one weight a row, received shape (4, 2)"),
        ("X, Y, Y - np.inf", "f: sample_weight: row 0 (from 0): expected a finite float32 number, received -inf"),
        ("X, [['a'], ['b'], ['a'], ['b']]", "f: y: expected an array of numbers, received dtype <U1"),
    ],
)  # fmt: skip
def test_each_array_that_does_not_fit_is_named_with_its_path(call, returned, message):
    source = f"X = np.arange(8.0).reshape(4, 2)\nY = np.arange(4.0)\ndef f():\n    with np.errstate(all='ignore'): return {returned}"
    assert problems(call, source) == [message]


def test_every_array_that_is_wrong_is_named_at_once(call):
    assert problems(call, "def f(): return {'a': np.zeros(1, 'M8[D]'), 'b': [np.nan]}, [1j]") == [
        "f: x.a: expected an array of numbers, received dtype datetime64[D]",
        "f: x.b: row 0, column 0 (from 0): expected a finite float32 number, received nan",
        "f: y: expected an array of numbers, received dtype complex128",
    ]


def test_numbers_of_another_byte_order_are_made_the_machines_own(call):
    found = call("def f(): return np.array([[1], [258]], '>i4'), np.array([1, 2], '>i8')").train
    assert found.x.dtype.isnative
    assert found.y.dtype.isnative
    assert found.x.tolist() == [[1], [258]]


# ------------------------------------------------------------------------------- text targets

TEXTS = "def f(count=4): return np.arange(8.0).reshape(4, 2)[:count], {}\n"


@pytest.mark.parametrize(
    "texts",
    [
        "np.array(['b', 'a', 'c', 'a'])[:count]",
        "['b', 'a', 'c', 'a'][:count]",
        "np.array(['b', 'a', 'c', 'a'], object)[:count]",
        "np.array([b'b', b'a', b'c', b'a'])[:count]",
    ],
)
def test_text_targets_become_indices_of_the_sorted_classes(call, texts):
    found = call(TEXTS.format(texts))
    assert (found.train.y.tolist(), found.train.y.dtype) == ([1, 0, 2, 0], np.int64)
    assert found.encoding.classes == {"y": ("a", "b", "c")}


@pytest.mark.parametrize("kind", ["", ", object"])
def test_bytes_among_the_targets_are_utf_8(call, kind):
    texts = f"np.array([each.encode() for each in ['ü', 'a', 'ü', '€']]{kind})[:count]"
    stratified = "data={train: {callable: 'm:f'}, validation: {fraction: 0.5, stratify: true}}"
    found = call(TEXTS.format(texts))
    assert found.train.y.tolist() == [1, 0, 1, 2]
    assert found.encoding.classes == {"y": ("a", "ü", "€")}
    (problem,) = problems(call, TEXTS.format(texts), stratified)
    assert problem.endswith("the class 'a' has a single row, which cannot be on both sides")
    (problem,) = problems(call, TEXTS.format(f"np.array([b'\\xff', b'a', b'b', b'c']{kind})"))
    assert problem.endswith(r"expected UTF-8 texts as targets, received b'\xff'")


def test_text_targets_of_one_of_several_outputs_are_told_by_its_name(call):
    source = "def f(): return [[1], [2]], {'kind': ['u', 'd'], 'price': [3.0, 4.0]}"
    found = call(source)
    assert (found.train.y["kind"].tolist(), found.train.y["price"].tolist()) == ([1, 0], [3, 4])
    assert found.encoding.classes == {"kind": ("d", "u")}


def test_classes_are_those_of_the_training_rows_and_others_are_named(call):
    source = TEXTS.format("np.array(['b', 'a', 'z', 'a'])[:count]")
    held = "data={train: {callable: 'm:f', kwargs: {count: 2}}, validation: {callable: 'm:f', kwargs: {count: %d}}}"
    assert call(source, held % 1).validation.y.tolist() == [1]
    (problem,) = problems(call, source, held % 4)
    assert problem.endswith(
        "data.validation: row 2 (from 0): the class 'z' is not in the training rows; "
        "drop the row, or train on such rows too"
    )
    for_seed = "data={train: {callable: 'm:f'}, validation: {fraction: 0.25}}"
    (problem,) = problems(call, TEXTS.format("['a', 'b', 'c', 'd']"), for_seed, "seed=3")
    assert problem.endswith(
        "is not in the training rows: the split of seed 3 has held back all that there are; "
        "merge or drop what is so rare, or give data.validation a source of its own"
    )


@pytest.mark.parametrize(
    ("train", "held", "message"),
    [
        ("['a', 'b']", "[0, 1]", "expected texts as targets like the training data, not numbers"),
        ("[0, 1]", "['a', 'b']", "expected numbers as targets like the training data, not texts"),
    ],
)
def test_targets_of_validation_rows_are_of_the_same_kind(call, train, held, message):
    source = f"def f(held=False): return [[1], [2]], ({held} if held else {train})"
    both = "data={train: {callable: 'm:f'}, validation: {callable: 'm:f', kwargs: {held: true}}}"
    (problem,) = problems(call, source, both)
    assert problem.endswith(f"data.validation: {message}")


# ------------------------------------------------------------------------------- sources mixed


@pytest.fixture
def files(tmp_path):
    """The same three rows in every kind of file."""
    (tmp_path / "t.csv").write_text("a,b,y\n0,1,0\n2,3,1\n4,5,2\n")
    np.savez(tmp_path / "t.npz", x=X, y=Y)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return {
        "csv": "{csv: t.csv, target: y}",
        "npz": "{npz: t.npz}",
        "npy": "{npy: x.npy, y: y.npy}",
    }


@pytest.mark.parametrize("held", ["csv", "npz", "npy"])
@pytest.mark.parametrize("train", ["csv", "npz", "npy"])
def test_validation_rows_may_come_from_another_kind_of_source(load, files, train, held):
    found = load(f"data={{train: {files[train]}, validation: {files[held]}, standardize: on}}")
    for one, other in zip(found.train.first(3), found.validation.first(3), strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.train.first(3)[0].mean() == pytest.approx(0, abs=1e-6)


def test_validation_rows_of_other_shapes_are_refused_whatever_they_come_from(load, files, tmp_path):
    np.savez(tmp_path / "t.npz", x=X[:, :1], y=np.stack([Y, Y], axis=1))
    with pytest.raises(InvalidError, match=r"expected inputs of shape \(2,\) .* received \(1,\)"):
        load(f"data={{train: {files['csv']}, validation: {files['npz']}}}")
    np.savez(tmp_path / "t.npz", x=X, y=np.stack([Y, Y], axis=1))
    with pytest.raises(InvalidError, match=r"expected targets of shape \(\) .* received \(2,\)"):
        load(f"data={{train: {files['csv']}, validation: {files['npz']}}}")


# ------------------------------------------------------------------------------- mapped files


def mapped(tmp_path, **arrays):
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    names = {"y": "y.npy"} | ({"sample_weight": "w.npy"} if "w" in arrays else {})
    folder = config.Config.model_construct(base=str(tmp_path))
    return numpy_files.read_npy(NpySource(npy="x.npy", **names), folder)


@pytest.mark.parametrize("dtype", ["f4", "f2", ">f8", "u1", "?", ">i4"])
def test_a_mapped_file_stays_mapped_and_gives_what_the_array_would(tmp_path, dtype):
    x = X.astype(dtype)
    found = mapped(tmp_path, x=x, y=Y, w=Y)
    assert found.lazy
    assert isinstance(found.x, np.memmap)
    assert found.x.filename is not None
    ready, targets, weights = found.batch(np.array([2, 0]))
    assert ready.tolist() == x[[2, 0]].astype(float).tolist()
    assert ready.dtype.isnative
    assert (targets.tolist(), weights.tolist()) == ([2, 0], [2, 0])


def test_a_mapped_vector_is_one_column(tmp_path):
    found = mapped(tmp_path, x=Y, y=Y)
    assert (found.lazy, found.x.shape) == (True, (3, 1))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x", b"a,b\n1,2\n", "x.npy: cannot be read as an .npy file"),
        ("x", b"", "x.npy: cannot be read as an .npy file"),
        ("y", b"\x93NUMPY\x01\x00", "y.npy: cannot be read as an .npy file"),
        ("y", saved(Y)[:-1], "y.npy: cannot be read as an .npy file"),
    ],
)
def test_what_is_no_npy_file_is_refused(tmp_path, name, content, message):
    mapped(tmp_path, x=X, y=Y)
    (tmp_path / f"{name}.npy").write_bytes(content)
    with pytest.raises(InvalidError, match=message.replace(".", r"\.")):
        numpy_files.read_npy(
            NpySource(npy="x.npy", y="y.npy"),
            config.Config.model_construct(base=str(tmp_path)),
        )


def test_an_archive_where_an_npy_file_is_expected_is_refused(tmp_path):
    mapped(tmp_path, x=X, y=Y)
    with (tmp_path / "x.npy").open("wb") as file:
        np.savez(file, x=X)
    with pytest.raises(InvalidError, match=r"x\.npy: expected an \.npy file, received an archive; name it \.npz; in a config, use npz: for archives"):  # fmt: skip
        numpy_files.read_npy(
            NpySource(npy="x.npy", y="y.npy"),
            config.Config.model_construct(base=str(tmp_path)),
        )


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.where(X == 3, np.nan, X), "y": Y}, r"x\.npy: x\.npy: row 1, column 1 \(from 0\): expected a finite"),
        ({"x": X, "y": Y[:2]}, r"received 3 rows of x\.npy and 2 of y\.npy"),
        ({"x": X, "y": Y, "w": -Y}, r"w\.npy: row 1 \(from 0\): expected a weight of at least 0"),
        ({"x": X.astype("M8[s]"), "y": Y}, r"x\.npy: expected an array of numbers, received dtype datetime64"),
    ],
)  # fmt: skip
def test_mapped_arrays_are_checked_like_others(tmp_path, arrays, message):
    with pytest.raises(InvalidError, match=message):
        mapped(tmp_path, **arrays)


@contextlib.contextmanager
def memory_limit(size):
    """While inside, the process gets no more than so many bytes of memory beyond what it has."""
    used = re.search(r"VmData:\s+(\d+) kB", pathlib.Path("/proc/self/status").read_text())
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (int(used[1]) * 1024 + size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit on data alone, without mappings")
def test_a_mapped_file_may_be_larger_than_memory(load, tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "PIECE_BYTES", 2**20)
    count, columns = 512, 2**15
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "f4", (count, columns)).flush()
    np.save(tmp_path / "y.npy", np.arange(count))
    with memory_limit(32 * 2**20):
        with pytest.raises(MemoryError):
            np.empty((count, columns), "f4").fill(1)
        found = load(
            "data={train: {npy: x.npy, y: y.npy}, validation: {fraction: 0.1}, standardize: on}"
        )
        assert sum(len(y) for _, y, _ in found.train.batches(32)) == len(found.train) == 461
    assert found.train.lazy
    assert found.validation.lazy


# ------------------------------------------------------------------------------- streams

GENERATOR = """
X = np.arange(20.0).reshape(10, 2)
def f(size=4, count=10):
    for start in range(0, count, size):
        chosen = slice(start, min(start + size, count))
        yield X[chosen], X[chosen, 0]
"""


def test_an_epoch_of_a_generator_is_kept(call):
    found = call(GENERATOR, "data.standardize=true")
    x, y, weight = found.train.first(10)
    assert x.mean() == pytest.approx(0, abs=1e-6)
    assert x.std(axis=0) == pytest.approx([1, 1])
    assert (y.tolist(), weight) == (list(range(0, 20, 2)), None)
    assert (found.live.batches, found.live.rows, found.live.continues) == (3, 10, False)


def test_the_same_rows_in_other_batches_are_another_stream_and_changed_ones_too(call):
    one, other = (call(GENERATOR, f"data.train.kwargs.size={size}") for size in (4, 5))
    assert one.fingerprint == other.fingerprint == call(GENERATOR).fingerprint
    assert call(GENERATOR, "data.train.kwargs.count=9").fingerprint != one.fingerprint


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("if False: yield", "f: expected at least one batch, received none"),
        ("yield None", "f: expected batches x, (x, y) or (x, y, sample_weight), received NoneType"),
        ("yield X, Y, Y, Y", "f: expected batches x, (x, y) or (x, y, sample_weight), received a tuple of 4"),
        ("yield X, Y; yield X[:, :1], Y", "f: expected batches alike, received x float64 (2,), y float64 () and then x float64 (1,), y float64 (); pad or convert them to one shape and type"),
        ("yield X, Y; yield X.astype('f4'), Y", "f: expected batches alike, received x float64 (2,), y float64 () and then x float32 (2,), y float64 (); pad or convert them to one shape and type"),
        ("yield {'a': X}, Y; yield {'b': X}, Y", "f: expected batches alike, received x.a float64 (2,), y float64 () and then x.b float64 (2,), y float64 (); pad or convert them to one shape and type"),
        ("yield X, Y; yield X, Y, Y + 1", "f: expected batches alike, received x float64 (2,), y float64 () and then x float64 (2,), y float64 (), sample_weight float64 (); pad or convert them to one shape and type"),
        ("yield X, Y; yield X[:0], Y[:0]", "f: x: expected at least one row, received shape (0, 2) (in the batch that begins at row 4)"),
        ("yield X, Y; yield X + np.nan, Y", "f: x: row 0, column 0 (from 0): expected a finite float32 number, received nan (in the batch that begins at row 4)"),
        ("yield X, ['a', 'b', 'a', 'b']", "f: expected class indices as targets, received texts; encode the classes as numbers from 0"),
        ("yield X[0], Y[0]", "f: y: expected one row per sample, received a single number (in the batch that begins at row 0)"),
        ("yield X, Y, 0 * Y; yield X, Y, 0 * Y", "f: sample_weight: expected weights above 0, received only zeros"),
    ],
)  # fmt: skip
def test_what_a_generator_should_not_yield_is_refused(call, body, message):
    source = f"X = np.arange(8.0).reshape(4, 2)\nY = np.arange(4.0)\ndef f():\n    {body}"
    found = problems(call, source)
    assert message in found
    assert all("y: " in each or each == message for each in found)


def test_a_batch_of_which_no_row_counts_is_no_fault_of_the_stream(call):
    found = call("def f():\n    yield [[1]], [1], [0]\n    yield [[2]], [2], [1]").train
    assert (found.weight.tolist(), len(found)) == ([0, 1], 2)


def test_a_generator_that_raises_midway_is_the_users_code_with_its_line(call):
    source = "def f():\n    yield [[1]], [1]\n    raise RuntimeError('no more')\n"
    with pytest.raises(UserCodeError, match=r"the generator rows_\d+:f raised RuntimeError: no more \(.*\.py:4, in f\)"):  # fmt: skip
        call(source)


def test_a_stream_cannot_be_split(call):
    (problem,) = problems(call, GENERATOR, "data.validation={fraction: 0.5}")
    assert problem.endswith("a stream of batches cannot be split; give data.validation a source of its own")  # fmt: skip


def test_a_stream_may_be_validated_on_arrays(call, tmp_path):
    np.savez(tmp_path / "v.npz", x=X, y=Y)
    found = call(GENERATOR, "data.validation={npz: v.npz}", "data.standardize=true")
    assert found.validation.x[:, 0].tolist() == pytest.approx(list((X[:, 0] - 9) / np.sqrt(33)))


DATASET = (
    "import tensorflow as tf\nX = np.arange(20.0).reshape(10, 2)\nY = X[:, 0]\ndef f(): return {}"
)


def dataset(elements, steps=".batch(4)"):
    return DATASET.format(f"tf.data.Dataset.from_tensor_slices({elements}){steps}")


@pytest.mark.parametrize(
    ("elements", "x", "y"),
    [
        ("(X, Y)", {"": (4, 2)}, {"": (10,)}),
        ("(Y, Y)", {"": (4, 1)}, {"": (10,)}),
        ("({'a': X, 'b': Y}, {'p': Y})", {"a": (4, 2), "b": (4, 1)}, {"p": (10,)}),
        ("((X, X), Y)", {"0": (4, 2), "1": (4, 2)}, {"": (10,)}),
    ],
)
def test_a_dataset_is_read_in_its_own_batches(call, elements, x, y):
    found = call(dataset(elements), "data.standardize=true")
    assert (shapes(found.train.first(4)[0]), shapes(found.train.y)) == (x, y)
    assert (len(found.train), found.num_rows, found.live.batches) == (10, 10, 3)


@pytest.mark.parametrize(
    "source",
    [
        dataset("X"),
        dataset("(X,)"),
        "X = np.arange(20.0).reshape(10, 2)\ndef f(): yield X[:6]; yield X[6:]",
        "X = np.arange(20.0).reshape(10, 2)\ndef f(): yield (X[:6],); yield (X[6:],)",
    ],
)
def test_batches_of_inputs_alone_have_no_targets(call, source):
    found = call(source)
    assert (shapes(found.train.x), rows.leaves(found.train.y)) == ({"": (10, 2)}, [])


def test_a_dataset_that_shuffles_has_the_fingerprint_of_its_rows(call):
    one = call(dataset("(X, Y)", ".shuffle(10).batch(4)")).fingerprint
    assert one == call(dataset("(X, Y)")).fingerprint
    assert one != call(dataset("(X, -Y)")).fingerprint


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (dataset("(X, Y)", ".batch(4).repeat()"), "f: the dataset of f has no end: its cardinality is infinite; write data.train.steps_per_epoch: N, where N is the number of batches of an epoch"),
        (dataset("(X, Y, Y, Y)"), "f: expected batches x, (x, y) or (x, y, sample_weight), received a tuple of 4"),
        (dataset("(X, Y)", ""), "f: y: expected one row per sample, received a single number (in the batch that begins at row 0)"),
        (dataset("(X, Y)", ".filter(lambda x, y: y < 0).batch(4)"), "f: expected at least one batch, received none"),
        (dataset("(X, Y.astype(str))"), "f: expected class indices as targets, received texts; encode the classes as numbers from 0"),
        (dataset("(X, Y)", ".map(lambda x, y: (x / y[..., None], y)).batch(4)"), "f: x: row 0, column 0 (from 0): expected a finite float32 number, received nan (in the batch that begins at row 0)"),
    ],
)  # fmt: skip
def test_what_a_dataset_should_not_be_is_refused(call, source, message):
    assert message in problems(call, source)
