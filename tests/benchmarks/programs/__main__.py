"""What becomes of programs as people ask about them.

    python -m tests.benchmarks.programs [--half tuned|held_out] [--save FILE] [NAME …]

Each is trained once as people write it, once as they would be told to, and taken through a whole
run. Told of each are attempts and cost in trainings, and three scores, of 1 at best and 0 for a
constant: what plain Keras makes of it, what the run made of it, and what is known to be possible;
and what the run says. A repairable program is right with 0.9 of what is known at a cost of 2.5 at
most, a healthy one with one attempt, a hopeless one where it does not pass and cost 0.2 at most.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import keras

from orchestrator import retrain
from orchestrator.errors import InvalidError
from tests import builders
from tests.benchmarks.programs import held_out, tuned  # noqa: F401  they enlist themselves
from tests.benchmarks.programs.program import ALL, Listed, Program
from tests.benchmarks.restarts.trials import trained_epochs

ENOUGH, DEAR, AT_ONCE = 0.9, 2.5, 0.2


@dataclasses.dataclass(frozen=True)
class Found:
    """What became of a program."""

    name: str
    half: str
    end: str
    status: str
    attempts: int
    cost: float
    plain: float
    run: float | None
    known: float
    said: str
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether it became of it what must."""
        if self.end == "hopeless":
            return self.status in ("exhausted", "invalid") and self.cost <= AT_ONCE
        if self.end == "healthy":
            return self.status == "passed" and self.attempts == 1
        enough = self.run is not None and self.run >= ENOUGH * self.known
        return enough and self.cost <= DEAR

    def told(self) -> str:
        run = "     –" if self.run is None else f"{self.run:6.3f}"
        sign = "right" if self.is_right else "WRONG"
        return (
            f"{self.name:24} {self.end:10} {self.status:10} at {self.attempts} "
            f"cost {self.cost:4.2f}  {self.plain:6.3f} → {run} of {self.known:5.3f}  {sign}  "
            f"{self.seconds:3.0f} s  {self.said}"
        )


def plain(program: Program) -> float:
    """The score of a training with nothing beside it."""
    keras.utils.set_random_seed(0)
    model = program.build()
    model.fit(program.x, program.y, epochs=program.epochs, batch_size=program.batch_size, verbose=0)
    return program.judge(model)


def measure(listed: Listed) -> Found:
    """Take a program through a run."""
    program, known = listed.make(False), listed.make(True)
    start = time.perf_counter()
    model, record = _run(program)
    attempts = record["attempts"]
    return Found(
        name=listed.name,
        half=listed.half,
        end=listed.end,
        status=record["status"],
        attempts=len(attempts),
        cost=sum(map(trained_epochs, attempts)) / program.epochs,
        plain=plain(program),
        run=None if model is None else program.judge(model),
        known=plain(known),
        said=_said(record),
        seconds=time.perf_counter() - start,
    )


def _run(program: Program) -> tuple[keras.Model | None, dict[str, Any]]:
    """What `retrain` makes of a program; refused, it is a run without attempts."""
    with tempfile.TemporaryDirectory(dir=builders.MEMORY) as folder:
        try:
            return retrain(
                program.build,
                program.x,
                program.y,
                phases=[{"name": "main", "epochs": program.epochs}],
                batch_size=program.batch_size,
                runs_dir=Path(folder),
                quiet=True,
            )
        except InvalidError as error:
            return None, {"status": "invalid", "attempts": [], "conclusion": str(error)}


def _said(record: dict[str, Any]) -> str:
    """What was tried, what failed last, and what that points to."""
    attempts = record["attempts"]
    if not attempts:
        return str(record["conclusion"])
    remedies = [each["remedy"] for each in attempts if each["remedy"]]
    failure = attempts[-1]["failure"]
    causes = dict.fromkeys(each["cause"] for each in attempts[-1]["findings"])
    told = " → ".join(["start", *remedies])
    told += "" if failure is None else f" | {failure['check']}"
    return told + (f" [{', '.join(causes)}]" if causes else "")


@click.command()
@click.option("--half", type=click.Choice(["tuned", "held_out"]), help="Only these.")
@click.option("--save", type=click.Path(path_type=Path), help="Write what was found as JSON lines.")
@click.argument("names", nargs=-1)
def main(half: str | None, save: Path | None, names: Sequence[str]) -> None:
    """Print a line for each program, and how many are right."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        raise click.BadParameter(f"no program is called {', '.join(unknown)}")
    found: list[Found] = []
    for each in ALL.values():
        if (half and each.half != half) or (names and each.name not in names):
            continue
        found.append(measure(each))
        click.echo(found[-1].told())
        if save is not None:
            with save.open("a") as stream:
                stream.write(json.dumps(dataclasses.asdict(found[-1])) + "\n")
    for group in ("tuned", "held_out"):
        for end in ("repairable", "healthy", "hopeless"):
            of = [each for each in found if (each.half, each.end) == (group, end)]
            if of:
                right = sum(each.is_right for each in of)
                cost = sum(each.cost for each in of) / len(of)
                click.echo(f"{group} {end}: {right} of {len(of)} right, mean cost {cost:.2f}")


if __name__ == "__main__":
    main()
