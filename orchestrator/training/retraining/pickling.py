"""Objects of Python's and Keras's as bytes, from which each attempt makes a copy of its own.

Keras's losses, metrics and optimizers pickle by the name of a registered class, which those of a
script or a notebook are not. They go by their class and what they hold instead.
"""

from __future__ import annotations

import copyreg
import io
import sys
from typing import Any

import cloudpickle

from orchestrator.errors import NotSentError, describe_error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        """How objects of Keras's are pickled; everything else as cloudpickle does."""
        return _reduced(value) or super().reducer_override(value)


def _reduced(value: Any) -> Any:
    """The class of an object of Keras's, and what it holds; None for anything else."""
    if "keras" not in sys.modules:  # which takes seconds to import
        return None
    import keras  # noqa: PLC0415

    from orchestrator.model import keras_internals  # noqa: PLC0415
    from orchestrator.training.retraining import arguments  # noqa: PLC0415

    untracked = keras_internals.untracked(value)
    if untracked is not None:
        return type(untracked), (untracked,)
    if isinstance(value, keras.optimizers.Optimizer):
        return _fresh_optimizer, (type(value), arguments.of(value))
    if isinstance(value, keras.losses.Loss | keras.metrics.Metric):
        return copyreg.__newobj__, (type(value),), vars(value)  # type: ignore[attr-defined]
    if isinstance(value, keras.callbacks.Callback) and _is_plain(type(value)):
        state = {**vars(value), "_model": None}  # which an earlier training has left there
        return copyreg.__newobj__, (type(value),), state  # type: ignore[attr-defined]
    return None


def _is_plain(kind: type) -> bool:
    """Whether a class leaves it to Python how it is pickled."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__")
    return all(getattr(kind, name, None) is getattr(object, name, None) for name in names)


def _fresh_optimizer(kind: Any, given: dict[str, Any]) -> Any:
    """An optimizer without any state."""
    return kind(**given)


def dumps(value: Any) -> bytes:
    """An object as bytes; functions and classes of a script or a notebook go by value.

    Args:
        value: anything. Of an optimizer the arguments are kept, and no state of a model.

    Raises:
        NotSentError: it holds what Python cannot copy.
    """
    found = io.BytesIO()
    try:
        _Pickler(found).dump(value)
    except NotSentError:
        raise
    except Exception as error:
        raise NotSentError(f"{type(error).__name__}: {describe_error(error)}") from error
    return found.getvalue()
