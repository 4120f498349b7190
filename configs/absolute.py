"""Rows for `abs.yaml`."""

import numpy as np


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """X drawn evenly from [-√3, √3], which has variance 1, and y = |x|.

    Args:
        count: number of rows.

    Returns:
        x, shape (count, 1), and y, shape (count,).
    """
    x = np.random.default_rng(0).uniform(-np.sqrt(3), np.sqrt(3), (count, 1))
    return x, np.abs(x[:, 0])
