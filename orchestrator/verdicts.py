"""Measurements to verdicts. Pure NumPy: no model, no file.

Formulas and limits are those of the project's design, section 4.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from orchestrator.config import DeadNeurons, Gate, PredictionVariance
from orchestrator.records import Check, Verdict

Kind = Literal["regression", "classification"]
Form = Literal["regression", "binary", "categorical", "sparse"]
"""How targets and predictions of an output are written: binary is one probability a column,
categorical one column a class, sparse a class index."""

INPUT = "input"
"""Name of the model's inputs as a source in `Flow`."""
NO_SKILL = 0.01
"""Skill at or below which a prediction counts as no better than the best constant."""
NEAR_DEAD = 0.001
"""Share of rows under which a unit that is not dead counts as near-dead."""
_EPSILON = 1e-7
"""Probabilities are clipped to this distance from 0 and 1, as Keras clips them
(`keras.config.epsilon`)."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One place where an activation is applied, and on how many rows its units were active."""

    name: str
    """Readable path of the layer in the model."""
    activation: str
    """Keras's name of the activation."""
    rows: int
    """Rows × positions looked at."""
    active_rows: npt.NDArray[np.int64]
    """Rows × positions on which the unit's derivative was non-zero, shape (units,)."""
    saturating: bool = False
    """The activation has no zero derivative in exact arithmetic; `dead` then means saturated."""

    @property
    def units(self) -> int:
        """Number of units."""
        return int(self.active_rows.size)

    @property
    def dead_units(self) -> npt.NDArray[np.int64]:
        """Indices of the units that were active on no row."""
        return np.flatnonzero(self.active_rows == 0)

    @property
    def dead(self) -> int:
        """Number of dead units; none of a saturating activation counts as dead."""
        return 0 if self.saturating else int(self.dead_units.size)

    @property
    def saturated(self) -> int:
        """Number of saturated units."""
        return int(self.dead_units.size) if self.saturating else 0

    @property
    def dead_fraction(self) -> float:
        """Dead share of the units, 0 to 1."""
        return self.dead / self.units if self.units else 0.0

    @property
    def near_dead(self) -> int:
        """Number of units active on some rows, but on fewer than 0.1% of them."""
        few = (self.active_rows > 0) & (self.active_rows < NEAR_DEAD * self.rows)
        return int(np.count_nonzero(few))


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Flow:
    """How layers and outputs hang together: what each one is reached from directly.

    Sources are indices of layers, or `INPUT`.
    """

    layers: tuple[frozenset[int | str], ...]
    """Sources of each layer."""
    outputs: tuple[frozenset[int | str], ...]
    """Sources of each output."""

    def cut_outputs(self, dead: Iterable[int]) -> list[int]:
        """Outputs that no path reaches from the inputs once the dead layers are taken away."""
        dead = frozenset(dead)
        return [
            output
            for output, sources in enumerate(self.outputs)
            if INPUT in self._ancestors(sources, frozenset())
            and INPUT not in self._ancestors(sources, dead)
        ]

    def feeds(self, layer: int) -> list[int]:
        """Outputs that the layer has a path to."""
        return [
            output
            for output, sources in enumerate(self.outputs)
            if layer in self._ancestors(sources, frozenset())
        ]

    def _ancestors(
        self, sources: frozenset[int | str], blocked: frozenset[int]
    ) -> set[int | str]:
        found: set[int | str] = set()
        stack = list(sources)
        while stack:
            source = stack.pop()
            if source in found or source in blocked:
                continue
            found.add(source)
            if isinstance(source, int):
                stack.extend(self.layers[source])
        return found


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """What one output's predictions are worth."""

    output: int
    """Index of the output column."""
    kind: Kind
    """Regression or classification."""
    varies: bool | None
    """Whether the target varies; None without targets."""
    variance_ratio: float | None = None
    """var(prediction) / var(target); regression only."""
    information: float | None = None
    """Mutual information of prediction and row, over the entropy of the classes; classification
    only."""
    skill: float | None = None
    """1 - loss / loss of the best constant."""
    loss: float | None = None
    """Mean squared error, or cross-entropy in nats."""
    constant_loss: float | None = None
    """The same loss of the best constant."""
    constant_class: bool = False
    """Every row gets the same class."""
    distinct: bool = True
    """Not all predictions are equal."""


def finite(found: Sequence[str]) -> Check:
    """The verdict on non-finite values.

    Args:
        found: a clause for each place where one was seen, in the order of looking.

    Returns:
        `fail` when there is any.
    """
    measured = {"non_finite": list(found)}
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return Check(check="finite", verdict="fail", reason=found[0] + more, measured=measured)
    reason = "weights, optimizer state, losses and predictions are finite"
    return Check(check="finite", verdict="pass", reason=reason, measured=measured)


