"""What a line of the policy answers: checks, kinds of failure, and causes that findings name."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Discriminator, Field

from orchestrator.config.sections.base import CauseName, Flag, PositiveInt, Section, known
from orchestrator.record import checks
from orchestrator.record.records import Cause, FailureKind

_KINDS: tuple[str, ...] = typing.get_args(FailureKind)
_CAUSES: tuple[str, ...] = typing.get_args(Cause)

_Check = Annotated[str, known(*checks.NAMES), Field(json_schema_extra={"enum": [*checks.NAMES]})]
_Kind = Annotated[FailureKind, known(*_KINDS)]
_Name = Annotated[_Check | FailureKind | Cause, known(*checks.NAMES, *_KINDS, *_CAUSES)]


class All(Section):
    """A failure to which every key applies; of a list, any of its names."""

    check: Annotated[list[_Check], Field(min_length=1)] | None = None
    """Checks, one of which the attempt failed by."""
    kind: Annotated[list[_Kind], Field(min_length=1)] | None = None
    """Kinds of failure."""
    cause: Annotated[list[CauseName], Field(min_length=1)] | None = None
    """Causes, one of which a finding names."""
    certain: Flag = False
    """Such a finding is certain: no training could succeed."""
    count: PositiveInt = 1
    """How many such failures the run has had, this one included; with `cause` or `certain`, how
    many such findings."""

    @pydantic.model_serializer(mode="wrap")
    def _write(self, handler: pydantic.SerializerFunctionWrapHandler) -> Any:
        """Only what is asked for."""
        return {key: value for key, value in handler(self).items() if key in self._asked()}

    def _asked(self) -> set[str]:
        fields = type(self).model_fields
        return {key for key in fields if getattr(self, key) != fields[key].default}


def _shape(value: Any) -> str:
    return "<all>" if isinstance(value, Mapping | All) else "<any>"


When = Annotated[
    Annotated[list[_Name], Field(min_length=1), pydantic.Tag("<any>")]
    | Annotated[All, pydantic.Tag("<all>")],
    Discriminator(_shape),
]
"""Names, any of which applies to the failure; or `{check, kind, cause, …}`, all of which do."""
