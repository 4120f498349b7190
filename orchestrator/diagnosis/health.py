"""A model's health, as `diagnose` and `orchestrate check` tell it. Pure: no model, no file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.diagnosis.units import Layer
from orchestrator.record.checks import (
    Check,
    DeadNeuronsCheck,
    FindingsCheck,
    PredictionVarianceCheck,
)
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import Finding

_Indices = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Examinee:
    """A model trained elsewhere, and the rows to look at it with."""

    model: Path
    """The `.keras` file."""
    data: Path
    """An .npz or .npy file, or a table: .csv, .parquet, .feather."""
    target: str | None = None
    """Column of a table, array of an archive, or .npy file; None for y of an archive, or none."""
    features: tuple[str, ...] = ()
    """Input columns of a table; empty for all others."""
    delimiter: str = ","
    """What separates the columns of a .csv file."""
    modules: tuple[str, ...] = ()
    """The user's modules that register what the model needs."""
    exhaustive: bool = True
    """Read every row even when no further one can change a verdict."""
    gradients: bool = False
    """Measure what needs gradients, too."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class LayerHealth:
    """The units of one place where an activation is applied."""

    name: str
    """Readable path of the layer in the model."""
    activation: str
    """Keras's name of the activation."""
    units: int
    """Number of units."""
    rows: int
    """Rows × positions that were looked at."""
    active_rows: _Indices
    """Rows × positions on which each unit's derivative was not zero, shape (units,)."""
    dead: _Indices
    """Indices of the units whose derivative was zero on all of them."""
    near_dead: _Indices
    """Indices of the units that were active on some rows, but on fewer than 0.1% of them."""
    constant: _Indices
    """Indices of the units that were active and had the same value on every row."""
    saturated: _Indices
    """Indices of the units of a smooth activation with |derivative| ≤ 1e-6 on every row."""
    blocked: _Indices | None
    """Indices of the units that were active, but got no gradient from an output on any row where
    they were; None unless gradients were asked for."""
    partial: bool
    """A loop hides some of the applications, so that nothing is known to be dead."""

    @property
    def dead_fraction(self) -> float:
        """Dead share of the units, 0 to 1."""
        return self.dead.size / self.units if self.units else 0.0

    @classmethod
    def of(cls, layer: Layer) -> LayerHealth:
        """From what was counted."""
        none = np.zeros(0, np.int64)
        silent = layer.dead_units
        few = (layer.active_rows > 0) & (layer.active_rows < layer.near_dead_rows)
        return cls(
            name=layer.name,
            activation=layer.activation,
            units=layer.units,
            rows=layer.rows,
            active_rows=layer.active_rows,
            dead=none if layer.saturating or layer.partial else silent,
            near_dead=np.flatnonzero(few),
            constant=layer.constant_units,
            saturated=silent if layer.saturating else none,
            blocked=layer.blocked_units,
            partial=layer.partial,
        )


class Verdicts(Mapping[str, Check]):
    """The checks by name, in the order in which they are taken: `verdicts["dead_neurons"]`."""

    def __init__(self, checks: Iterable[Check]) -> None:
        self._checks = {check.check: check for check in checks}

    def __getitem__(self, name: str) -> Check:
        """The check of that name."""
        if name in self._checks:
            return self._checks[name]
        raise KeyError(f"Expected one of {', '.join(self._checks)}. Received: {name!r}")

    def __len__(self) -> int:
        """Number of checks."""
        return len(self._checks)

    def __iter__(self) -> Iterator[str]:
        """Their names."""
        return iter(self._checks)

    def __repr__(self) -> str:
        """Names and verdicts."""
        shown = (f"{name!r}: {check.verdict!r}" for name, check in self._checks.items())
        return f"Verdicts({{{', '.join(shown)}}})"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Health:
    """What a model's units do on its rows, and what its predictions are worth."""

    finite: bool
    """Whether all weights, inputs, targets and predictions are finite."""
    layers: tuple[LayerHealth, ...]
    """One for each place where an elementwise nonlinear activation is applied, in forward order;
    empty where there are non-finite values, which hide what is dead."""
    outputs: tuple[OutputSkill, ...]
    """One for each output column of a regression, one for each classification."""
    verdicts: Verdicts
    """What the checks say at their default limits."""
    rows: int
    """Rows that were looked at."""
    exact: bool
    """Whether these were all."""
    responding_rows: int | None
    """Rows whose output responds to the inputs; None unless gradients were asked for."""
    notes: tuple[str, ...]
    """What could not be seen."""
    findings: tuple[Finding, ...] = ()
    """Why it may not have learnt, or cannot."""

    @property
    def failure(self) -> Check | None:
        """The first check that failed."""
        return next((check for check in self.verdicts.values() if check.verdict == "fail"), None)

    def record(self) -> dict[str, Any]:
        """As plain values, for JSON."""
        return {
            "finite": self.finite,
            "rows": self.rows,
            "exact": self.exact,
            "responding_rows": self.responding_rows,
            "layers": [_layer(layer) for layer in self.layers],
            "outputs": [dataclasses.asdict(output) for output in self.outputs],
            "verdicts": [jsonable(check) for check in self.verdicts.values()],
            "notes": list(self.notes),
            "findings": [jsonable(finding) for finding in self.findings],
        }

    def summary(self) -> list[str]:
        """What it means and what to try, in plain sentences."""
        return list(_sentences(self))


