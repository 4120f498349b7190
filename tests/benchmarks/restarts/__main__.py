"""What restarts cost and reach on networks that fail, against reseeding and against an oracle.

    python -m tests.benchmarks.restarts [--seeds 20] [--from 0] [--set tuned|held_out|all]
        [--baselines 20] [--reseeding] [--without NAME …] [--jobs 1] [--stories] [--save FILE]
        [CASE …]

For each case and base seed: a run with the default policy; an oracle, which trains once with the
best settings known; and with `--reseeding` training to the end and then from another seed, up to as
many attempts, judged by the same checks. Costs are in trainings: epochs that were really trained,
divided by those of one full training; what an attempt inherits by going on from another's snapshot
is not counted, what the losers of a race have trained is. Every candidate seed that was screened
counts as a third of an epoch, which is more than it takes: of nine layers of two units and a
thousand rows 11 ms, where an epoch takes 41.
Seconds are those of the attempts, with building and tracing, without the start of the program.
Skills are those of the check `learned` where it applies, beside what its closed form learns.

At the end, for the cases that policies may be tuned by and for those held out: on how many of them
holds what is asked of repairs, of healthy networks and of certain ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from tests.benchmarks.restarts import trials
from tests.benchmarks.restarts.cases import CASES
from tests.benchmarks.restarts.table import block, summary
from tests.benchmarks.restarts.trials import Outcome, Way


@click.command()
@click.option("--seeds", default=20, show_default=True)
@click.option("--from", "first", default=0, show_default=True)
@click.option(
    "--set", "half", type=click.Choice(["tuned", "held_out", "all"]), default="all",
    show_default=True, help="Which cases, where none is named.",
)  # fmt: skip
@click.option("--baselines", type=int, help="So many seeds for the others; default all.")
@click.option("--reseeding", is_flag=True, help="Measure reseeding, too.")
@click.option(
    "--without", multiple=True, help="Switch off race, rewind, a remedy, or momentum; repeatable."
)
@click.option("--jobs", default=1, show_default=True, help="Runs made at a time.")
@click.option("--stories", is_flag=True, help="Print what each run tried.")
@click.option("--save", type=click.Path(path_type=Path), help="Write every outcome as JSON.")
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)))
def main(
    cases: Sequence[str],
    seeds: int,
    first: int,
    half: str,
    baselines: int | None,
    reseeding: bool,
    without: Sequence[str],
    jobs: int,
    stories: bool,
    save: Path | None,
) -> None:
    """Print a table for each case, and what holds on how many of them."""
    chosen = cases or [name for name, case in CASES.items() if half in (case.half, "all")]
    base = range(first, first + seeds)
    ways: dict[Way, range] = {"orchestrator": base}
    if reseeding:
        ways["reseeding"] = base[:baselines]
    ways["oracle"] = base[:baselines]
    found: dict[str, dict[Way, list[Outcome]]] = {}
    with trials.laboratory(without) as laboratory, ThreadPoolExecutor(jobs) as pool:
        for name in chosen:
            case = CASES[name]
            asked = {
                way: [pool.submit(laboratory.try_out, case, seed, way) for seed in ways[way]]
                for way in ways
                if way == "orchestrator" or case.kind == "repairable"
            }
            found[name] = {way: [each.result() for each in asked[way]] for way in asked}
            for told in block(name, case, {way: each for way, each in found[name].items() if each}):
                click.echo(told)
            for each in found[name]["orchestrator"] if stories else ():
                skill = "–" if each.skill is None else f"{each.skill:.3f}"
                click.echo(f"    {each.seed}: cost {each.cost:.2f}, skill {skill}: {each.story}")
            if save is not None:
                trials.save(save, found)
    for told in summary(CASES, found):
        click.echo(told)


if __name__ == "__main__":
    main()
