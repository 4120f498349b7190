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

from orchestrator import config, data, rows, schema
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
