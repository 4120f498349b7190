"""How far a replay agrees with the record: phase by phase, and what may be the reason. Pure."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from orchestrator.display.tables import Cell, Column, Row
from orchestrator.record.checks import AnyCheck
from orchestrator.record.encoding import jsonable
from orchestrator.record.records import INIT, Attempt, Phase
from orchestrator.training.recorded.origin import Pair, changes, dig, short, told

_NAMED = 4
"""Values that a sentence names."""
_FLOAT32 = 1e-6
"""How far apart two figures may be that Keras computes in float32, relative to them. Earlier
versions computed losses in float64; bits are compared by the digests of the weights."""
_FLOAT32_MAX = 3.4028235e38
"""The greatest finite number of float32."""
_CHANGED = "run.json does not say what the journal says, so one of them was changed since"


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PhaseFidelity:
    """One phase, then and now."""

    phase: str
    """Its name."""
    same: bool
    """Whether all that was recorded came again."""
    reached: bool
    """Whether the replay got through it."""
    weights: Pair
    """Digests of the weights at its end."""
    metrics: dict[str, Pair]
    """Logged values that differ; `epochs`, `first_loss` and `highest_loss` are among them."""
    checks: dict[str, Pair]
    """Verdicts and measured values that differ, by dotted path; the check's name comes first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """A replayed attempt, then and now."""

    schema: int = 1
    """Version of this record's shape."""
    run: str
    """Name of the run."""
    attempt: int
    """Number of the attempt."""
    same: bool
    """Whether all that was recorded came again, in every phase."""
    bits: bool
    """Whether the record has digests of the weights; without, numbers alone were compared."""
    ended: bool
    """Whether the attempt passed or failed; of any other only its finished phases are compared."""
    phases: tuple[PhaseFidelity, ...]
    """The recorded phases, in order."""
    environment: dict[str, Pair]
    """What has changed since, by dotted path in `environment.json`."""
    reason: str | None
    """What may be the reason of a difference; None where there is none."""


def compare(
    run: str,
    attempt: Attempt,
    again: Attempt,
    *,
    then: Mapping[str, Any],
    now: Mapping[str, Any],
    journaled: Attempt | None = None,
) -> Fidelity:
    """Hold a replay against the record.

    Args:
        run: name of the run.
        attempt: the attempt as recorded, with a phase at least.
        again: the attempt as it came out in the replay.
        then: the environment as recorded; empty where it cannot be read.
        now: the environment of the replay.
        journaled: the attempt as the journal has it; None where that cannot be read.
    """
    replayed = {phase.phase: phase for phase in again.phases}
    found = tuple(_phase(phase, replayed.get(phase.phase)) for phase in attempt.phases)
    same = all(phase.same for phase in found)
    environment = changes(then, now)
    seeds = Pair(attempt.settings.seed, again.settings.seed)
    reasons = [_CHANGED] if journaled is not None and _contradicts(journaled, attempt) else []
    return Fidelity(
        run=run,
        attempt=attempt.attempt,
        same=same,
        bits=all(phase.weights is not None for phase in attempt.phases),
        ended=attempt.status in ("passed", "failed"),
        phases=found,
        environment=environment,
        reason=None if same else "; ".join(reasons or _reasons(found, seeds, environment, then)),
    )


def _phase(recorded: Phase, replayed: Phase | None) -> PhaseFidelity:
    weights = Pair(recorded.weights, None if replayed is None else replayed.weights)
    metrics: dict[str, Pair] = {}
    checks: dict[str, Pair] = {}
    if replayed is not None:
        metrics = _differences(_logged(recorded), _logged(replayed))
        checks = _differences(_checked(recorded.checks), _checked(replayed.checks), _FLOAT32)
    other_weights = recorded.weights is not None and weights.differs
    return PhaseFidelity(
        phase=recorded.phase,
        same=replayed is not None and not (other_weights or metrics or checks),
        reached=replayed is not None,
        weights=weights,
        metrics=metrics,
        checks=checks,
    )


def _contradicts(journaled: Attempt, attempt: Attempt) -> bool:
    """Whether the journal and the record tell different things of a phase that both have."""
    pairs = zip(journaled.phases, attempt.phases, strict=False)
    return any(
        one.weights != other.weights or _logged(one) != _logged(other)
        for one, other in pairs
        if other.weights is not None
    )


def _logged(phase: Phase) -> dict[str, Any]:
    """What was logged, as JSON, in which NaN is equal to NaN."""
    losses = {"first_loss": phase.first_loss, "highest_loss": phase.highest_loss}
    logged: dict[str, Any] = jsonable({"epochs": phase.epochs, **losses, **phase.metrics})
    return logged


def _checked(checks: Sequence[AnyCheck]) -> dict[str, Any]:
    """Verdicts and measured values as JSON, without the per-unit lists that not every file has."""
    return {
        check.check: {
            "verdict": check.verdict,
            **jsonable(check.without_units().measured),
        }
        for check in checks
    }


