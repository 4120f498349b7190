"""A line of the policy: what all remedies have, whatever they change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict

from orchestrator.config.sections.base import Flag, PositiveInt, Section, Word, flag
from orchestrator.config.sections.when import When
from orchestrator.errors import short
from orchestrator.record.records import Attempt, Settings


def _flag_or_only(value: Any) -> Any:
    value = flag(value)
    if value != "only" and not isinstance(value, bool):
        raise ValueError(f"expected true, false or only, received {short(value)}")
    return value


class Rung(Section):
    """One line of the policy: a remedy, and when it is tried.

    Each remedy's `apply` returns the settings after it, the seed aside, or why it cannot be
    applied. It is given the settings to change, all attempts so far, of which the last one has
    failed, and the settings of the last attempt that this rung led to, None for none.
    """

    model_config = ConfigDict(json_schema_extra={"required": ["remedy"]})

    goes_on: ClassVar[bool] = False
    """Whether it goes on from where the failed attempt ended."""

    remedy: str
    """The remedy."""
    times: PositiveInt = 1
    """How often it may be used."""
    when: When | None = None
    """Failures that it answers; null means any but a certain finding before the training."""
    keep: Flag = False
    """Keep its change when the next attempt fails by the same check."""
    keep_seed: Flag = False
    """Do not draw a new seed for the next attempt."""
    raise_rate: Flag = False
    """Also take a rate at which most networks train, with momentum for SGD, where the attempt was
    slow at one far below it."""
    cap_rate: Flag = False
    """Also cap the rate near the usual one, where findings say that it is far above it, and let
    that cap fall to a tenth over the second half of each phase."""
    rewind: Annotated[
        bool | Literal["only"],
        BeforeValidator(_flag_or_only, json_schema_input_type=bool | Word | Literal["only"]),
    ] = False
    """Go on from the newest epoch at which the failed attempt was healthy, where there is one;
    `only` means that the line is left out where there is none."""

    def begin(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings:
        """The settings after `apply` of an attempt that trains from the beginning.

        One that goes on from a state of the failed attempt cannot have all that this may have.

        Args:
            settings: those that `apply` has made.
            attempts: all so far; the last one has failed.
            last: of the last attempt that this rung led to.
        """
        return settings


def obstacles(attempts: Sequence[Attempt]) -> dict[str, str]:
    """Remedies that the model cannot carry, as the first attempts found them.

    A model that a remedy has changed has nothing to say against that remedy any more.

    Args:
        attempts: all so far.
    """
    found: dict[str, str] = {}
    for attempt in attempts:
        found = {**attempt.obstacles, **found}
    return found
