"""The table: a block for each case, and a line for each thing that is asked of all of them."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence

from tests.benchmarks.restarts.case import Case, Kind
from tests.benchmarks.restarts.trials import Outcome, Way

Outcomes = Mapping[Way, Sequence[Outcome]]


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """What is asked of every case of a kind."""

    kind: Kind
    what: str
    measure: Callable[[Outcomes], float | None]
    """None where it was not measured."""
    limit: float
    at_least: bool = False
    late: float | None = None
    """The limit where that is only known at the end of a training."""

    def limit_of(self, case: Case) -> float:
        return self.limit if self.late is None or not case.late else self.late

    def holds(self, case: Case, value: float) -> bool:
        limit = self.limit_of(case)
        return value >= limit if self.at_least else value <= limit


def costs(found: Outcomes, *, late: bool = True) -> list[float]:
    """What runs have cost, sorted; without late ones those whose failures were seen on the way."""
    return sorted(each.cost for each in found["orchestrator"] if late or not each.late)


def percentile(values: Sequence[float], share: float) -> float:
    """The least of the sorted values that as large a share of them does not exceed; of none, 0."""
    if not values:
        return 0.0
    return values[max(math.ceil(share * len(values)) - 1, 0)]


def relative(found: Outcomes, of: Callable[[Sequence[float]], float]) -> float | None:
    """Skill as a share of the oracle's median; a run without a model has reached none."""
    known = [each.skill for each in found.get("oracle", ()) if each.skill is not None]
    ours = [each.skill or 0.0 if each.passed else 0.0 for each in found["orchestrator"]]
    if not known or not statistics.median(known) > 0:
        return None
    return of(ours) / statistics.median(known)


BARS = (
    Bar("repairable", "median skill over the oracle's",
        lambda found: relative(found, statistics.median), 0.9, at_least=True),
    Bar("repairable", "least skill over the oracle's",
        lambda found: relative(found, min), 0.7, at_least=True),
    Bar("repairable", "mean cost", lambda found: statistics.fmean(costs(found)), 1.3),
    Bar("repairable", "95th percentile of the cost where it showed before an end",
        lambda found: percentile(costs(found, late=False), 0.95), 2.0),
    Bar("repairable", "95th percentile of the cost",
        lambda found: percentile(costs(found), 0.95), 2.5),
    Bar("repairable", "greatest cost", lambda found: costs(found)[-1], 3.0),
    Bar("healthy", "restarts",
        lambda found: sum(each.attempts - 1 for each in found["orchestrator"]), 0),
    Bar("healthy", "runs that did not pass",
        lambda found: sum(not each.passed for each in found["orchestrator"]), 0),
    Bar("hopeless", "greatest cost", lambda found: costs(found)[-1], 0.1, late=1.1),
)  # fmt: skip


def block(name: str, case: Case, found: Outcomes) -> Iterator[str]:
    """The lines of a case."""
    seeds = len(found["orchestrator"])
    half = case.half.replace("_", " ")
    yield f"{name}: {case.about}; {case.kind}, {half}, {case.epochs} epochs, {seeds} base seeds"
    for way, outcomes in found.items():
        yield line(way, outcomes)


def line(way: str, outcomes: Sequence[Outcome]) -> str:
    passed = [each for each in outcomes if each.passed]
    spent = sorted(each.cost for each in outcomes)
    skills = sorted(each.skill for each in passed if each.skill is not None)
    known = [each.reference for each in outcomes if each.reference is not None]
    shown = [f"{each:6.3f}" for each in (skills[0], statistics.median(skills))] if skills else ["–"]
    reference = f"{statistics.median(known):.3f}" if known else "–"
    return (
        f"  {way:12} passed {len(passed):2}/{len(outcomes):<2}  "
        f"cost {statistics.fmean(spent):5.2f} (95% {percentile(spent, 0.95):5.2f}, "
        f"worst {spent[-1]:5.2f})  skill least/median {' / '.join(shown)} (reference {reference})  "
        f"{statistics.fmean(each.seconds for each in outcomes):5.1f} s"
    )


def summary(cases: Mapping[str, Case], found: Mapping[str, Outcomes]) -> Iterator[str]:
    """For each half and each bar on how many cases it holds, and where it does not."""
    for half in ("tuned", "held_out"):
        of_half = {name: cases[name] for name in found if cases[name].half == half}
        if not of_half:
            continue
        yield f"{half.replace('_', ' ')}, {len(of_half)} cases"
        for bar in BARS:
            values = {
                name: value
                for name, case in of_half.items()
                if case.kind == bar.kind and (value := bar.measure(found[name])) is not None
            }
            if not values:
                continue
            wrong = [name for name, value in values.items() if not bar.holds(cases[name], value)]
            told = ", ".join(f"{name} {values[name]:.2f}" for name in wrong)
            limit = f"{'≥' if bar.at_least else '≤'} {bar.limit:g}"
            limit += f", {bar.late:g} where it shows at the end" if bar.late is not None else ""
            yield (
                f"  {bar.kind}: {bar.what} {limit}: {len(values) - len(wrong)} of {len(values)}"
                + (f"; not {told}" if told else "")
            )
