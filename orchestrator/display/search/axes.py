"""Axes of the picture of a search: where a value stands, and which marks the axis has. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

_TICKS = 4
"""About so many marks an axis has."""
_LOG_SPAN = 20.0
"""Positive scores whose greatest is more than so many times the least get a logarithmic axis."""
_MARGIN = 0.06
"""Share of an axis that stays free at both ends."""


@dataclasses.dataclass(frozen=True, slots=True)
class Axis:
    """An axis from 0 to 1."""

    place: Callable[[Any], float]
    """Where a value stands."""
    ticks: tuple[tuple[float, str], ...]
    """The marks: where, and what is written there."""
    slot: float = 0.0
    """Width that each choice has for itself; 0 where values have an order."""


def of_choices(choices: Sequence[Any]) -> Axis:
    """Choices side by side, each in a slot of its own."""
    known = {_key(choice): label(choice) for choice in choices}
    slot = 1 / max(len(known), 1)
    places = {key: (index + 0.5) * slot for index, key in enumerate(known)}
    ticks = tuple(zip(places.values(), known.values(), strict=True))
    return Axis(lambda value: places[_key(value)], ticks, slot)


def of_numbers(values: Sequence[float], *, log: bool) -> Axis:
    """Numbers from the least to the greatest, with some room at both ends.

    Args:
        values: all that is to be shown, finite; positive where it is logarithmic.
        log: whether equal factors are to be equally wide.
    """
    scale: Callable[[float], float] = math.log10 if log else float
    low, high = min(values), max(values)
    if low == high:
        low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
    start, width = scale(low), scale(high) - scale(low)

    def place(value: Any) -> float:
        return _MARGIN + (1 - 2 * _MARGIN) * (scale(value) - start) / width

    marks = _log_ticks(low, high) if log else _ticks(low, high)
    return Axis(place, tuple((place(mark), label(mark)) for mark in marks))


def of_scores(scores: Sequence[float]) -> Axis:
    """Scores, on a logarithmic axis where they are far apart."""
    low, high = min(scores), max(scores)
    return of_numbers(scores, log=low > 0 and high > _LOG_SPAN * low)


def label(value: Any) -> str:
    """A value as an axis, a table or a sentence has it: a remedy goes by its name."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(label, value))
    if isinstance(value, dict):
        # What a remedy has none of, or by default, says nothing.
        rest = {key: each for key, each in value.items() if key != "remedy"}
        told = [
            f"{key} {label(each)}"
            for key, each in rest.items()
            if "remedy" not in value or not (each in (None, False) or (key, each) == ("times", 1))
        ]
        if "remedy" not in value:
            return ", ".join(told)
        return f"{value['remedy']} ({', '.join(told)})" if told else str(value["remedy"])
    return "none" if value is None else str(value)


def _key(value: Any) -> str:
    """Choices may be lists, which are no keys; and True is not 1 here."""
    return f"{type(value).__name__} {value!r}" if isinstance(value, bool) else repr(value)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two numbers: steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / _TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between two positive numbers; 2 and 5 times them too where these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1,), (1, 3), (1, 2, 5)):
        each = -(-(last - first) // (2 * _TICKS)) if factors == (1,) else 1
        marks = [
            factor * 10.0**power for power in range(first, last + 1, each) for factor in factors
        ]
        shown = [mark for mark in marks if low * (1 - 1e-9) <= mark <= high * (1 + 1e-9)]
        if len(shown) >= 3:
            return shown
    return shown if len(shown) > 1 else [low, high]
