"""Which runs are wanted, and in what order."""

from __future__ import annotations

import dataclasses
import fnmatch
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta

from orchestrator.errors import InvalidError, Problem, suggestion
from orchestrator.history.briefs import NUMBERS, TEXTS, Brief
from orchestrator.history.find import FoundSearch

NEWEST_FIRST = "-started"
"""The order where none is asked for."""

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_CONDITION = re.compile(r"\s*(.+?)\s*(<=|>=|!=|==|<|>|=)\s*(\S+)\s*")
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """A bound on a number of a run."""

    name: str
    """A metric, or one of `briefs.NUMBERS`."""
    operator: str
    """`<`, `<=`, `>`, `>=`, `=`, `==` or `!=`."""
    bound: float
    """What to compare with."""

    def holds(self, brief: Brief) -> bool:
        """Whether a run has the number, and it is so."""
        value = number(brief, self.name)
        return value is not None and _OPERATORS[self.operator](value, self.bound)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """Which runs are wanted: those that meet every condition."""

    statuses: Sequence[str] = ()
    """Any of these; empty for all."""
    name: str | None = None
    """Part of the run's name, or a pattern with `*` and `?` for the whole of it."""
    checks: Sequence[str] = ()
    """Checks that an attempt failed, each of them."""
    since: datetime | None = None
    """The earliest start."""
    where: Sequence[Condition] = ()
    """Bounds on numbers, each of them."""
    sort: str = NEWEST_FIRST
    """What to sort by; a minus in front for the greatest first."""
    limit: int | None = None
    """How many at most."""


def select(briefs: Iterable[Brief], query: Query) -> tuple[Brief, ...]:
    """The runs that are wanted, in the order that is wanted.

    Args:
        briefs: all runs.
        query: what is asked for.

    Raises:
        InvalidError: no run has a number that is asked for.
    """
    known = list(briefs)
    key = query.sort.removeprefix("-")
    for option, name in [
        *(("--where", condition.name) for condition in query.where),
        *([] if key in TEXTS else [("--sort", key)]),
    ]:
        _expect(option, name, known, (*TEXTS, *NUMBERS) if option == "--sort" else NUMBERS)
    found = [brief for brief in known if _is_wanted(brief, query)]
    return tuple(_sorted(found, key, descending=query.sort != key)[: query.limit])


def select_searches(found: Iterable[FoundSearch], query: Query) -> tuple[FoundSearch, ...]:
    """The searches that are wanted, newest first; with a bound or a check, which runs have, none.

    Args:
        found: all searches, newest first.
        query: what is asked for.
    """
    if query.where or query.checks:
        return ()
    wanted = [
        each
        for each in found
        if (not query.statuses or each.search.status in query.statuses)
        and (query.name is None or _is_named(each.directory, each.search.name, query.name))
        and (query.since is None or _is_since(each.search.started, query.since))
    ]
    return tuple(wanted[: query.limit])


def condition(text: str) -> Condition:
    """Read a bound such as `val_loss<20`.

    Raises:
        InvalidError: it is none.
    """
    match = _CONDITION.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        name, sign, bound = match.groups()
        return Condition(name, sign, float(bound))
    except ValueError:
        message = f"expected a name, one of {' '.join(_OPERATORS)} and a number, received {text!r}"
        hint = "write it as in 'val_loss<20'; quotes keep the shell from taking the sign"
        raise InvalidError([Problem(file="--where", message=message, hint=hint)]) from None


def moment(text: str, now: datetime) -> datetime:
    """Read a time such as `2d`, `2026-11-23` or `2026-11-23T10:00`.

    Args:
        text: how long ago, or a date, or a date and a time; local where it has no zone.
        now: the clock.

    Raises:
        InvalidError: it is none.
    """
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            return now - timedelta(**{_UNITS[ago[2]]: float(ago[1])})
        return datetime.fromisoformat(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        message = f"expected a time, received {text!r}"
        hint = "write it as 30m, 12h, 2d, 1w, 2026-11-23 or 2026-11-23T10:00"
        raise InvalidError([Problem(file="--since", message=message, hint=hint)]) from None


def number(brief: Brief, name: str) -> float | None:
    """A number of a run; None where it has none of that name."""
    if name in NUMBERS:
        found: float | None = getattr(brief, name)
        return found
    return brief.metrics.get(name)


def _expect(option: str, name: str, briefs: Sequence[Brief], fixed: Sequence[str]) -> None:
    """Refuse a name that is neither a field nor a metric of any run."""
    if name in fixed or not briefs or any(name in brief.metrics for brief in briefs):
        return
    metrics = dict.fromkeys(metric for brief in briefs for metric in brief.metrics)
    message = f"no run has a number {name!r}"
    hint = suggestion(name, [*fixed, *metrics])
    raise InvalidError([Problem(file=option, message=message, hint=hint)])


def _is_wanted(brief: Brief, query: Query) -> bool:
    return (
        (not query.statuses or brief.status in query.statuses)
        and (query.name is None or _is_named(brief.run, brief.name, query.name))
        and all(check in brief.failed for check in query.checks)
        and (query.since is None or _is_since(brief.started, query.since))
        and all(condition.holds(brief) for condition in query.where)
    )


def _is_named(directory: str, config: str, pattern: str) -> bool:
    if any(character in pattern for character in "*?"):
        pattern = pattern.replace("[", "[[]")  # brackets are letters here, not a pattern
        return any(fnmatch.fnmatchcase(name, pattern) for name in (directory, config))
    return pattern in directory


def _is_since(started: str | None, since: datetime) -> bool:
    try:
        return datetime.fromisoformat(started or "").astimezone(UTC) >= since
    except (ValueError, OverflowError):
        return False


def _sorted(briefs: list[Brief], key: str, *, descending: bool) -> list[Brief]:
    """Sorted by a text or a number; runs without it come last either way."""
    briefs = sorted(briefs, key=lambda brief: (brief.started or "", brief.run), reverse=True)
    if key in TEXTS:
        return sorted(briefs, key=lambda brief: getattr(brief, key) or "", reverse=descending)
    rated = [(number(brief, key), brief) for brief in briefs]
    known = [(value, brief) for value, brief in rated if value is not None and value == value]
    known.sort(key=lambda pair: pair[0], reverse=descending)
    missing = [brief for value, brief in rated if value is None or value != value]
    return [brief for _, brief in known] + missing
