"""What Keras and TensorFlow warn of while the user's model is built and trained."""

from __future__ import annotations

import contextlib
import re
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_LIBRARIES = ("keras.", "tensorflow.")
_SAVING = ("keras.src.legacy.saving.", "keras.src.saving.")
"""What they say there is for us, who save and load."""
_OWN = "orchestrator."
_OF_USER = frozenset(
    {
        "orchestrator.config.user_code",
        "orchestrator.model.build",
        "orchestrator.model.objects",
        "orchestrator.training.attempt.building.preparation",
    }
)
"""Modules that do what the config asks for; what others do of Keras's is our own way of looking."""
_SHAPE = re.compile(r"\([^()]*\)")


@contextlib.contextmanager
def heard(tell: Callable[[str], None]) -> Iterator[None]:
    """Pass on what Keras warns of, each once; it is printed as before, too.

    Python's own filters hold: what they silence is not heard.

    Args:
        tell: gets each sentence.
    """
    told: set[str] = set()
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], *where: Any, **more: Any) -> None:
        shown(message, category, *where, **more)
        text = " ".join(str(message).split())
        known = _SHAPE.sub("", text)  # with every shape of a batch it is the same
        if known not in told and _is_of_use(category, text) and _concerns_user():
            told.add(known)
            tell(f"Keras warns: {text}")

    # It brings back the filters too: out of a thread it would undo those of whoever else runs.
    alone = threading.current_thread() is threading.main_thread()
    with warnings.catch_warnings() if alone else contextlib.nullcontext():
        warnings.showwarning = show
        try:
            yield
        finally:
            if warnings.showwarning is show:
                warnings.showwarning = shown


def _is_of_use(category: type[Warning], text: str) -> bool:
    """Whether it is about the model rather than about names that will change."""
    return issubclass(category, UserWarning | SyntaxWarning) and "deprecated" not in text.lower()


def _concerns_user() -> bool:
    """Whether Keras gave the warning that is being shown, and for what the config asks for."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__") == "warnings":
        frame = frame.f_back
    giver = f"{frame.f_globals.get('__name__')}."
    if not giver.startswith(_LIBRARIES) or giver.startswith(_SAVING):
        return False
    callers = (str(each.f_globals.get("__name__")) for each, _ in traceback.walk_stack(frame))
    return next((name in _OF_USER for name in callers if name.startswith(_OWN)), False)
