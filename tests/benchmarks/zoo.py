"""Every healthy model of the zoo, and each of its broken twins, through whole runs.

    python tests/benchmarks/zoo.py [NAME …]

For each model: what it reaches in plain Keras by its own yardstick, beside what counts as healthy;
the attempts of a run, of which one is right; what its skill was found to be, or why that is not
judged; and by which check each twin failed: one whose output is held constant, one with a dead
layer, one with a weight that is not a number. Ends with 1 where a healthy model failed or was
restarted, or a twin passed or failed by another check. All of them take about half an hour.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click

from tests import builders, zoo
from tests.zoo import RUN_FAILS, Specimen


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Print a line for each model, or for those of these NAMES."""
    unknown = set(names) - {specimen.name for specimen in zoo.ALL}
    if unknown:
        raise click.BadParameter(f"no model is called {', '.join(sorted(unknown))}")
    wrong = 0
    for specimen in zoo.ALL:
        if not names or specimen.name in names:
            wrong += not _is_right(specimen)
    sys.exit(bool(wrong))


def _is_right(specimen: Specimen) -> bool:
    """Look at one model and its twins, and print what came of it."""
    start = time.perf_counter()
    worth = specimen.worth(specimen.fit())
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:
        _, record = specimen.retrain(runs_dir=Path(folder))
        failures = {
            twin: _failure(specimen.retrain(twin, runs_dir=Path(folder))[1])
            for twin in specimen.twins
        }
    healthy = worth >= specimen.least
    passed = record["status"] == "passed" and len(record["attempts"]) == 1
    told = all(RUN_FAILS[twin] == check for twin, check in failures.items())
    sign = "≥" if healthy else "BELOW"
    found = ", ".join(f"{twin}: {check}" for twin, check in failures.items())
    click.echo(
        f"{specimen.name:26} {worth:6.3f} {sign} {specimen.least:<4} {specimen.yardstick:45} "
        f"{record['status']} at {len(record['attempts'])}{'' if passed else ' WRONG'}  "
        f"{_skill(record):60} {found}{'' if told else ' WRONG'}  "
        f"{time.perf_counter() - start:.0f} s"
    )
    for attempt in record["attempts"]:
        for phase in attempt["phases"]:
            for check in phase["checks"]:
                if check["verdict"] in ("fail", "warn") and phase["phase"] != "init":
                    click.echo(f"{'':26} {check['check']} {check['verdict']}: {check['reason']}")
    for warning in record.get("warnings", []):
        click.echo(f"{'':26} warning: {warning}")
    return healthy and passed and told


def _failure(record: dict[str, Any]) -> str:
    """The check by which the first attempt failed."""
    failure = record["attempts"][0].get("failure")
    return "passed" if failure is None else str(failure["check"])


def _skill(record: dict[str, Any]) -> str:
    """Skill of the outputs at the end, or why it is not judged."""
    for check in record["attempts"][-1]["phases"][-1]["checks"]:
        if check["check"] == "prediction_variance":
            outputs = check["measured"]["outputs"]
            found = [each["skill"] for each in outputs if each.get("skill") is not None]
            if found:
                more = f" … {max(found):.2f}" if len(found) > 1 else ""
                return f"skill {min(found):.2f}{more}"
            return next((each["unjudged"] for each in outputs if each.get("unjudged")), "no skill")
    return ""


if __name__ == "__main__":
    main()
