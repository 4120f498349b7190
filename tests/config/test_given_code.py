"""Digests of code that is written to a module, imported anew or by another process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from orchestrator.config.given_code import digest

CODE = """
import functools
import math
import numpy
import helper

WIDTHS = [4, 8]
SCALES = numpy.array([1.0, 2.0])
KINDS = {"relu", "tanh", "elu"}

class Base:
    scale = 2

    def width(self):
        return self.scale * WIDTHS[0]

class Model(Base):
    def __init__(self, tune=True):
        self.tune = tune

    def build(self, hp):
        return [self.width() for _ in range(3)]

def layer(units=3):
    return units * math.pi * SCALES

def maker(depth):
    def build(hp):
        return [layer() for _ in range(depth)] + [helper.last(), "selu" in {"elu", "selu"}, KINDS]
    return build

def again(hp):
    return again(hp) if hp else layer()

GIVEN = [maker(2), functools.partial(again, hp=1), Model(), lambda hp: len(WIDTHS)]
"""


def imported(
    folder: Path, code: str = CODE, helper: str = "def last():\n    return 1\n"
) -> ModuleType:
    """The module as a script that runs."""
    (folder / "helper.py").write_text(helper)
    sys.modules.pop("helper", None)
    module = ModuleType("__main__")
    exec(compile(code, "script", "exec"), module.__dict__)
    return module


@pytest.fixture
def _on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.usefixtures("_on_path")
@pytest.mark.parametrize(
    ("before", "after", "changed"),
    [
        ("\n", "\n# a comment\n\n", []),
        ("depth):\n", "depth):\n    'What it builds.'\n", []),
        ("math.pi", "math.tau", [0, 1]),
        ("units=3", "units=4", [0, 1]),
        ("[1.0, 2.0]", "[1.0, 3.0]", [0, 1]),
        ("maker(2)", "maker(3)", [0]),
        ("[4, 8]", "[4, 9]", [2, 3]),
        ('"selu" in', '"relu" in', [0]),
        ("scale = 2", "scale = 3", [2]),
        ("tune=True", "tune=False", [2]),
        ("range(3)", "range(4)", [2]),
        ("hp=1", "hp=0", [1]),
        ('"tanh", ', "", [0]),
    ],
)
def test_what_code_does_is_digested_and_not_how_it_is_written(
    tmp_path: Path, before: str, after: str, changed: list[int]
) -> None:
    old = [digest(each) for each in imported(tmp_path).GIVEN]
    new = [digest(each) for each in imported(tmp_path, CODE.replace(before, after)).GIVEN]
    assert len({*old}) == 4
    assert [index for index in range(4) if old[index] != new[index]] == changed


@pytest.mark.usefixtures("_on_path")
def test_a_module_of_the_users_counts_by_what_is_in_it(tmp_path: Path) -> None:
    old = digest(imported(tmp_path).GIVEN[0])
    assert digest(imported(tmp_path, helper="def last():\n    return 2\n").GIVEN[0]) != old


@pytest.mark.usefixtures("_on_path")
def test_another_process_finds_the_same(tmp_path: Path) -> None:
    """Its hashes of texts are others, and so the order of sets."""
    here = [digest(each) for each in imported(tmp_path).GIVEN]
    script = tmp_path / "script.py"
    script.write_text(
        f"from orchestrator.config.given_code import digest\n{CODE}\nprint(*map(digest, GIVEN))"
    )
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == here