def not_applicable(check: str, reason: str) -> Check:
    """A check that could not be taken, with the reason."""
    return Check(check=check, verdict="not_applicable", reason=reason)


def cut(layers: Sequence[Layer], flow: Flow) -> tuple[list[int], list[int]]:
    """The entirely dead layers, and the outputs that they cut off from the inputs."""
    dead = [index for index, layer in enumerate(layers) if layer.units and layer.dead == layer.units]
    return dead, flow.cut_outputs(dead)


def needs_batch_statistics(layers: Sequence[Layer], limits: DeadNeurons) -> bool:
    """Whether a layer is dead enough for the verdict to hang on BatchNorm's moving statistics."""
    return any(layer.dead_fraction > limits.warn_above for layer in layers)


def dead_neurons(
    layers: Sequence[Layer],
    flow: Flow,
    limits: DeadNeurons,
    *,
    skills: Sequence[float | None],
    untrained: bool,
    exact: bool = True,
    batch_layers: Sequence[Layer] | None = None,
) -> Check:
    """The verdict on dead units.

    Args:
        layers: what was counted, in forward order.
        flow: how the layers hang together.
        limits: the config's limits.
        skills: lowest skill of each output of `flow`; None where there is none.
        untrained: whether this is phase 0, where only a cut fails.
        exact: whether every training row was counted.
        batch_layers: the same layers counted with BatchNorm's batch statistics; a layer that is
            alive in them lags, and is not dead.

    Returns:
        `fail` when entirely dead layers cut every path to an output, or when a layer is dead above
        `fail_above` and an output that it feeds has no skill.
    """
    if not layers:
        return not_applicable("dead_neurons", "no layer applies an activation with dead units")
    lagging = _lagging(layers, batch_layers, limits)
    judged = [batch_layers[i] if batch_layers and i in lagging else layer
              for i, layer in enumerate(layers)]
    worst = max(range(len(judged)), key=lambda index: judged[index].dead_fraction)
    measured = {
        "worst_layer": judged[worst].name,
        "dead_fraction": judged[worst].dead_fraction,
        "exact": exact,
        "layers": [_layer_entry(layer) for layer in layers],
    }

    def check(verdict: Verdict, reason: str) -> Check:
        limit = {"warn_above": limits.warn_above, "fail_above": limits.fail_above}
        return Check(
            check="dead_neurons", verdict=verdict, reason=reason, measured=measured, limits=limit
        )

    dead, cut_outputs = cut(judged, flow)
    if cut_outputs:
        first = judged[dead[0]]
        others = f", and so are {len(dead) - 1} more layers" if len(dead) > 1 else ""
        return check(
            "fail",
            f"layer {first.name} is entirely dead ({first.dead} of {first.units} units) on "
            f"{first.rows} rows{others}; nothing gets through to {_outputs(cut_outputs, flow)}",
        )
    if not untrained:
        for index, layer in enumerate(judged):
            if layer.dead_fraction <= limits.fail_above:
                continue
            for output in flow.feeds(index):
                skill = skills[output]
                if skill is not None and skill <= NO_SKILL:
                    return check(
                        "fail",
                        f"layer {layer.name} has {layer.dead} of {layer.units} units dead on "
                        f"{layer.rows} rows (limit {limits.fail_above:.0%}) and "
                        f"{_outputs([output], flow)} has no skill ({skill:.3g})",
                    )
    if lagging:
        name = layers[lagging[0]].name
        return check(
            "warn",
            f"layer {name} is dead with BatchNorm's moving statistics but alive with those of the "
            "batch: the moving statistics lag",
        )
    first = judged[worst]
    share = f"{first.dead} of {first.units} units of {first.name} are dead on {first.rows} rows"
    if first.dead_fraction > limits.warn_above:
        return check("warn", f"{share} (limit {limits.warn_above:.0%})")
    saturated = [layer for layer in layers if layer.saturated]
    if saturated:
        layer = saturated[0]
        return check(
            "warn", f"{layer.saturated} of {layer.units} {layer.activation} units of {layer.name} "
            "are saturated on every row"
        )
    total, units = sum(layer.dead for layer in judged), sum(layer.units for layer in judged)
    return check("pass", f"{share}; {total} of {units} in all" if total else f"no dead unit of {units}")


def _lagging(
    layers: Sequence[Layer], batch_layers: Sequence[Layer] | None, limits: DeadNeurons
) -> list[int]:
    if batch_layers is None:
        return []
    return [
        index
        for index, (moving, batch) in enumerate(zip(layers, batch_layers, strict=True))
        if moving.dead_fraction > limits.warn_above and batch.dead_fraction <= limits.warn_above
    ]


