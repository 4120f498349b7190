"""Finders: functions that yield what they find of a subject; here they are asked one by one."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from orchestrator.record.records import Finding

S = TypeVar("S")


def ask(finders: Sequence[Callable[[S], Iterable[Finding]]], subject: S) -> list[Finding]:
    """All that is found; a finder that raises is left out, for no attempt fails by that.

    Args:
        finders: in the order of asking.
        subject: what each is a function of.
    """
    found: list[Finding] = []
    for finder in finders:
        try:
            found += finder(subject)
        except Exception:  # noqa: BLE001 - a finding that is missing is no reason to fail
            traceback.print_exc()
    return found
