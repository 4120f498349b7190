"""Another backend of Keras than TensorFlow is refused, wherever it is named."""

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.config.backend import check_backend
from orchestrator.errors import InvalidError

REFUSED = "expected tensorflow, in whose graphs networks are watched, received 'jax'; "


@pytest.fixture(autouse=True)
def _keras_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))


def refused() -> str:
    with pytest.raises(InvalidError, match="expected tensorflow") as caught:
        check_backend()
    return str(caught.value)


@pytest.mark.parametrize("text", [None, "{}", '{"backend": "tensorflow"}', "no JSON", "[]"])
@pytest.mark.parametrize("named", [None, "", "tensorflow"])
def test_tensorflow_is_the_default(
    text: str | None, named: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if text is not None:
        (tmp_path / "keras.json").write_text(text)
    if named is not None:
        monkeypatch.setenv("KERAS_BACKEND", named)
    check_backend()


def test_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert refused() == f"KERAS_BACKEND: {REFUSED}set it to tensorflow"


def test_the_file_unless_the_variable_goes_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert refused() == (
        f"{tmp_path}/keras.json: backend: {REFUSED}"
        "change it, or set KERAS_BACKEND=tensorflow, which goes before it"
    )
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    check_backend()


def test_what_runs_already_whatever_is_set_since(monkeypatch: pytest.MonkeyPatch) -> None:
    config = types.SimpleNamespace(backend=lambda: "jax")
    monkeypatch.setitem(sys.modules, "keras", types.SimpleNamespace(config=config))
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert refused() == (
        f"keras.config.backend(): {REFUSED}set KERAS_BACKEND=tensorflow before Keras is imported"
    )


def with_jax(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What a program does where KERAS_BACKEND is jax."""
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_commands_that_need_a_model_refuse_it(config_file: Callable[..., Path]) -> None:
    done = with_jax("-m", "orchestrator", "validate", str(config_file()))
    assert done.returncode == 2
    assert done.stderr.endswith(f"error: KERAS_BACKEND: {REFUSED}set it to tensorflow\n")


def test_commands_that_need_none_do_not_care(tmp_path: Path) -> None:
    done = with_jax("-m", "orchestrator", "history", "--runs-dir", str(tmp_path / "runs"))
    assert (done.returncode, "KERAS_BACKEND" in done.stderr) == (0, False)


@pytest.mark.parametrize("call", ["diagnose(None, [])", "retrain(None, [], phases=[])"])
def test_functions_refuse_it_before_they_import_keras(call: str) -> None:
    done = with_jax("-c", f"import orchestrator; orchestrator.{call}")
    assert done.stderr.splitlines()[-1] == (
        f"orchestrator.errors.InvalidError: KERAS_BACKEND: {REFUSED}set it to tensorflow"
    )
