"""The order of the folders: imports go one way, and only some bring TensorFlow in."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.arrows import FLOORS, imports, modules, upward

TENSORFLOW = (
    "model.",
    "diagnosis.tracing.",
    "diagnosis.causes.",
    "diagnosis.diagnose",
    "diagnosis.examine",
    "diagnosis.watch.gradients",
    "diagnosis.watch.layers",
    "diagnosis.watch.signals",
    "data.streams.batches",
    "data.streams.feed",
    "data.streams.kinds.dataset",
    "data.streams.kinds.py_dataset",
    "data.streams.pipeline",
    "training.attempt.",
    "training.retrain",
    "keras",
)
"""Where tensorflow and keras may be imported."""


def test_every_module_is_in_a_folder() -> None:
    assert {module.split(".")[0] for module in modules()} == set(FLOORS)


def test_imports_go_down() -> None:
    assert upward() == []


def test_only_these_import_tensorflow() -> None:
    users = {
        module
        for module, path in modules().items()
        if {name.split(".")[0] for name in imports(path)} & {"tensorflow", "keras"}
    }
    assert {module for module in users if not module.startswith(TENSORFLOW)} == set()


def test_only_the_search_imports_kerastuner() -> None:
    users = {
        module
        for module, path in modules().items()
        if "keras_tuner" in {name.split(".")[0] for name in imports(path)}
    }
    # and the workers whose model takes its hyperparameters
    assert users == {"tuning.trials.oracle", "model.hyperparameters"}
    assert not modules_after("import orchestrator.tuning.launch") & {"keras_tuner", "tensorflow"}


def test_one_module_knows_which_executors_there_are() -> None:
    executors = {"fork_server", "in_process"}
    knowing = {
        module
        for module, path in modules().items()
        if executors & {part for name in imports(path) for part in name.split(".")}
    }
    assert knowing == {"training.executors.choice"}


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded in a fresh interpreter after some code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_supervisor_never_loads_tensorflow() -> None:
    assert not modules_after("import orchestrator.training.launch") & {"tensorflow", "keras"}


def test_tables_are_read_without_pandas(tmp_path: Path) -> None:
    """It takes longer to import than what is needed to read."""
    (tmp_path / "t.csv").write_text("a,b,y\n1,u,2\n3,v,4\n")
    config = {
        "data": {"train": {"csv": "t.csv", "target": "y"}},
        "model": {"layers": [{"Dense": {"units": 1}}]},
        "compile": {"loss": "mse"},
        "phases": [{"name": "main", "epochs": 1}],
    }
    path = tmp_path / "t.yaml"
    path.write_text(json.dumps(config))
    code = (
        "from orchestrator.config.load import load; from orchestrator.data.load import read; "
        f"assert len(read(load({str(path)!r}), 'train')) == 2"
    )
    assert "pandas" not in modules_after(code)


def test_help_schema_and_config_errors_load_neither_tensorflow_nor_numpy(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("phases: 3\n")
    for arguments in (
        ["--help"],
        ["schema"],
        [str(bad)],
        ["validate", str(bad)],
        ["tune", str(bad)],
    ):
        loaded = modules_after(f"import orchestrator.cli.app as c; c.execute({arguments!r})")
        assert not loaded & {"tensorflow", "keras", "numpy", "rich"}


def test_help_loads_no_command() -> None:
    code = (
        "import orchestrator.cli.app as c; c.execute(['--help']); import sys; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {name for name in loaded if name.startswith("orchestrator.cli.")} == {
        "orchestrator.cli.app",
        "orchestrator.cli.options",
    }
    assert not loaded & {"pydantic", "yaml"}


def test_history_loads_little(tmp_path: Path) -> None:
    """Ten thousand runs are listed in the time that rich's tables take to import."""
    code = "import orchestrator.cli.app as c; assert c.execute(['history']) == 0; print()"
    assert not modules_after(code) & {"numpy", "pydantic", "yaml", "filelock"}
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print('rich.console' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "False"


def test_the_package_lists_what_it_has() -> None:
    import orchestrator

    assert orchestrator.__all__ == sorted(orchestrator.__all__)
    for name in orchestrator.__all__:
        assert getattr(orchestrator, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'orchestrator' has no attribute 'runs'"):
        _ = orchestrator.runs
