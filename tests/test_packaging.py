"""What an installation gets: which Pythons, which packages, pinned for all of them alike."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = ["3.11", "3.12", "3.13"]
LOCKS = ["requirements.lock", "tests/requirements.lock"]


def pins(lock: str) -> dict[str, str]:
    """Version of each package in a lock."""
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+) \\$", (ROOT / lock).read_text(), re.M))


def test_all_places_name_the_same_pythons() -> None:
    asked = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}" for minor in range(30) if f"3.{minor}.7" in asked] == PYTHONS
    prefix = "Programming Language :: Python :: "
    assert [f"{prefix}{each}" for each in PYTHONS] == [
        each for each in PROJECT["classifiers"] if each.startswith(prefix)
    ]
    assert f"Python {', '.join(PYTHONS[:-1])} or {PYTHONS[-1]}" in (ROOT / "README.md").read_text()
    assert all(each in (ROOT / ".ci" / "run").read_text() for each in PYTHONS)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_is_pins_and_hashes_and_nothing_else(lock: str) -> None:
    # A line with an index or a folder would be that of whoever made the lock.
    text = (ROOT / lock).read_text()
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    hashed = re.compile(r"[a-z0-9-]+==\S+ \\|    --hash=sha256:[0-9a-f]{64}( \\)?")
    assert [line for line in lines if not hashed.fullmatch(line)] == []
    assert "//" not in text
    assert "# WARNING" not in text


def test_the_lock_has_what_the_project_asks_for() -> None:
    locked = pins("requirements.lock")
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert locked[requirement.name] in requirement.specifier
    # pip installs it into the environments of Python 3.11 only, and with hashes takes no package
    # that is not pinned.
    assert "setuptools" in locked


def test_what_may_be_installed_is_no_newer_than_what_is_tested() -> None:
    # Private parts of Keras are used, and its traces of TensorFlow's operations are read.
    locked = pins("requirements.lock")
    bounds = {each.name: each.specifier for each in map(Requirement, PROJECT["dependencies"])}
    for name in ("keras", "tensorflow"):
        major, minor, _ = locked[name].split(".")
        assert f"{major}.{int(minor) + 1}.0" not in bounds[name]
        assert f"{major}.{minor}.99" in bounds[name]


def test_the_tests_run_with_what_is_locked() -> None:
    assert pins("requirements.lock").items() < pins("tests/requirements.lock").items()
