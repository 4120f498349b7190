"""Automatic retraining for Keras: train, check for dead units, restart until the model is healthy.

`run` takes a config to a healthy model, as `orchestrate CONFIG` does. `retrain` does the same for a
function that builds a model and the rows that a program has in memory. `diagnose` tells which units
of a model are dead, and what its predictions are worth. `tune` searches the restart policy, or any
key of a config, for the best.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from orchestrator.config.backend import check_backend
from orchestrator.errors import InvalidError, OrchestratorError, UserCodeError

if TYPE_CHECKING:
    from orchestrator.diagnosis.diagnose import diagnose
    from orchestrator.training.launch import run
    from orchestrator.training.retrain import retrain
    from orchestrator.tuning.tune import tune

__all__ = [
    "InvalidError",
    "OrchestratorError",
    "UserCodeError",
    "diagnose",
    "retrain",
    "run",
    "tune",
]


_MODULES = {
    "diagnose": "orchestrator.diagnosis.diagnose",
    "retrain": "orchestrator.training.retrain",
    "run": "orchestrator.training.launch",
    "tune": "orchestrator.tuning.tune",
}
"""Where the functions are: imported when one is first used, for `orchestrate --help` needs none."""


def __getattr__(name: str) -> Any:
    """Import a function when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "diagnose":
        check_backend()  # its module imports Keras; the others find out when they are called
    return getattr(importlib.import_module(_MODULES[name]), name)
