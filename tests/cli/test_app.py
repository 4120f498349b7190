"""The command line: exit codes, the two streams, and what is left on disk."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import fastjsonschema
import numpy as np
import pytest

from orchestrator.cli import app
from orchestrator.cli.app import execute as orchestrate
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import JSON_SCHEMA
from orchestrator.record.storage import journal

Write = Callable[..., Path]
Capture = pytest.CaptureFixture[str]

DEAD = {
    "layers": [
        {"Dense": {"units": 3, "activation": "relu", "kernel_initializer": "zeros",
                   "bias_initializer": {"Constant": {"value": -1.0}}}},
        {"Dense": {"units": 1}},
    ]
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


IS_A_RECORD = fastjsonschema.compile(json.loads(JSON_SCHEMA.read_text()))


def run_directory(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "runs").iterdir()
    IS_A_RECORD(json.loads((found / "run.json").read_text()))
    return found


def test_a_run_that_passes(config_file: Write, tmp_path: Path, capsys: Capture) -> None:
    path = config_file(
        data={
            "train": {"callable": "rows:line", "kwargs": {"slope": 5.0}},
            "validation": {"fraction": 0.25},
            "standardize": True,
        },
        phases=[{"name": "main", "epochs": 2}],
    )
    assert orchestrate([str(path)]) == 0
    out, err = capsys.readouterr()
    directory = run_directory(tmp_path)

    # What the person sees.
    for text in ("Attempt 1 (seed 0)", "init ·", "main · 2 epochs · loss "):
        assert text in err
    for check in ("finite", "dead_neurons", "prediction_variance"):
        assert err.count(f"pass  {check}") == 2  # after init and after main
    for text in ("passed", "Validation: mean squared error", "the best constant has"):
        assert text in out
    assert f"Model: runs/{directory.name}/model.keras" in out

    # What is recorded.
    names = {path.name for path in directory.iterdir()} - {".lock"}
    expected = (
        "run.json config.yaml resolved.yaml environment.json journal.jsonl attempts model.keras"
    )
    assert names == set(expected.split())
    attempt = {path.name for path in (directory / "attempts" / "001").iterdir()}
    assert attempt == {"attempt.json", "epochs.csv", "checks", "checkpoint.keras", "log.txt"}
    record = json.loads((directory / "run.json").read_text())
    assert record == jsonable(journal.replay(journal.read(directory / "journal.jsonl")))
    assert (record["status"], record["accepted_attempt"], record["best_attempt"]) == (
        "passed",
        1,
        1,
    )

    # resolved.yaml runs as it is, and gives the same numbers.
    assert orchestrate([str(directory / "resolved.yaml"), "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    last, again = (run["attempts"][0]["phases"][-1] for run in (record, json.loads(out)))
    assert last["metrics"] == again["metrics"]

    # The model takes raw inputs in a program that never imports orchestrator.
    code = """
