"""Configs, models and rows that several tests use."""

import tempfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import load as configs
from orchestrator.config import yaml12
from orchestrator.config.schema import Config
from orchestrator.training.executors import choice
from orchestrator.training.executors.in_process import InProcess
from tests import builders

LINE_CODE = """
import numpy as np

def line(count=64, columns=2, slope=1.0):
    x = np.random.default_rng(0).normal(size=(count, columns))
    return x, slope * x.sum(axis=1)

def signs(count=64):
    x, y = line(count)
    return x, (y > 0).astype("int64")
"""
"""A module of the user's with rows that any small network learns."""

LINE: dict[str, Any] = {
    "data": {"train": {"callable": "rows:line"}},
    "model": {
        "layers": [{"Dense": {"units": 4, "activation": "relu"}}, {"Dense": {"units": 1}}],
    },
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": "mse"},
    "phases": [{"name": "main", "epochs": 1}],
}
"""A config that needs nothing but `rows.py`."""


def recorded_run(folder: Path, name: str, config: Mapping[str, Any], *, exit_code: int = 0) -> Path:
    """The directory of a run that is made of a config, beside the module `rows`."""
    (folder / "rows.py").write_text(LINE_CODE)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    command = [str(folder / f"{name}.yaml"), "--runs-dir", str(folder / "runs"), "--quiet"]
    assert orchestrate(command) == exit_code
    (directory,) = (folder / "runs").glob(f"{name}-*")
    return directory


MakeConfig = Callable[..., Config]


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The sections with some of them changed; None takes one out."""
    return {key: value for key, value in {**base, **changes}.items() if value is not None}


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--eightieth`: a Python that is not the main one gets a part of the tests."""
    parser.addoption(
        "--eightieth",
        type=int,
        choices=range(40),
        help="run an eightieth of the tests: those whose name has a checksum that leaves this",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the other seventy-nine eightieths.

    The checksum is of the name alone, so that every worker of pytest-xdist, every machine and
    every run come to the same tests.
    """
    rest = config.getoption("eightieth")
    if rest is None:
        return
    parts: dict[bool, list[pytest.Item]] = {True: [], False: []}
    for item in items:
        parts[zlib.crc32(item.nodeid.encode()) % 80 == rest].append(item)
    config.hook.pytest_deselected(items=parts[False])
    items[:] = parts[True]


@pytest.fixture
def memory_path() -> Iterator[Path]:
    """A folder in memory, for run directories: every event that is recorded is synced."""
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:
        yield Path(folder).resolve()


@pytest.fixture
def runs(memory_path: Path) -> Path:
    """A folder of runs, in memory."""
    return memory_path / "runs"


@pytest.fixture(scope="module")
def _module_in_this_process() -> Iterator[None]:
    """Train in this process what the tests of a module train, see `_in_this_process`."""
    with pytest.MonkeyPatch.context() as patch:
        _stay(patch)
        yield


@pytest.fixture
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train in this process: TensorFlow warms up once, which is most of what a small run takes.

    The kills, the main job and the tests of executors have processes of their own.
    """
    _stay(monkeypatch)


def _stay(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(choice, "choose_executor", lambda stop, local=None: InProcess(stop.check))
    patch.setattr(choice, "start_early", lambda: None)


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[..., Path]:
    """Write `LINE`, with top-level keys changed, to a file beside the module `rows`."""

    def write(code: str = "", /, **changes: Any) -> Path:
        (tmp_path / "rows.py").write_text(LINE_CODE + code)
        path = tmp_path / "config.yaml"
        path.write_text(yaml12.dump(merged(LINE, changes)))
        return path

    return write


@pytest.fixture
def make_config(config_file: Callable[..., Path]) -> MakeConfig:
    """The same, loaded."""

    def load(code: str = "", /, **changes: Any) -> Config:
        return configs.load(config_file(code, **changes))

    return load


@pytest.fixture(autouse=True)
def _fresh_user_modules() -> Any:
    """Each test has a `rows` module of its own, and none of a fixture that several share."""
    import sys

    before = list(sys.path)
    sys.modules.pop("rows", None)
    yield
    sys.path[:] = before
    sys.modules.pop("rows", None)