def _differences(
    recorded: Mapping[str, Any], replayed: Mapping[str, Any], tolerance: float = 0.0
) -> dict[str, Pair]:
    found = _compare(recorded, replayed, "")
    return {path: pair for path, pair in found if not _is_close(path, pair, tolerance)}


def _is_close(path: str, pair: Pair, tolerance: float) -> bool:
    """Whether both are the same number up to rounding, and beyond what float32 holds infinite."""
    numbers = []
    for value in (pair.recorded, pair.replayed):
        if not isinstance(value, float) and value not in ("Infinity", "-Infinity"):
            return False
        number = float(value)
        is_beyond = abs(number) > _FLOAT32_MAX and tolerance > 0
        numbers.append(math.copysign(math.inf, number) if is_beyond else number)
    # A skill is one less a ratio of losses, and may be next to zero.
    absolute = tolerance if path.endswith(".skill") else 0.0
    return math.isclose(*numbers, rel_tol=tolerance, abs_tol=absolute)


def _compare(recorded: Any, replayed: Any, path: str) -> Iterator[tuple[str, Pair]]:
    """The values that differ; those that only a newer version measures are no difference."""
    if isinstance(recorded, Mapping) and isinstance(replayed, Mapping):
        for key, value in recorded.items():
            yield from _compare(value, replayed.get(key), f"{path}.{key}" if path else str(key))
    elif (
        isinstance(recorded, list) and isinstance(replayed, list) and len(recorded) == len(replayed)
    ):
        for index, (one, other) in enumerate(zip(recorded, replayed, strict=True)):
            yield from _compare(one, other, f"{path}.{index}")
    elif recorded is not None and recorded != replayed:
        yield path, Pair(recorded, replayed)


def _reasons(
    phases: Sequence[PhaseFidelity],
    seeds: Pair,
    environment: Mapping[str, Pair],
    then: Mapping[str, Any],
) -> Iterator[str]:
    first = next(phase for phase in phases if not phase.same)
    if seeds.differs:
        yield f"screening chose seed {seeds.recorded} then, {seeds.replayed} now"
    elif first.phase == INIT and first.reached and _others(first.weights):
        yield "the untrained weights are others already, so the model is not built as it was"
    elif all(phase.reached and not phase.weights.differs for phase in phases):
        yield "the weights are the same, only what was measured of them differs"
    if not then:
        yield "what it was recorded with is not known, its environment.json cannot be read"
    for path, pair in environment.items():
        yield told(path, pair)
    if dig(then, "git.dirty"):
        yield "when it was recorded, the code had changes that were not committed"
    elif then and not environment:
        yield (
            "versions, machine, data and commit are as they were, which leaves draws without a "
            "seed in your own code and operations that are not deterministic"
        )


def _others(weights: Pair) -> bool:
    return weights.recorded is not None and weights.differs


def table(found: Fidelity) -> tuple[tuple[Column, ...], tuple[Row, ...]]:
    """A row a phase: whether weights, logged values and checks came again."""
    columns = (Column("phase"), Column("weights"), Column("metrics"), Column("checks"))
    return columns, tuple(tuple(_cells(phase)) for phase in found.phases)


def _cells(phase: PhaseFidelity) -> Iterator[Cell]:
    yield Cell(phase.phase)
    if not phase.reached:
        yield from (Cell("not reached", style="red"), Cell(None), Cell(None))
        return
    if phase.weights.recorded is None:
        yield Cell("not recorded", style="yellow")
    else:
        yield _cell("differ" if phase.weights.differs else "")
    for differences in (phase.metrics, phase.checks):
        yield _cell(f"{len(differences)} differ" if differences else "")


def _cell(difference: str) -> Cell:
    return Cell(difference or "same", style="red" if difference else "green")


def sentence(found: Fidelity) -> str:
    """What came of it, with a difference's place and what may be its reason."""
    name = f"attempt {found.attempt}"
    rest = "" if found.ended else "; it was cut short, so only its finished phases are compared"
    if not found.bits:
        rest += "; its record is older than the digests of the weights, so bits are not compared"
    if found.same:
        what = "arrived at the same bits after" if found.bits else "gave the same numbers in"
        return f"{name} {what} {_all(found.phases)}{rest}"
    first = next(phase for phase in found.phases if not phase.same)
    since = "in" if first is found.phases[-1] else "from"
    on = "" if first is found.phases[-1] else " on"
    differences = "; ".join(_told(first))
    return f"{name} differs {since} phase {first.phase}{on}: {differences}{rest}"


def _all(phases: Sequence[PhaseFidelity]) -> str:
    if len(phases) == 1:
        return f"its only finished phase, {phases[0].phase}"
    return f"each of its {len(phases)} phases"


def _told(phase: PhaseFidelity) -> Iterator[str]:
    if not phase.reached:
        yield "the replay did not get through it"
    elif _others(phase.weights):
        yield "the weights are others"
    differences = [*phase.metrics.items(), *phase.checks.items()]
    for name, pair in differences[:_NAMED]:
        yield f"{name} {short(pair.recorded)} then, {short(pair.replayed)} now"
    if len(differences) > _NAMED:
        yield f"{len(differences) - _NAMED} values more"
