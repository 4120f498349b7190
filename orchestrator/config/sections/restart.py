"""What to do when an attempt fails: how often, and by which policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import pydantic
from pydantic import BeforeValidator, Discriminator, Field

from orchestrator.config.sections.base import Flag, PositiveFloat, PositiveInt, Section
from orchestrator.config.sections.default_policy import DEFAULT_POLICY
from orchestrator.config.sections.remedies import (
    EXPECTED,
    AnyRemedy,
    AnyRung,
    RemedyName,
    rung_by_name,
    rung_tag,
)
from orchestrator.config.sections.when import All, When
from orchestrator.config.yaml12 import Key


class Case(Section):
    """Several lines of the policy for one way to fail.

    Of the cases that match, the first alone answers, and nothing below it does. Cases share their
    uses: a remedy that one has used counts in all.
    """

    when: When | None = None
    """Failures that it answers; null means any."""
    rungs: list[AnyRung]
    """What is tried, in order; with none, no remedy can help, and the run ends."""


def _entry_tag(value: Any) -> str | None:
    case = "rungs" in value if isinstance(value, Mapping) else isinstance(value, Case)
    return "<case>" if case else rung_tag(value)


_Tagged = Annotated[
    AnyRemedy | Annotated[Case, pydantic.Tag("<case>")],
    Discriminator(
        _entry_tag,
        custom_error_type="rung",
        custom_error_message=f"{EXPECTED}, or {{when: …, rungs: […]}}",
    ),
]
Entry = Annotated[
    _Tagged, BeforeValidator(rung_by_name, json_schema_input_type=_Tagged | RemedyName)
]
"""A line of the policy: a remedy, or a case with several."""


def _default(value: Any) -> Any:
    return DEFAULT_POLICY if value is None else value


class Restart(Section):
    """What to do when an attempt fails."""

    max_attempts: PositiveInt = 8
    """Attempts in all, the first one included."""
    max_seconds: PositiveFloat | None = None
    """No attempt is started after this time; null means no limit."""
    screen_seeds: Annotated[int, Field(ge=0)] = 64
    """Up to so many candidate seeds are looked at before an attempt, and the first is taken whose
    untrained network is not dead; 0 and 1 take the first as it is."""
    rewind: Flag = True
    """Whether rungs that say so go on from a state of the failed attempt; else all train from the
    beginning."""
    race: Flag = True
    """Whether, after a failure that has cost more than a quarter of a training, several rungs and
    seeds are tried for a twentieth of the epochs each, and the best goes on."""
    policy: Annotated[
        list[Entry], BeforeValidator(_default, json_schema_input_type=list[Entry] | None)
    ] = Field(default=None, validate_default=True)
    """What is tried, in order; null means the default policy, which follows the evidence."""

    def may_rewind(self) -> bool:
        """Whether an attempt may go on from a healthy epoch of another."""
        return self.rewind and any(rung.rewind for _, rung in self.rungs())

    def may_go_on(self) -> bool:
        """Whether an attempt may go on from where another has ended."""
        return self.rewind and any(rung.goes_on for _, rung in self.rungs())

    def answered(self) -> frozenset[str]:
        """Kinds of failure and causes that a line of the policy names and has a remedy for."""
        entries = [each for each in self.policy if not isinstance(each, Case) or each.rungs]
        found: set[str] = set()
        for when in [entry.when for entry in entries] + [rung.when for _, rung in self.rungs()]:
            if isinstance(when, All):
                found.update(when.kind or (), when.cause or ())
            else:
                found.update(when or ())
        return frozenset(found)

    def rungs(self) -> Iterator[tuple[Key, AnyRemedy]]:
        """Every rung with its key in the config, such as `restart`, `policy`, 3, `rungs`, 0."""
        for index, entry in enumerate(self.policy):
            key: Key = ("restart", "policy", index)
            if isinstance(entry, Case):
                for place, rung in enumerate(entry.rungs):
                    yield (*key, "rungs", place), rung
            else:
                yield key, entry
