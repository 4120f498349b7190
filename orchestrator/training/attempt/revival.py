"""Reviving the dead units of a state before an attempt goes on from it."""

from __future__ import annotations

import numpy as np

from orchestrator.model import revival
from orchestrator.model.build import plain_optimizers
from orchestrator.record.events import Warned
from orchestrator.training.attempt import snapshots
from orchestrator.training.attempt.building.build import Built, Loaded
from orchestrator.training.attempt.snapshots import Snapshot
from orchestrator.training.executors.executor import Emit

_ROWS = 1024
"""Rows that revived units are centred on, at most: half of more pass as well, within 2%."""


def revive(begun: Snapshot, rows: Loaded, built: Built, emit: Emit) -> Snapshot:
    """The state after its dead units have got fresh weights.

    Args:
        begun: the state, as another attempt has left it.
        rows: the rows; a unit is dead that is so on every one that is checked.
        built: what goes on from it; its seed draws the weights.
        emit: is told what was revived.
    """
    snapshots.restore_variables(begun, built)
    found = built.probe.measure(rows.checked)
    dead = {layer.name: layer.dead_units.tolist() for layer in found.layers if layer.dead}
    train, seed = rows.dataset.train, built.settings.seed
    count = min(len(train), _ROWS)
    few = np.sort(np.random.default_rng(seed).choice(len(train), count, replace=False))
    done = revival.revive(
        built.model, dead, train.batch(few)[0], seed, plain_optimizers(built.model)
    )
    emit(Warned(message=_told(done, built.settings.seed)))
    return snapshots.with_present_values(begun, built)


def _told(done: revival.Revival, seed: int) -> str:
    """What was revived and what was not, in one sentence."""
    units = sum(map(len, done.units.values()))
    places = ", ".join(f"{len(each)} of {name}" for name, each in done.units.items())
    told = f"{units} dead unit{'s' * (units != 1)} got fresh weights, drawn with seed {seed}"
    told += f": {places}" if places else ""
    left = ", ".join(f"those of {name}, since {why}" for name, why in done.left.items())
    return f"{told}; left as they are were {left}" if left else told
