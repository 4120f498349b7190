"""The rows of the cases; a run imports a copy of this file as the module `rows`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

COUNT = 1000


def _uniform(columns: int) -> Array:
    return np.random.default_rng(0).uniform(-(3**0.5), 3**0.5, (COUNT, columns))


def absolute(columns: int = 1) -> tuple[Array, Array]:
    """|x|, or a sum of several."""
    x = _uniform(columns)
    return x, np.abs(x).sum(axis=1)


def linear() -> tuple[Array, Array]:
    """A plane."""
    x = _uniform(2)
    return x, x @ np.array([1.0, -2.0])


def negative() -> tuple[Array, Array]:
    """Targets that no relu reaches."""
    x, y = absolute()
    return x, -1 - y


def circles() -> tuple[Array, Array]:
    """Two noisy circles, one in the other."""
    draw = np.random.default_rng(0)
    inner = np.arange(COUNT) % 2
    angle, radius = draw.uniform(0, 2 * np.pi, COUNT), 1 - 0.5 * inner + draw.normal(0, 0.05, COUNT)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), inner


def unscaled() -> tuple[Array, Array]:
    """One input of 1e5 beside one of 1."""
    x, y = absolute(2)
    return x * np.array([1e5, 1.0]), y


def offset() -> tuple[Array, Array]:
    """Inputs far from zero, as years are."""
    x, y = absolute(2)
    return 1000 + x, y


def mixed() -> str:
    """A table in CSV with a column of texts, whose numbers are as they were measured."""
    draw = np.random.default_rng(0)
    degrees, pascal = draw.normal(15, 8, COUNT), draw.normal(1e5, 3e3, COUNT)
    site = draw.integers(3, size=COUNT)
    slope = np.array([1.0, -1.0, 0.3])[site]
    y = np.abs(degrees - 15) / 8 + slope * (pascal - 1e5) / 3e3 + 0.5 * site
    lines = zip(degrees.round(2), pascal.round(), site, y.round(4), strict=True)
    told = (f"{a},{b:.0f},{'north east south'.split()[c]},{d}" for a, b, c, d in lines)
    return "\n".join(["degrees,pascal,site,y", *told, ""])


FILES = {"mixed.csv": mixed}
"""What makes the content of each file beside the configs."""


def moved(mean: float, scale: float = 1.0) -> tuple[Array, Array]:
    """Targets far from zero, or of another size than 1."""
    x, y = absolute(2)
    return x, mean + scale * y


def weak() -> tuple[Array, Array]:
    """Targets of whose variance a hundredth can be explained."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(COUNT, 5))
    return x, 0.1 * x[:, 0] + draw.normal(size=COUNT)


def rare(above: float = 2.3) -> tuple[Array, Array]:
    """A class of few rows: one in a hundred above 2.3, one in twenty above 1.7."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(COUNT, 5))
    return x, (x[:, 0] + 0.3 * draw.normal(size=COUNT) > above).astype(int)


def blobs(classes: int = 10, columns: int = 20) -> tuple[Array, Array]:
    """Classes around centres of their own."""
    draw = np.random.default_rng(0)
    centers, y = 1.5 * draw.normal(size=(classes, columns)), np.arange(COUNT) % classes
    return centers[y] + draw.normal(size=(COUNT, columns)), y


def unequal_blobs() -> tuple[Array, Array]:
    """Three classes of 800, 150 and 50 rows."""
    draw = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], [800, 150, 50])
    return draw.normal(size=(3, 8))[y] * 1.5 + draw.normal(size=(COUNT, 8)), y


def images(pixels: bool = False) -> tuple[Array, Array]:
    """Four patterns of 8 × 8 under noise; as pixels from 0 to 255."""
    draw = np.random.default_rng(0)
    y = np.arange(COUNT) % 4
    x = draw.normal(size=(4, 8, 8, 1))[y] + draw.normal(size=(COUNT, 8, 8, 1))
    return (np.clip(128 + 40 * x, 0, 255).round() if pixels else x), y


def sequences() -> tuple[Array, Array]:
    """Twelve steps of two columns: the last of one, and the mean of the other."""
    x = np.random.default_rng(0).normal(size=(COUNT, 12, 2))
    return x, x[:, -1, 0] + 2 * x[:, :, 1].mean(axis=1)


def pair() -> tuple[Array, tuple[Array, Array]]:
    """Targets of two outputs."""
    x = _uniform(2)
    return x, (np.abs(x[:, :1]), x[:, 1:] ** 2 - 1)


def columns() -> tuple[Array, Array]:
    """The same as one target of two columns."""
    x, y = pair()
    return x, np.concatenate(y, axis=1)
