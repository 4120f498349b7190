"""The layers of the package: imports go one way, and only training brings TensorFlow in."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "orchestrator"

LAYERS = (
    {"errors", "records", "events", "given", "texts"},
    {"document", "schema", "messages", "config", "editors"},
    {"files", "parsing", "journal", "paths", "store", "environment", "tasks"},
    {"archive", "outlines", "briefs", "index", "history", "query", "trash"},
    {"remedies", "evidence", "policy", "measures", "verdicts", "health"},
    {"rows", "batches", "tables", "usercode", "data"},
    {"objects", "layers", "leaky", "initialization", "outputs", "models", "saving"},
    {"activations", "graphs", "listener", "patterns", "tracing", "probes", "scores", "diagnosis"},
    {"faults", "findings", "screening"},
    {"rates", "weights", "feeds", "preparation", "training", "checkup", "workers", "local"},
    {"loop", "interrupts"},
    {"widths", "charts", "summary", "scene", "block", "live", "view"},
    {"listing", "overview", "portrait", "comparison", "logs", "fidelity"},
    {"launcher", "replay", "retraining", "inspecting", "discarding", "cli", "__init__", "__main__"},
)
"""Design, section 8. A module imports from its own layer and from those above it in this list."""

TENSORFLOW = {
    "batches", "objects", "layers", "leaky", "initialization", "outputs", "models", "saving",
    "activations", "graphs", "listener", "patterns", "tracing", "probes", "diagnosis", "faults",
    "findings", "screening",
    "rates", "feeds", "preparation", "training", "retraining",
}  # fmt: skip
"""The only modules that import tensorflow or keras."""


def imports(module: str) -> set[str]:
    """Dotted names that the module imports anywhere, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def siblings(module: str) -> set[str]:
    parts = (name.split(".") for name in imports(module) if name.startswith("orchestrator."))
    return {name[1] for name in parts if (PACKAGE / f"{name[1]}.py").exists()}


def test_every_module_has_a_layer() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == set().union(*LAYERS)


@pytest.mark.parametrize("module", sorted(set().union(*LAYERS)))
def test_imports_go_down(module: str) -> None:
    rank = next(index for index, layer in enumerate(LAYERS) if module in layer)
    allowed = set().union(*LAYERS[: rank + 1])
    if module in ("workers", "local"):
        allowed |= {"preparation", "training", "checkup"}  # inside the worker process
    assert siblings(module) <= allowed


def test_there_is_no_cycle() -> None:
    graph = {module: siblings(module) for module in set().union(*LAYERS) - {"__init__"}}
    done: set[str] = set()
    while ready := {module for module in graph.keys() - done if graph[module] - {module} <= done}:
        done |= ready
    assert done == graph.keys()


def test_only_training_imports_tensorflow() -> None:
    heavy = ("tensorflow", "keras")
    users = {
        module
        for module in set().union(*LAYERS)
        if any(name.split(".")[0] in heavy for name in imports(module))
    }
    assert users == TENSORFLOW


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded in a fresh interpreter after some code."""
    code += "; import sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split())


def test_supervisor_never_loads_tensorflow() -> None:
    assert not modules_after("import orchestrator.training.launch") & {"tensorflow", "keras"}


def test_help_schema_and_config_errors_load_neither_tensorflow_nor_numpy(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("phases: 3\n")
    for arguments in (["--help"], ["schema"], [str(bad)], ["validate", str(bad)]):
        loaded = modules_after(f"import orchestrator.cli.app as c; c._run({arguments!r})")
        assert not loaded & {"tensorflow", "keras", "numpy", "rich"}
