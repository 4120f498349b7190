"""Whether another order of the default policy's remedies is better, by `orchestrate tune`.

    python -m tests.benchmarks.restarts.search [--seeds 3] [--jobs 1] [--runs-dir DIR] [CASE …]

For each case that may be tuned by, a search over whole policies with KerasTuner's grid: the default
one, and the default one with one remedy moved to the front of every entry that has it. The score is
cost − 5 × skill, mean over the base seeds; costs are in trainings. At the end the mean of each
policy over all cases.
"""

from __future__ import annotations

import collections
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from orchestrator.config import yaml12
from orchestrator.config.sections.default_policy import DEFAULT_POLICY
from tests.benchmarks.restarts.case import Case
from tests.benchmarks.restarts.cases import CASES

_MOVED = ("new_seed", "leaky_relu", "lower_learning_rate")
_DEFAULT = "default"


def moved(remedy: str) -> list[Any]:
    """The default policy with a remedy first wherever it is one of several."""
    return [
        {**entry, "rungs": sorted(entry["rungs"], key=lambda rung: rung["remedy"] != remedy)}
        if len(entry.get("rungs", ())) > 1
        else entry
        for entry in DEFAULT_POLICY
    ]


def policies() -> dict[str, Any]:
    """What is searched, by its name; null is the default policy."""
    return {_DEFAULT: None, **{f"{remedy} first": moved(remedy) for remedy in _MOVED}}


def search(case: Case, folder: Path, runs: Path, seeds: int, jobs: int) -> dict[str, list[Any]]:
    """The runs of each policy, as the search's record has them."""
    choices = policies()
    tune = {
        "tuner": "grid",
        "objective": [{"measure": "cost"}, {"measure": "skill", "weight": 5.0}],
        "max_trials": len(choices),
        "seeds": seeds,
        "fresh_seeds": 0,
        "cut": False,
        "space": {"restart.policy": {"choice": [*choices.values()]}},
    }
    path = folder / "case.yaml"
    path.write_text(yaml12.dump(case.document(0, tune=tune)))
    command = [sys.executable, "-m", "orchestrator", "tune", str(path), "--json"]
    command += ["--runs-dir", str(runs), "--jobs", str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 3):
        raise click.ClickException(done.stderr)
    names = {json.dumps(policy): name for name, policy in choices.items()}
    found: dict[str, list[Any]] = {}
    for trial in json.loads(done.stdout)["trials"]:
        policy = trial["values"].get("restart.policy")
        found[names.get(json.dumps(policy), _DEFAULT)] = trial["runs"]
    return found


@click.command()
@click.option("--seeds", default=3, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Runs made at a time.")
@click.option("--runs-dir", type=click.Path(path_type=Path), help="Keeps the searches.")
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)))
def main(cases: Sequence[str], seeds: int, jobs: int, runs_dir: Path | None) -> None:
    """Print a row a case: score, cost and skill of each policy."""
    tuned = [
        name for name, case in CASES.items() if (case.half, case.kind) == ("tuned", "repairable")
    ]
    scores: dict[str, list[float]] = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for module in ("rows", "networks"):
            shutil.copy(Path(__file__).with_name(f"{module}.py"), folder)
        for name in cases or tuned:
            found = search(CASES[name], folder, runs_dir or folder / "runs", seeds, jobs)
            told = []
            for policy, runs in found.items():
                cost = statistics.mean(run["cost"] for run in runs)
                skill = statistics.mean(run["skill"] or 0.0 for run in runs)
                scores[policy].append(cost - 5 * skill)
                told.append(f"{policy} {cost:.2f} / {skill:.3f}")
            click.echo(f"{name}: {', '.join(told)}")
    for policy, each in scores.items():
        click.echo(f"{policy}: {statistics.mean(each):.3f} over {len(each)} cases")


if __name__ == "__main__":
    main()
