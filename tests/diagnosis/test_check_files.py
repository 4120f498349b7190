"""`orchestrate check`: a model file and a data file, diagnosed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pyarrow
import pyarrow.feather
import pyarrow.parquet
import pytest
from rich.console import Console

from orchestrator.cli import app
from orchestrator.diagnosis import diagnose
from orchestrator.diagnosis.health import Examinee, Health
from orchestrator.display import results
from orchestrator.errors import InvalidError
from orchestrator.record.records import Inputs, Run
from orchestrator.record.storage.directory import Paths, write_json

layers = keras.layers
X = np.linspace(-2, 2, 50, dtype=np.float32).reshape(25, 2)
Y = X.sum(axis=1)

Check = Callable[..., Health]


@keras.saving.register_keras_serializable("test_check_files")
class Doubled(layers.Layer):
    """A layer of the user's own."""

    def call(self, x: Any) -> Any:
        return x * 2


def network(bias: float = 0.0) -> keras.Model:
    """A network that works, or with a negative bias one that is dead."""
    keras.utils.set_random_seed(0)
    first = layers.Dense(8, activation="relu", name="first", kernel_initializer="he_normal")
    second = layers.Dense(4, activation="relu", name="second", kernel_initializer="zeros")
    if not bias:
        second = layers.Dense(4, activation="leaky_relu", name="second")
    model = keras.Sequential([layers.Input((2,)), first, second, layers.Dense(1)])
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(0.05))
    if bias:
        second.bias.assign(np.full(4, bias))
    else:
        model.fit(X, Y, epochs=20, verbose=0)
    return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this module."""
    found = tmp_path_factory.mktemp("check")
    network().save(found / "well.keras")
    network(bias=-1.0).save(found / "sick.keras")
    own = keras.Sequential([layers.Input((2,)), Doubled(), layers.Dense(1)])
    own.save(found / "own.keras")
    (found / "text.keras").write_text("no model")
    np.savez(found / "rows.npz", x=X, y=Y)
    np.savez(found / "inputs.npz", x=X)
    np.savez(found / "wide.npz", x=np.ones((5, 3)), y=np.ones(5))
    np.savez(found / "pairs.npz", x=X, y=np.stack([Y, Y], axis=1))
    np.save(found / "x.npy", X)
    np.save(found / "y.npy", Y)
    header = "id;a;b;sum"
    np.savetxt(found / "rows.csv", np.c_[Y, X, Y], delimiter=";", header=header, comments="")
    columns = {"a": X[:, 0], "b": X[:, 1], "sum": Y}
    pyarrow.parquet.write_table(pyarrow.table(columns), found / "rows.parquet")
    pyarrow.feather.write_feather(pyarrow.table(columns), found / "rows.arrow")
    (found / "rows.txt").write_text((found / "rows.csv").read_text().replace(";", "\t"))
    np.savez(found / "lone.npz", x=3.0)
    np.save(found / "lone.npy", 3.0)
    (found / "archive.npy").write_bytes((found / "rows.npz").read_bytes())
    (found / "empty.npz").write_bytes(b"")
    (found / "hole.csv").write_text("a,b,sum\n1,2,3\n1,,3\n")
    return found


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Diagnose a model on rows, both named by their files."""
    monkeypatch.chdir(folder)

    def run(model: str, data: str, **options: Any) -> Health:
        return diagnose.check(Examinee(model=Path(model), data=Path(data), **options))

    return run


@pytest.mark.parametrize(
    ("data", "options"),
    [
        ("rows.npz", {}),
        ("rows.npz", {"target": "y"}),
        ("rows.parquet", {"target": "sum"}),
        ("rows.arrow", {"target": "sum"}),
        ("rows.csv", {"target": "sum", "features": ("a", "b"), "delimiter": ";"}),
        ("rows.txt", {"target": "sum", "features": ("a", "b"), "delimiter": r"\t"}),
        ("x.npy", {"target": "y.npy"}),
    ],
)
def test_rows_of_every_kind_of_file(check: Check, data: str, options: dict[str, Any]) -> None:
    health = check("well.keras", data, **options)
    assert [(layer.name, layer.units) for layer in health.layers] == [("first", 8), ("second", 4)]
    assert health.rows == 25
    assert health.outputs[0].skill == pytest.approx(1.0, abs=0.2)
    assert health.failure is None


@pytest.mark.parametrize("data", ["inputs.npz", "x.npy"])
def test_without_targets_the_units_are_judged(check: Check, data: str) -> None:
    health = check("well.keras", data)
    assert len(health.layers) == 2
    assert health.outputs[0].skill is None
    assert health.verdicts["prediction_variance"].reason == "the predictions differ between rows"
    assert health.verdicts["learned"].reason == "there are no targets"


