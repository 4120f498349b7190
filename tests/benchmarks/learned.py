"""The check `learned` on healthy networks, and on each of them broken; and the reference's time.

    python tests/benchmarks/learned.py [NAME …]
    python tests/benchmarks/learned.py --time

For each network of tests/learners.py: its verdict, and share, skill and reference of each output;
and by which check it fails once its last layer hears next to nothing. Ends with 1 where a healthy
network failed, or a broken one did not; and, of all, where the check was applicable to fewer than
30. Takes about five minutes. With `--time`: processor seconds of the reference, on one core.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "--time" in sys.argv:
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import click
import numpy as np

from orchestrator.diagnosis.skill.reference import fit_reference
from tests import learners
from tests.learners import Learner

SIZES = ((1_000, 10), (10_000, 100), (10_000, 300), (10_000, 784), (60_000, 784), (5_000, 3_000))
"""Rows and columns whose reference is timed."""
ENOUGH = 30


@click.command()
@click.argument("names", nargs=-1)
@click.option("--time", "timed", is_flag=True, help="Time the reference.")
def main(names: tuple[str, ...], timed: bool) -> None:
    """Print a line for each network, or for those of these NAMES."""
    if timed:
        for rows, columns in SIZES:
            _time(rows, columns)
        return
    chosen = [each for each in learners.ALL if not names or each.name in names]
    found = [_look(each) for each in chosen]
    applicable = sum(is_applicable for _, is_applicable in found)
    click.echo(f"{len(chosen)} networks, applicable to {applicable}")
    right = all(is_right for is_right, _ in found)
    sys.exit(not right or (not names and applicable < ENOUGH))


def _look(learner: Learner) -> tuple[bool, bool]:
    """Whether a network and its broken twin are judged as they should; and whether they can be."""
    start = time.perf_counter()
    model, losses = learner.trained()
    x, y = learner.drawn()
    judge = learners.Judge(model, x, y)
    checks = judge.checks(losses)
    check = learners.learned(checks)
    failed = [each.check for each in checks.values() if each.verdict == "fail"]
    learners.shrink(model, x, learner.twin)
    broken = [each.check for each in judge.checks().values() if each.verdict == "fail"]
    told = "; ".join(
        f"share {each.share:.2f}, skill {each.skill:.2f} of {each.reference:.2f}"
        + (f" (linear {each.linear:.2f})" if each.linear is not None else "")
        if each.share is not None
        else str(each.unjudged)
        for each in check.measured.outputs
    )
    wrong = ("" if not failed else f" FAILED {failed}") + ("" if broken else " TWIN PASSED")
    click.echo(
        f"{learner.name:26} {check.verdict:14} {told}; broken: {', '.join(broken)}{wrong}  "
        f"{time.perf_counter() - start:.0f} s"
    )
    return not wrong, check.share() is not None


def _time(rows: int, columns: int) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(size=(rows, columns)).astype("float32")
    y = np.abs(x[:, :1]) + x[:, 1:2] + 0.3 * draw.normal(size=(rows, 1))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        fit_reference(x, y)
        seconds.append(time.process_time() - start)
    click.echo(f"{rows:6,} × {columns:<5} {min(seconds):.3f} to {max(seconds):.3f} s")


if __name__ == "__main__":
    main()
