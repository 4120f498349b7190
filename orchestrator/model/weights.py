"""A model's weights, to the bit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt


def digest(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """SHA-256 over types, shapes and bytes; NaNs are bytes like any others.

    Args:
        arrays: the weights in the model's order. What they are called and where they were saved
            makes no difference.

    Returns:
        `sha256:` and 64 hexadecimal digits.
    """
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype.name}{array.shape}".encode())
        # As bytes: types that NumPy itself does not know, such as bfloat16, have no buffer.
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return f"sha256:{found.hexdigest()}"