def _layer(layer: LayerHealth) -> dict[str, Any]:
    entry = {field.name: getattr(layer, field.name) for field in dataclasses.fields(layer)}
    return {
        **{
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in entry.items()
        },
        "dead_fraction": layer.dead_fraction,
    }


def _sentences(health: Health) -> Iterator[str]:
    """What was found, from the worst on."""
    if not health.finite:
        yield (
            f"{health.verdicts['finite'].reason}. Nothing else can be told of a model with NaN or "
            "infinity in it: train again with a lower learning rate or with gradient clipping, and "
            "look at the scale of the inputs."
        )
        return
    failed = [check for check in health.verdicts.values() if check.verdict == "fail"]
    yield from (f"{_capital(finding.told)}." for finding in health.findings)
    for check in failed:
        if isinstance(check, FindingsCheck):
            continue
        if isinstance(check, DeadNeuronsCheck):
            yield _advice_on_units(check, health)
        elif not isinstance(check, PredictionVarianceCheck):
            yield f"{_capital(check.reason)}."
        elif not any(isinstance(each, DeadNeuronsCheck) for each in failed) and not health.findings:
            yield _advice_on_outputs(check, health)
    if not failed:
        yield from _without_failure(health)
    yield from (f"{_capital(note)}." for note in health.notes)


def _without_failure(health: Health) -> Iterator[str]:
    """That the model works, or what stands against saying so; then its units."""
    warned = [
        each.reason
        for each in health.verdicts.values()
        if each.verdict == "warn" and not isinstance(each, FindingsCheck)
    ]
    if warned:
        yield f"No check fails, but there are warnings: {'; '.join(warned)}."
    elif any(output.skill is not None for output in health.outputs):
        yield "The model works."
    else:
        worth = health.verdicts.get("prediction_variance")
        why = f": {worth.reason}" if worth is not None else ""
        yield f"No check fails; what the predictions are worth was not judged{why}."
    total = sum(layer.dead.size for layer in health.layers)
    units = sum(layer.units for layer in health.layers)
    if total:
        yield (
            f"{total} of {units} units are dead: they cost time and memory and do nothing; healthy "
            "networks often have many."
        )
    elif units:
        yield f"None of the {units} units is dead."


def _advice_on_units(check: DeadNeuronsCheck, health: Health) -> str:
    """What to do where units have died."""
    dead = [layer for layer in health.layers if layer.units and layer.dead.size == layer.units]
    if not dead:
        return f"{_capital(check.reason)}. Train again with a lower learning rate or leaky ReLU."
    names = ", ".join(layer.name for layer in dead)
    return (
        f"Every unit of {names} is dead: its gradient is zero for every row, so no training "
        "from here can revive it. Train again from the start with a lower learning rate, "
        "another seed, or leaky ReLU in the hidden layers."
    )


def _advice_on_outputs(check: PredictionVarianceCheck, health: Health) -> str:
    """What to do where the prediction is constant, or worse, although units are alive."""
    if health.responding_rows == 0 or _blocked(health):
        return (
            "The prediction is constant although no layer is entirely dead: on every row some "
            "layer lets nothing through. Train again with another seed or leaky ReLU."
        )
    if check.is_worse_than_constant():
        return (
            "The predictions vary, and are further from the targets than their mean would be: "
            "a training on these rows went astray, and is to be tried at a lower learning rate; "
            "where it was trained on others, these may be unlike them (other units, another "
            "scaling, another order of the columns)."
        )
    return (
        f"{_capital(check.reason)}. The units are alive: look at the output layer (a "
        "constraint or regulariser that holds it at zero, an activation that cannot reach "
        "the targets), the learning rate, and whether the inputs say anything of the "
        "targets."
    )


def _blocked(health: Health) -> bool:
    return any(layer.blocked is not None and layer.blocked.size for layer in health.layers)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