import sys, keras, numpy as np
sys.path.insert(0, sys.argv[2])
import rows
x, y = rows.line(slope=5.0)
model = keras.models.load_model(sys.argv[1])
print(float(np.mean((model.predict(x, verbose=0)[:, 0] - y) ** 2)))
assert "orchestrator" not in sys.modules
"""
    command = [sys.executable, "-c", code, str(directory / "model.keras"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (worth,) = (each for each in last["checks"] if each["check"] == "prediction_variance")
    measured = worth["measured"]
    reported = 0.75 * measured["outputs"][0]["loss"] + 0.25 * measured["validation"][0]["loss"]
    np.testing.assert_allclose(float(done.stdout.split()[-1]), reported, rtol=1e-5)


@pytest.mark.usefixtures("_in_this_process")
def test_a_run_that_is_repaired(config_file: Write, tmp_path: Path, capsys: Capture) -> None:
    """Rates so high that the only hidden layer dies at once; one rung caps them."""
    path = config_file(
        "def loud():\n    x, y = line(256)\n    return x, y + 100\n",
        data={"train": {"callable": "rows:loud"}},
        model={"layers": [{"Dense": {"units": 16, "activation": "relu"}}, {"Dense": {"units": 1}}]},
        compile={"optimizer": {"Adam": {"learning_rate": 30.0}}, "loss": "mse"},
        phases=[{"name": "main", "epochs": 20}],
        restart={"policy": [{"remedy": "lower_learning_rate", "factor": 0.01}]},
    )
    assert orchestrate([str(path), "--json"]) == 0
    out, err = capsys.readouterr()
    first, second = json.loads(out)["attempts"]
    assert first["failure"]["check"] == "dead_neurons"
    assert first["phases"][-1]["epochs"] < 20  # ended early
    assert second["remedy"] == "lower_learning_rate"
    assert second["settings"]["learning_rate_cap"] == pytest.approx(0.3)
    assert second["cause"] == first["failure"]
    checks = {each["check"]: each for each in second["phases"][-1]["checks"]}
    assert checks["prediction_variance"]["measured"]["outputs"][0]["skill"] > 0.5
    sentence = next(line for line in err.splitlines() if line.startswith("Attempt 1 failed"))
    assert first["failure"]["reason"] in sentence
    assert "restarting by lower_learning_rate with learning rate at most 0.3" in sentence


@pytest.mark.usefixtures("_in_this_process")
def test_a_run_in_which_no_attempt_passes(
    config_file: Write, tmp_path: Path, capsys: Capture
) -> None:
    path = config_file(model=DEAD, restart={"policy": [{"remedy": "new_seed"}]})
    assert orchestrate([str(path), "--runs-dir", "elsewhere"]) == 3
    out, err = capsys.readouterr()
    told = " ".join(out.partition("\nexhausted: ")[2].split())
    assert told.startswith(
        "layer dense is dead by its initialisation: its kernel is zero everywhere"
    )
    assert ". The policy has no rung left" in told
    assert "Attempt 1 failed dead_neurons after phase init" in err
    (directory,) = (tmp_path / "elsewhere").iterdir()
    assert not (directory / "model.keras").exists()
    assert len(list((directory / "attempts").iterdir())) == 2


def test_users_code_that_raises(config_file: Write, tmp_path: Path, capsys: Capture) -> None:
    code = "def broken():\n    raise ValueError('no rows today')\n"
    path = config_file(code, data={"train": {"callable": "rows:broken"}})
    assert orchestrate([str(path), "--json", "--quiet"]) == 4
    record = json.loads(capsys.readouterr().out)
    assert (record["status"], record["attempts"][0]["status"]) == ("error", "crashed")
    assert "ValueError: no rows today (" in record["attempts"][0]["failure"]["reason"]
    log = run_directory(tmp_path) / "attempts" / "001" / "log.txt"
    assert "Traceback" in log.read_text()

    assert orchestrate(["validate", str(path)]) == 4
    out, err = capsys.readouterr()
    assert "ValueError: no rows today" in err
    assert "Traceback" not in err + out


INVALID: list[tuple[dict[str, Any], str]] = [
    ({"model": {"layers": [{"Dens": {"units": 1}}]}}, "did you mean 'Dense'?"),
    ({"compile": {"loss": "msee"}}, "Keras has no loss 'msee'"),
    ({"data": {"train": {"callable": "rows:lines"}}}, "did you mean 'line'?"),
    ({"checks": {"metric": {"name": "acc", "min": 0.5}}}, "Keras logs no 'acc'"),
    ({"fit": {"callbacks": ["rows:stop"]}}, "rows has no 'stop'"),
]


@pytest.mark.usefixtures("_in_this_process")
@pytest.mark.parametrize(("changes", "message"), INVALID)
def test_what_only_keras_can_judge_is_invalid_and_writes_nothing(
    config_file: Write, tmp_path: Path, capsys: Capture, changes: dict[str, Any], message: str
) -> None:
    path = config_file(**changes)
    before = set(tmp_path.iterdir())
    assert orchestrate([str(path), "--json", "--quiet"]) == 2
    out, err = capsys.readouterr()
    record = json.loads(out)
    assert (record["schema"], record["status"], record["attempts"]) == (1, "invalid", [])
    (problem,) = record["problems"]
    assert message in f"{problem['message']}; {problem['hint']}"
    assert problem["file"] == str(path)
    assert problem["line"] > 1
    assert f"error: {path}:{problem['line']}: {problem['key']}: " in err
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "__pycache__"}


def test_a_folder_that_cannot_be_written_is_said(config_file: Write, capsys: Capture) -> None:
    path = config_file()
    assert orchestrate([str(path), "--runs-dir", str(path.parent / "rows.py" / "runs")]) == 2
    assert "rows.py/runs: no run can be written there: Not a directory" in capsys.readouterr().err


@pytest.mark.usefixtures("_in_this_process")
def test_validate_says_the_same_as_the_run(config_file: Write, capsys: Capture) -> None:
    path = config_file(model={"layers": [{"Dens": {"units": 1}}]})
    assert orchestrate(["validate", str(path)]) == 2
    assert "Keras has no layer 'Dens'; did you mean 'Dense'?" in capsys.readouterr().err


@pytest.mark.usefixtures("_in_this_process")
def test_validate_tells_what_it_found_and_writes_nothing(
    config_file: Write, tmp_path: Path, capsys: Capture
) -> None:
    path = config_file()
    assert orchestrate(["validate", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 17
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.yaml"], "missing.yaml: no such file"),
        (["valdate", "missing.yaml"], "did you mean the command 'validate'?"),
        (["run"], "Missing argument 'CONFIG'"),
        (["run", "a.yaml", "--sett", "x=1"], "--sett"),
        (["rnu"], "rnu: no such file; did you mean the command 'run'?"),
        (["histroy"], "histroy: no such file; did you mean the command 'history'?"),
        (["check.yaml"], "check.yaml: no such file; check the path"),
        (["x" * 300], "File name too long"),
        (["x" * 300, "--bogus"], "No such option '--bogus'"),
    ],
)
def test_usage_errors(arguments: list[str], message: str, capsys: Capture) -> None:
    assert orchestrate(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert orchestrate([*arguments, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["status"] == "invalid"


def test_all_problems_of_a_config_come_at_once(tmp_path: Path, capsys: Capture) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text("dat: {}\nmodel: {layers: []}\nphases: [{name: a, epochs: zero}]\n")
    assert orchestrate([str(path), "--set", "batch_size=0"]) == 2
    err = capsys.readouterr().err
    for text in ("bad.yaml:1: dat:", "bad.yaml:2: model.layers", "bad.yaml:3: phases.0.epochs"):
        assert text in err
    assert "--set batch_size=0" in err


@pytest.mark.parametrize("command", [[], *([name] for name in app.COMMANDS)])
def test_every_command_has_help(command: list[str], capsys: Capture) -> None:
    assert orchestrate([*command, "--help"]) == 0
    assert "Usage: orchestrate" in capsys.readouterr().out


@pytest.mark.parametrize("name", app.COMMANDS)
def test_the_list_of_commands_says_what_each_says(name: str) -> None:
    command = app.cli.get_command(click.Context(app.cli), name)
    assert command is not None
    assert command.name == name
    listed = click.Command(name, help=app.COMMANDS[name].help)
    assert command.get_short_help_str(limit=200) == listed.get_short_help_str(limit=200)


def test_the_list_of_commands_is_clicks_own(capsys: Capture) -> None:
    assert orchestrate(["--help"]) == 0
    shown = capsys.readouterr().out
    context = click.Context(app.cli, info_name="orchestrate", terminal_width=80)
    formatter = click.HelpFormatter(width=78)
    click.Group.format_commands(app.cli, context, formatter)
    assert formatter.getvalue() in shown


def test_options_may_come_before_the_config(config_file: Write, capsys: Capture) -> None:
    assert orchestrate(["--set", "epochs=3", str(config_file())]) == 2
    assert "unknown key 'epochs'" in capsys.readouterr().err


SLOW = """
import keras, time
def slow():
    class Slow(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            time.sleep(0.3)
    return Slow()
"""


def test_an_interrupted_run_keeps_what_it_has(config_file: Write, tmp_path: Path) -> None:
    phases = [{"name": "main", "epochs": 1000}]
    path = config_file(SLOW, fit={"callbacks": ["rows:slow"]}, phases=phases)
    command = [sys.executable, "-m", "orchestrator", str(path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while not list(tmp_path.glob("runs/*/attempts/001/epochs.csv")):
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert b"Traceback" not in err
    record = json.loads(out)
    assert (record["status"], record["attempts"][0]["status"]) == ("interrupted", "interrupted")
    assert "SIGINT" in record["conclusion"]
    directory = run_directory(tmp_path)
    assert json.loads((directory / "run.json").read_text()) == record
    assert record == jsonable(journal.replay(journal.read(directory / "journal.jsonl")))
    log = (directory / "attempts" / "001" / "log.txt").read_text()
    assert "Traceback" not in log


def test_an_interrupt_before_the_run_writes_nothing(config_file: Write, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "orchestrator", str(config_file())]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        os.read(process.stderr.fileno(), 10)  # importing TensorFlow, which takes long
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert b"stopped by SIGINT" in err
    assert not (tmp_path / "runs").exists()