def test_a_dead_model_is_explained(check: Check) -> None:
    health = check("sick.keras", "rows.npz", gradients=True)
    assert health.failure is not None
    assert health.failure.check == "dead_neurons"
    assert health.layers[1].dead.tolist() == [0, 1, 2, 3]
    blocked = health.layers[0].blocked
    assert blocked is not None
    assert set(blocked) == set(np.flatnonzero(health.layers[0].active_rows))
    (sentence,) = health.summary()
    assert sentence.startswith("Every unit of second is dead: its gradient is zero for every row")
    printed = io.StringIO()
    Console(file=printed, width=80).print(results.describe_health(health))
    assert "on 0 an output responds to the inputs" in printed.getvalue()
    assert max(map(len, printed.getvalue().splitlines())) <= 80


def test_a_table_without_its_target_has_one_input_too_many(check: Check) -> None:
    with pytest.raises(InvalidError, match=r"rows\.parquet: the model does not take inputs of shape \(3,\): .*axis -1"):  # fmt: skip  # noqa: E501
        check("well.keras", "rows.parquet")


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        ("text.keras", "rows.npz", {}, "text.keras: expected a .keras file, received another kind"),
        ("hole.csv", "rows.npz", {}, "hole.csv: expected a .keras file, received another kind"),
        ("well.keras", "wide.npz", {}, "wide.npz: the model does not take inputs of shape (3,)"),
        ("well.keras", "pairs.npz", {}, "pairs.npz: the output has shape (1,) a row, the targets"),
        ("well.keras", "rows.npz", {"target": "z"}, "rows.npz: z: there is no array 'z'"),
        ("well.keras", "rows.npz", {"features": ("a",)}, "--features: only a table has columns"),
        (
            "well.keras",
            "well.keras",
            {},
            "expected a file .npz, .npy, .csv, .tsv, .txt, .parquet, .pq, .feather",
        ),
        ("well.keras", "rows.csv", {"delimiter": ";;"}, "--delimiter: expected one character, rec"),
        ("well.keras", "rows.csv", {"delimiter": ""}, "received ''; write \\t for a tab"),
        ("well.keras", "empty.npz", {}, "empty.npz: expected an .npz archive, received another"),
        ("well.keras", "lone.npz", {}, "lone.npz: x: expected one row per sample, received a sin"),
        ("well.keras", "lone.npy", {}, "expected one row per sample, received a single number"),
        ("well.keras", "archive.npy", {}, "expected an .npy file, received an archive; name it"),
        ("well.keras", "hole.csv", {"target": "sum"}, "hole.csv:3: b: row 2: expected a number"),
    ],
)
def test_what_is_at_fault_is_named(
    check: Check, model: str, data: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        check(model, data, **options)
    assert message in str(caught.value.problems[0])


def test_a_class_of_the_users_own_comes_from_its_module(check: Check, folder: Path) -> None:
    name = keras.saving.get_registered_name(Doubled)
    objects = keras.saving.get_custom_objects()
    del objects[name]
    try:
        with pytest.raises(InvalidError) as caught:
            check("own.keras", "rows.npz")
        (problem,) = caught.value.problems
        assert "own.keras: the file needs your own class Doubled" in str(problem)
        assert "--module my_layers" in str(problem)
    finally:
        objects[name] = Doubled
    assert check("own.keras", "rows.npz").layers == ()


def test_the_command_prints_a_document_and_ends_with_3(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert app.execute(["check", "sick.keras", "--data", "rows.npz", "--json", "--quiet"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["schema"], found["rows"]) == ("failed", 1, 25)
    assert found["layers"][1]["dead"] == [0, 1, 2, 3]
    verdicts = [each["verdict"] for each in found["verdicts"]]
    assert verdicts == ["pass", "pass", "fail", "fail", "not_applicable"]


def test_files_that_are_not_there_are_a_mistake_of_usage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert app.execute(["check", "none.keras", "--data", "none.npz"]) == 2
    assert "'none.npz' does not exist" in capsys.readouterr().err


def test_a_record_holds_plain_values_only(check: Check) -> None:
    record = check("well.keras", "rows.npz").record()
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("targets", [{}, {"y": Y}, {"y": Y, "sample_weight": Y}])
@pytest.mark.parametrize("names", [("a", "b"), ("x", "z")])
def test_an_archive_has_an_array_for_each_input(
    tmp_path: Path, targets: dict[str, Any], names: tuple[str, str]
) -> None:
    inputs = [keras.Input((1,), name=name) for name in names]
    hidden = layers.Dense(3, activation="relu")(layers.Concatenate()(inputs))
    keras.Model(inputs, layers.Dense(1)(hidden)).save(tmp_path / "two.keras")
    arrays = dict(zip(names, (X[:, :1], X[:, 1:]), strict=True))
    np.savez(tmp_path / "two.npz", **arrays, **targets)
    found = diagnose.check(Examinee(model=tmp_path / "two.keras", data=tmp_path / "two.npz"))
    assert [layer.units for layer in found.layers] == [3]
    assert [each.varies for each in found.outputs] == [True if targets else None]


def test_a_named_input_that_is_one_number_is_told(tmp_path: Path) -> None:
    inputs = [keras.Input((1,), name=name) for name in "ab"]
    keras.Model(inputs, layers.Dense(1)(layers.Add()(inputs))).save(tmp_path / "two.keras")
    np.savez(tmp_path / "two.npz", a=3.0, b=X[:, :1])
    with pytest.raises(InvalidError) as caught:
        diagnose.check(Examinee(model=tmp_path / "two.keras", data=tmp_path / "two.npz"))
    (problem,) = caught.value.problems
    assert problem.message == "expected one row per sample, received a single number"


def test_an_only_input_may_have_any_name(tmp_path: Path) -> None:
    inputs = keras.Input((2,), name="features")
    keras.Model(inputs, layers.Dense(1)(inputs)).save(tmp_path / "one.keras")
    np.savez(tmp_path / "one.npz", features=X, y=Y)
    found = diagnose.check(Examinee(model=tmp_path / "one.keras", data=tmp_path / "one.npz"))
    assert [each.varies for each in found.outputs] == [True]


KINDS = ("a", "b", "c")


def save_run(root: Path, inputs: Inputs) -> Path:
    """A run whose model names each kind by the label of the same place; its model."""
    kernel = np.concatenate([np.zeros((1, 3)), 5 * np.eye(3)])
    model = keras.Sequential([layers.Input((4,)), layers.Dense(3, activation="softmax")])
    model.layers[0].set_weights([kernel, np.zeros(3)])
    model.compile(loss="sparse_categorical_crossentropy")
    paths = Paths(root)
    attempt = paths.attempt(1)
    attempt.root.mkdir(parents=True)
    for path in (paths.model, attempt.checkpoint, root.parent / "elsewhere.keras"):
        model.save(path)
    write_json(paths.record, Run(run=root.name, status="passed", inputs=inputs))
    return paths.model


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of a run, with rows beside it that have two of its three kinds and labels."""
    runs = tmp_path_factory.mktemp("runs")
    categories = {"kind": KINDS, "label": ("large", "medium", "small")}
    pairs = (("b", "medium"), ("c", "small"))
    rows = (f"{kind},{n},{n},{label}" for kind, label in pairs for n in range(20))
    text = "\n".join(["kind,id,n,label", *rows])
    (runs / "rows.csv").write_text(text)
    (runs / "named.csv").write_text(text.replace("label", "size"))
    (runs / "numbers.csv").write_text(text.replace("medium", "1").replace("small", "2"))
    (runs / "other.csv").write_text(text + "\nz,3,4,small")
    np.savez(runs / "rows.npz", x=np.eye(4)[[2, 3] * 20], y=np.array(["medium", "small"] * 20))
    return save_run(runs / "r", Inputs(columns=("n", "kind"), categories=categories))


@pytest.mark.parametrize(
    ("data", "target"), [("rows.csv", "label"), ("named.csv", "size"), ("rows.npz", None)]
)
@pytest.mark.parametrize("model", ["model.keras", "attempts/001/checkpoint.keras"])
def test_texts_become_the_numbers_that_the_run_has_recorded(
    run: Path, model: str, data: str, target: str | None
) -> None:
    path = run.parents[1] / data
    health = diagnose.check(Examinee(model=run.parent / model, data=path, target=target))
    assert health.outputs[0].skill == pytest.approx(1, abs=0.1)
    assert health.notes == ()
    assert "wrong_labels" not in {finding.cause for finding in health.findings}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("other.csv", "kind: row 41: 'z' is not in the training rows, which have 'a', 'b', 'c'"),
        ("numbers.csv", "label: row 1: '1' is not in the training rows, which have 'large', 'med"),
    ],
)
def test_texts_that_the_run_has_not_seen_are_refused(run: Path, data: str, message: str) -> None:
    with pytest.raises(InvalidError) as caught:
        diagnose.check(Examinee(model=run, data=run.parents[1] / data, target="label"))
    assert message in str(caught.value.problems[0])


def test_where_no_run_is_recorded_the_order_that_was_assumed_is_told(run: Path) -> None:
    model, rows = run.parents[1] / "elsewhere.keras", run.parents[1] / "rows.npz"
    health = diagnose.check(Examinee(model=model, data=rows))
    assert health.outputs[0].skill is not None
    assert health.outputs[0].skill < 0
    assert health.summary()[-1].startswith(
        "No record of a run beside the model says how texts became numbers: those of the targets"
    )
