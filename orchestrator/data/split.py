"""Which rows are held back for validation: at random, by class, by group, or the last ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.data.rows import Array

Positions = npt.NDArray[np.int64]


def at_random(count: int, fraction: float, seed: int) -> tuple[Positions, Positions]:
    """Positions of the training rows and of the validation rows, each in order.

    Args:
        count: number of rows, at least 2.
        fraction: share of the rows to hold back; at least one stays on either side.
        seed: seed of the choice.
    """
    order = np.random.default_rng(seed).permutation(count)
    return _parted(order[: _share(count, fraction)], count)


def last(count: int, fraction: float) -> tuple[Positions, Positions]:
    """The same with the last rows held back."""
    return _parted(np.arange(count - _share(count, fraction), count), count)


def by_class(
    labels: Array, fraction: float, seed: int, texts: Sequence[str] = ()
) -> tuple[Positions, Positions]:
    """The same with the same share of each class, and at least one row of it on either side.

    Args:
        labels: class of each row, shape (rows,).
        fraction: share of the rows to hold back.
        seed: seed of the choice.
        texts: what messages call them, where they are positions in these.

    Raises:
        ValueError: a class has a single row; the message names it.
    """
    classes, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    single = np.flatnonzero(counts == 1)
    if len(single):
        name = _named(classes[single[0]], texts)
        raise ValueError(f"the class {name} has a single row, which cannot be on both sides")
    draw = np.random.default_rng(seed)
    shares = _shares(counts, fraction)
    held = [
        draw.permutation(np.flatnonzero(codes == code))[:share] for code, share in enumerate(shares)
    ]
    return _parted(np.concatenate(held), len(codes))


def _shares(counts: Array, fraction: float) -> list[int]:
    """Rows of each class to hold back, so that all together are the share of all rows.

    The largest remainders get what rounding down leaves (Hamilton's method).
    """
    exact = counts * fraction
    shares = np.clip(np.floor(exact).astype(np.int64), 1, counts - 1)
    missing = round(int(counts.sum()) * fraction) - int(shares.sum())
    for code in np.argsort(shares - exact, kind="stable"):
        if missing <= 0:
            break
        if shares[code] < counts[code] - 1:
            shares[code] += 1
            missing -= 1
    return [int(share) for share in shares]


def by_group(
    groups: Array, fraction: float, seed: int, texts: Sequence[str] = ()
) -> tuple[Positions, Positions]:
    """The same with the rows of a group on one side.

    Groups are held back in a random order as long as that brings the rows held back nearer to the
    share; where none does, the one nearest to it is. At least one group is on either side.

    Args:
        groups: group of each row, shape (rows,).
        fraction: share of the rows to hold back.
        seed: seed of the choice.
        texts: what messages call them, where they are positions in these.

    Raises:
        ValueError: there is a single group.
    """
    names, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"all rows have the value {_named(names[0], texts)}, which cannot be parted"
        )
    wanted, held = len(codes) * fraction, 0
    chosen: list[int] = []
    drawn = np.random.default_rng(seed).permutation(len(names))
    for code in drawn:
        if len(chosen) == len(names) - 1:
            break
        if abs(held + counts[code] - wanted) < abs(held - wanted):
            chosen.append(int(code))
            held += int(counts[code])
    if not chosen:
        chosen = [int(drawn[np.argmin(counts[drawn])])]
    return _parted(np.flatnonzero(np.isin(codes, chosen)), len(codes))


def _named(value: Any, texts: Sequence[str]) -> str:
    """How messages call a class or a group."""
    return repr(texts[value] if texts else value.item())


def _share(count: int, fraction: float) -> int:
    return min(max(round(count * fraction), 1), count - 1)


def _parted(held: Array, count: int) -> tuple[Positions, Positions]:
    """All other positions, and these, each in order."""
    mask = np.zeros(count, np.bool_)
    mask[held] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)