def _layer_entry(layer: Layer) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "layer": layer.name,
        "activation": layer.activation,
        "units": layer.units,
        "rows": layer.rows,
        "dead": layer.dead,
        "near_dead": layer.near_dead,
    }
    if layer.saturating:
        entry["saturated"] = layer.saturated
    entry["dead_units"] = layer.dead_units.tolist()
    entry["active_rows"] = layer.active_rows.tolist()
    return entry


def _outputs(indices: Sequence[int], flow: Flow) -> str:
    if len(flow.outputs) == 1:
        return "the output"
    return f"output {', '.join(map(str, indices))}"


def measure(
    y: npt.ArrayLike | None, prediction: npt.ArrayLike, form: Form, *, from_logits: bool = False
) -> list[Output]:
    """What the predictions of one model output are worth, column by column.

    Args:
        y: targets, shape (rows, …); None without targets.
        prediction: predictions, shape (rows, …, columns).
        form: how both are written.
        from_logits: whether predictions are logits rather than probabilities.

    Returns:
        One entry a column for regression and binary, one in all for categorical and sparse;
        computed in float64 and in two passes (mean first, then deviations).
    """
    predicted = np.asarray(prediction, dtype=np.float64)
    predicted = predicted.reshape(-1, predicted.shape[-1] if predicted.ndim > 1 else 1)
    if form in ("categorical", "sparse"):
        probabilities = _softmax(predicted) if from_logits else _normalized(predicted)
        return [_measure_classes(y, probabilities, form)]
    if form == "binary":
        predicted = _sigmoid(predicted) if from_logits else np.clip(predicted, 0.0, 1.0)
    targets = None
    if y is not None:
        targets = np.asarray(y, dtype=np.float64).reshape(predicted.shape)
    column = _measure_binary if form == "binary" else _measure_regression
    return [
        column(index, None if targets is None else targets[:, index], predicted[:, index])
        for index in range(predicted.shape[1])
    ]


def _measure_regression(
    index: int, y: npt.NDArray[np.float64] | None, predicted: npt.NDArray[np.float64]
) -> Output:
    distinct = bool(np.ptp(predicted) > 0)
    if y is None:
        return Output(output=index, kind="regression", varies=None, distinct=distinct)
    if np.ptp(y) == 0:
        return Output(output=index, kind="regression", varies=False, distinct=distinct)
    variance = float(np.mean((y - y.mean()) ** 2))
    predicted_variance = float(np.mean((predicted - predicted.mean()) ** 2)) if distinct else 0.0
    loss = float(np.mean((y - predicted) ** 2))
    return Output(
        output=index,
        kind="regression",
        varies=True,
        variance_ratio=predicted_variance / variance,
        skill=1.0 - loss / variance,
        loss=loss,
        constant_loss=variance,
        distinct=distinct,
    )


def _measure_binary(
    index: int, y: npt.NDArray[np.float64] | None, predicted: npt.NDArray[np.float64]
) -> Output:
    two = np.stack([1.0 - predicted, predicted], axis=1)
    targets = None if y is None else np.stack([1.0 - y, y], axis=1)
    return dataclasses.replace(_measure_classes(targets, two, "categorical"), output=index)


def _measure_classes(
    y: npt.ArrayLike | None, probabilities: npt.NDArray[np.float64], form: Form
) -> Output:
    distinct = bool(np.any(np.ptp(probabilities, axis=0) > 0))
    if y is None:
        return Output(output=0, kind="classification", varies=None, distinct=distinct)
    clipped = np.clip(probabilities, _EPSILON, 1.0 - _EPSILON)
    if form == "sparse":
        classes = np.asarray(y).reshape(-1).astype(np.int64)
        frequencies = np.bincount(classes, minlength=probabilities.shape[1]) / classes.size
        loss = float(-np.mean(np.log(clipped[np.arange(classes.size), classes])))
    else:
        targets = np.asarray(y, dtype=np.float64).reshape(probabilities.shape)
        frequencies = targets.mean(axis=0)
        loss = float(-np.mean(np.sum(targets * np.log(clipped), axis=1)))
    entropy = float(_entropy(frequencies))
    if entropy == 0.0:
        return Output(output=0, kind="classification", varies=False, distinct=distinct)
    gained = _entropy(probabilities.mean(axis=0)) - float(np.mean(_entropy(probabilities)))
    information = max(float(gained), 0.0) if distinct else 0.0
    return Output(
        output=0,
        kind="classification",
        varies=True,
        information=information / entropy,
        skill=1.0 - loss / entropy,
        loss=loss,
        constant_loss=entropy,
        constant_class=bool(np.unique(probabilities.argmax(axis=1)).size == 1),
        distinct=distinct,
    )


