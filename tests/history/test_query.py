"""Which runs are wanted, and in what order."""

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import InvalidError
from orchestrator.history import query
from orchestrator.history.briefs import Brief
from orchestrator.history.query import Condition, Query
from tests.builders import LAW

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def brief(name: str, **changes: Any) -> Brief:
    facts: dict[str, Any] = {
        "run": f"{name}-20261123-101010-abcd", "name": name, "status": "passed",
        "started": "2026-11-23T10:10:10+00:00", "attempts": 1, "failures": (), "remedy": None,
        "skill": 0.5, "metrics": {"val_loss": 10.0}, "seconds": 5.0, "screened_seeds": 0,
    }  # fmt: skip
    facts |= changes
    return Brief(**{"failed": facts["failures"], **facts})


DIED = brief(
    "airfoil", status="exhausted", attempts=8, failures=("dead_neurons", "finite"), skill=None,
    metrics={}, started="2026-11-20T08:00:00+00:00",
)  # fmt: skip
REPAIRED = brief(
    "airfoil-wide", attempts=2, failures=("dead_neurons",), skill=0.9, metrics={"val_loss": 30.0}
)
HEALTHY = brief("mnist", started="2026-11-24T11:30:00+00:00", metrics={"loss": 0.1})
LOST = brief("zoo", skill=math.nan, metrics={"val_loss": math.nan}, started=None)
ALL = (DIED, REPAIRED, HEALTHY, LOST)


def test_a_bracket_is_a_letter_like_any_other() -> None:
    found = brief("[red]x")
    for name in ("[red]x", "[red]", "[r?d]x"):
        assert query.select([found, DIED], Query(name=name)) == (found,)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (Query(), (HEALTHY, REPAIRED, DIED, LOST)),
        (Query(statuses=("exhausted",)), (DIED,)),
        (Query(statuses=("exhausted", "running")), (DIED,)),
        (Query(name="airfoil"), (REPAIRED, DIED)),
        (Query(name="airfoil-w?de"), (REPAIRED,)),
        (Query(name="*-abcd"), (HEALTHY, REPAIRED, DIED, LOST)),
        (Query(name="a*l"), (DIED,)),
        (Query(name="[a]*"), ()),
        (Query(checks=("dead_neurons",)), (REPAIRED, DIED)),
        (Query(checks=("dead_neurons", "finite")), (DIED,)),
        (Query(since=datetime(2026, 11, 23, tzinfo=UTC)), (HEALTHY, REPAIRED)),
        (Query(where=(Condition("val_loss", "<", 20.0),)), ()),
        (Query(where=(Condition("val_loss", ">=", 30.0),)), (REPAIRED,)),
        (Query(where=(Condition("attempts", ">", 1), Condition("skill", ">", 0))), (REPAIRED,)),
        (Query(where=(Condition("attempts", "!=", 1),)), (REPAIRED, DIED)),
        (Query(sort="skill"), (HEALTHY, REPAIRED, DIED, LOST)),
        (Query(sort="-skill"), (REPAIRED, HEALTHY, DIED, LOST)),
        (Query(sort="val_loss"), (REPAIRED, HEALTHY, DIED, LOST)),
        (Query(sort="run"), (DIED, REPAIRED, HEALTHY, LOST)),
        (Query(sort="-name"), (LOST, HEALTHY, REPAIRED, DIED)),
        (Query(sort="started"), (LOST, DIED, REPAIRED, HEALTHY)),
        (Query(limit=2), (HEALTHY, REPAIRED)),
    ],
)
def test_what_is_asked_for_is_found(asked: Query, found: tuple[Brief, ...]) -> None:
    assert [each.run for each in query.select(ALL, asked)] == [each.run for each in found]


def test_a_number_that_no_run_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidError, match="--where: no run has a number 'valloss'; did you mean"):
        query.select(ALL, Query(where=(Condition("valloss", "<", 1.0),)))
    with pytest.raises(InvalidError, match="--sort: .*attempts, loss, name, run, screened_seeds"):
        query.select(ALL, Query(sort="-xyz"))
    assert query.select((), Query(sort="xyz")) == ()


@LAW
@given(st.text("abc_./ ", min_size=1).filter(str.strip), st.sampled_from(sorted(query._OPERATORS)),
       st.floats(allow_nan=False))  # fmt: skip
def test_a_bound_is_read_as_it_is_written(name: str, sign: str, bound: float) -> None:
    assert query.condition(f"{name}{sign}{bound}") == Condition(name.strip(), sign, bound)
    assert query.condition(f" {name} {sign}  {bound} ") == Condition(name.strip(), sign, bound)


@pytest.mark.parametrize("text", ["", "val_loss", "val_loss<", "<3", "val_loss<x", "val_loss<1 2"])
def test_a_bound_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match=r"expected a name, one of .*; write it as in"):
        query.condition(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", datetime(2026, 11, 24, 11, 30, tzinfo=UTC)),
        ("1.5h", datetime(2026, 11, 24, 10, 30, tzinfo=UTC)),
        (" 2 d ", datetime(2026, 11, 22, 12, 0, tzinfo=UTC)),
        ("1w", datetime(2026, 11, 17, 12, 0, tzinfo=UTC)),
        ("2026-11-23T10:00:00+02:00", datetime(2026, 11, 23, 8, 0, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23).astimezone(UTC)),
    ],
)
def test_a_time_is_read_as_people_write_it(text: str, moment: datetime) -> None:
    assert query.moment(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "99999999999w", "2026-13-01"])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="--since: expected a time, received .*; write it as"):
        query.moment(text, NOW)
