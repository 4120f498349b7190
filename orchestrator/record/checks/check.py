"""What all checks have in common."""

from __future__ import annotations

from typing import Literal, Self

from orchestrator.record.encoding import Record

Verdict = Literal["pass", "warn", "fail", "not_applicable"]
Kind = Literal["regression", "classification"]

Form = Literal["regression", "binary", "categorical", "sparse"]
"""How targets and predictions of an output are written: binary is one probability a column,
categorical one column a class, sparse a class index."""


class Check(Record, tag_field="check"):
    """One check's verdict after one phase."""

    verdict: Verdict
    """The verdict."""
    reason: str
    """One clause for people: what was measured, where, against which limit."""

    @property
    def check(self) -> str:
        """Its name, which is also that of its section in the config."""
        return str(self.__struct_config__.tag)

    def without_units(self) -> Self:
        """As `run.json` has it: without the lists with an entry for each unit."""
        return self

    def reading(self) -> str:
        """What was measured, in one clause for tables; the reason, where that says it best."""
        return self.reason

    def bounds(self) -> str:
        """What is allowed, in one clause for tables; empty where there are no limits."""
        return ""


class NoLimits(Record):
    """A check without limits."""


def is_below(value: float | None, limit: float | None) -> bool:
    """Whether a value was measured and does not reach its limit; NaN reaches none."""
    return value is not None and limit is not None and not value >= limit
