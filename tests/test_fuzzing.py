"""Broken and hostile files are read, or refused in a sentence; `benchmarks/fuzz.py` tries more."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests import fuzzing
from tests.fuzzing import Broken, Reader

MANY = settings(
    max_examples=250,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
RUN = "exhausted-20261126-143228-25b3"


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    yield Reader(tmp_path_factory.mktemp("fuzzing"))
    assert not Path(fuzzing.CANARY).exists()


@MANY
@given(content=fuzzing.config_files())
def test_a_broken_config_is_read_or_refused(reader: Reader, content: bytes) -> None:
    reader.read_config(content)


@MANY
@given(broken=fuzzing.records())
def test_a_broken_record_is_read_or_refused(reader: Reader, broken: Broken) -> None:
    reader.read_record(broken)


def recorded(file: str, **values: object) -> Broken:
    """A recorded file with other values at its top."""
    content = json.loads(fuzzing.known_records()[RUN, file])
    return Broken(RUN, file, json.dumps({**content, **values}).encode())


@pytest.mark.parametrize(
    "broken",
    [
        # msgspec raises UnicodeEncodeError for a lone surrogate where no text is expected.
        recorded("run.json", seconds="\ud800"),
        recorded("run.json", status="\ud800"),
        # A number of thousands of digits was told whole.
        Broken(RUN, "run.json", b'{"schema": ' + b"1" * 4000 + b"}"),
        # So was a text where one of a few words is expected.
        recorded("run.json", status="x" * 5000),
        # What had been recorded of the rows was no mapping, and `compare` raised TypeError.
        Broken(RUN, "resolved.yaml", b"data: text\n"),
    ],
    ids=["surrogate", "status", "digits", "word", "data"],
)
def test_what_fuzzing_has_found_in_records(reader: Reader, broken: Broken) -> None:
    for _ in range(4):  # every fourth is shown
        reader.read_record(broken)


def test_no_more_problems_are_told_than_somebody_reads(reader: Reader) -> None:
    unknown = "".join(f"x{number}: 1\n" for number in range(3000))
    reader.read_config(unknown.encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("metrics: [mae]", "metrics: LONG"),
        ("name: main", "name: LONG"),
        ("loss: mse", "loss: LONG"),
        ("units: 16", "LONG: 16"),
        ("target: body_mass_g", "LONG: body_mass_g"),
        ("[species, island", "[LONG, LONG, island"),
        ("loss: mse", "loss: {LONG: 1}"),
        ("batch_size:", "checks: {metric: {name: loss, max: 1, phases: [LONG]}}\nbatch_size:"),
        ("name: main", "name: LONG, epochs: 1}\nchecks: {metric: {name: loss, phases: [x]}"),
        ("batch_size:", "restart: {policy: [LONG]}\nbatch_size:"),
        ("batch_size:", "restart: {policy: [{remedy: LONG}]}\nbatch_size:"),
    ],
)
def test_a_text_without_an_end_is_not_told_whole(reader: Reader, old: str, new: str) -> None:
    content = (fuzzing.CONFIGS / "columns.yaml").read_text()
    reader.read_config(content.replace(old, new.replace("LONG", "x" * 5000)).encode())