def _entropy(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Entropy in nats over the last axis; 0 · log 0 is 0."""
    logs = np.log(p, out=np.zeros_like(p), where=p > 0)
    total: npt.NDArray[np.float64] = -np.sum(p * logs, axis=-1)
    return total


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: npt.NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return result


def _sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def _normalized(p: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows that sum to 1, as Keras's cross-entropy makes them."""
    p = np.clip(p, 0.0, None)
    total = p.sum(axis=1, keepdims=True)
    return np.divide(p, total, out=np.full_like(p, 1.0 / p.shape[1]), where=total > 0)


def prediction_variance(
    outputs: Sequence[Output],
    limits: PredictionVariance,
    *,
    untrained: bool,
    last: bool,
    batch_outputs: Sequence[Output] | None = None,
) -> Check:
    """The verdict on a constant prediction.

    Args:
        outputs: what was measured, column by column; never averaged.
        limits: the config's limits.
        untrained: whether this is phase 0, where nothing fails.
        last: whether this is the last phase, where the skill is judged too.
        batch_outputs: the same with BatchNorm's batch statistics; a collapse that is not in them
            is a lag, and no failure.

    Returns:
        The worst verdict over the outputs, with the reason of the first that has it.
    """
    findings: list[tuple[Verdict, str]] = []
    for index, output in enumerate(outputs):
        verdict, reason = _judge(output, limits, last=last)
        if verdict == "fail" and untrained:
            verdict = "warn"
        if verdict == "fail" and batch_outputs is not None:
            batch_verdict, _ = _judge(batch_outputs[index], limits, last=last)
            if batch_verdict != "fail":
                verdict = "warn"
                reason += "; not so with the batch's statistics: BatchNorm's moving ones lag"
        name = f"output {index}: " if len(outputs) > 1 else ""
        findings.append((verdict, name + reason))
    order: tuple[Verdict, ...] = ("fail", "warn", "pass", "not_applicable")
    verdict, reason = min(findings, key=lambda finding: order.index(finding[0]))
    return Check(
        check="prediction_variance",
        verdict=verdict,
        reason=reason,
        measured={"outputs": [_output_entry(output) for output in outputs]},
        limits={
            "min_ratio": limits.min_ratio,
            "min_information": limits.min_information,
            "min_skill": limits.min_skill,
        },
    )


def _judge(output: Output, limits: PredictionVariance, *, last: bool) -> tuple[Verdict, str]:
    if output.varies is None:
        if output.distinct:
            return "pass", "the predictions differ between rows"
        return "fail", "all predictions are equal"
    if not output.varies:
        return "not_applicable", "the target is constant, so a constant prediction is right"
    if output.kind == "regression":
        value, limit = output.variance_ratio, limits.min_ratio
        what = "variance of the prediction is {} of the target's"
    else:
        value, limit = output.information, limits.min_information
        what = "information in the prediction is {} of the classes' entropy"
    shown = what.format(f"{value:.3g}")
    skill = output.skill if output.skill is not None else math.nan
    if value is None or not value >= limit:
        return "fail", f"{shown} (limit {limit:g}): the prediction is constant"
    shown += f", skill {skill:.3g}"
    if last and not skill >= limits.min_skill:
        return "fail", f"{shown} (limit {limits.min_skill:g}): worse than the best constant"
    if last and skill < NO_SKILL:
        return "warn", f"{shown}: no better than the best constant"
    if output.constant_class:
        return "warn", f"{shown}: every row gets the same class"
    return "pass", f"{shown} (limit {limit:g})"


def _output_entry(output: Output) -> dict[str, Any]:
    entry: dict[str, Any] = {"output": output.output, "kind": output.kind}
    for key in ("variance_ratio", "information", "skill", "loss", "constant_loss"):
        if getattr(output, key) is not None:
            entry[key] = getattr(output, key)
    return entry


def metric(gates: Sequence[Gate], logged: Mapping[str, float]) -> Check:
    """The verdict on the metric gates of one phase.

    Args:
        gates: the gates due after this phase, at least one.
        logged: Keras's logged values at the phase's last epoch.

    Returns:
        `fail` when a value is missing, not finite or out of its bounds.
    """
    measured = [{"name": gate.name, "value": logged.get(gate.name)} for gate in gates]
    limits = [{"name": gate.name, "min": gate.min, "max": gate.max} for gate in gates]
    verdict: Verdict = "pass"
    reasons = []
    for gate in gates:
        value = logged.get(gate.name, math.nan)
        low = gate.min is None or value >= gate.min
        high = gate.max is None or value <= gate.max
        bounds = [f"min {gate.min:g}"] if gate.min is not None else []
        bounds += [f"max {gate.max:g}"] if gate.max is not None else []
        text = f"{gate.name} is {value:.4g} ({', '.join(bounds)})"
        if low and high:
            reasons.append(text)
        else:
            reasons.insert(0, text)
            verdict = "fail"
    return Check(
        check="metric",
        verdict=verdict,
        reason=reasons[0] if verdict == "fail" else "; ".join(reasons),
        measured={"gates": measured},
        limits={"gates": limits},
    )
