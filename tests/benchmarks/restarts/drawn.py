"""Networks drawn at random, most of which fail: how many reach what the best settings known learn.

    python -m tests.benchmarks.restarts.drawn [--networks 100] [--from 0] [--jobs 1] [--save FILE]

The cases of `python -m tests.benchmarks.restarts` were written one by one; these are drawn: rows,
loss, network, initial weights, output, optimizer, rate, batch size, epochs, and phases at another
rate, each usual or not. The best settings known are the best of five: the same network with a right
output, usual initial weights and scaled rows, trained by Adam at two rates and by SGD, with relu
and with leaky relu, for the same epochs. One network is one base seed, its own number.

Told of each are cost, skill, the best known skill and what was tried; at the end the counts.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np

from tests.benchmarks.restarts import trials
from tests.benchmarks.restarts.case import Case, Layers, adam, compiled, dense, epochs, rows
from tests.benchmarks.restarts.repairable import BINARY, SPARSE
from tests.benchmarks.restarts.trials import Laboratory, Outcome

USUAL = {"SGD": 0.01, "Adam": 0.001, "RMSprop": 0.001, "AdamW": 0.001, "Adagrad": 0.01}
"""Learning rates, as in orchestrator's finding `unusual_rate` or below."""

STARTS: list[dict[str, Any]] = [
    {"kernel_initializer": {"RandomNormal": {"stddev": 0.05}}},
    {"kernel_initializer": {"RandomNormal": {"stddev": 1.0}}},
    {"kernel_initializer": {"RandomNormal": {"mean": -0.5, "stddev": 0.2}}},
    {"kernel_initializer": {"RandomUniform": {"minval": -1.0, "maxval": 0.0}}},
    {"bias_initializer": {"Constant": {"value": -3.0}}},
    {"bias_initializer": {"RandomNormal": {"stddev": 1.0}}},
]
ALMOST_ALL = 0.97
"""A skill that makes it needless to try further settings."""
ENOUGH, LEAST = 0.9, 0.7
"""What the benchmark asks of the median and of the least skill, as parts of the best known."""


class _Draw:
    """One network, drawn from its number."""

    def __init__(self, number: int) -> None:
        self._random = np.random.default_rng([19, number])
        self.data, self.loss, self.ends, self.end = self._problem()
        self.depth = int(self._random.integers(1, 7))
        self.width = int(2 ** self._random.integers(1, 8))
        self.activation = self._one(["relu"] * 8 + ["tanh", "elu", "leaky_relu"])
        self.start = self._one(STARTS) if self._happens(0.2) else {}
        self.norm, self.dropout = self._happens(0.15), self._happens(0.1)
        self.wrong_end = self._wrong_end() if self._happens(0.2) else self.end
        self.optimizer = self._optimizer()
        self.phases = self._phases()
        self.batch_size = int(2 ** self._random.integers(4, 9))

    def _one(self, choices: Sequence[Any]) -> Any:
        return choices[int(self._random.integers(len(choices)))]

    def _happens(self, chance: float) -> bool:
        return bool(self._random.uniform() < chance)

    def _problem(self) -> tuple[dict[str, Any], str, int, str]:
        """Rows, a loss, and an output that fits them."""
        name = self._one(["regression"] * 5 + ["moved"] * 2 + ["circles", "classes", "images"])
        if name == "circles":
            return rows("circles"), BINARY, 1, "sigmoid"
        if name == "classes":
            data = self._one([("blobs", 10), ("unequal_blobs", 3)])
            return rows(data[0]), SPARSE, data[1], "softmax"
        if name == "images":
            return rows("images", pixels=self._happens(0.5)), SPARSE, 4, "softmax"
        loss = self._one(["mse", "mse", "mae", "huber"])
        if name == "moved":
            mean = float(self._one([-1, 1]) * 10 ** self._random.uniform(0.5, 3))
            scale = float(10 ** self._random.uniform(-2, 2))
            return rows("moved", mean=round(mean, 1), scale=round(scale, 3)), loss, 1, "linear"
        data = [rows("absolute", columns=columns) for columns in (1, 2, 4)]
        others = [rows(each) for each in ("linear", "unscaled", "offset", "sequences")]
        return self._one(data + others), loss, 1, "linear"

    def _wrong_end(self) -> str:
        wrong = {"linear": ["relu", "tanh", "sigmoid"], "sigmoid": ["relu", "linear", "tanh"]}
        chosen: str = self._one(wrong.get(self.end, ["relu", "linear"]))
        return chosen

    def _optimizer(self) -> dict[str, Any]:
        name = self._one(["SGD"] * 4 + ["Adam"] * 3 + ["RMSprop", "AdamW", "Adagrad"])
        width = 3.0 if self._happens(0.6) else 0.3
        rate = USUAL[name] * 10 ** self._random.uniform(-width, width)
        given = {"learning_rate": float(f"{rate:.2g}")}
        return {name: given | ({"momentum": 0.9} if name == "SGD" and self._happens(0.2) else {})}

    def _phases(self) -> list[dict[str, Any]]:
        phases = epochs(int(self._random.integers(4, 40)))
        if self._happens(0.15):
            [given] = self.optimizer.values()
            shock = given["learning_rate"] * 10 ** self._random.uniform(1, 3)
            phases += [{"name": "shock", "epochs": 3, "learning_rate": float(f"{shock:.2g}")}]
            phases += [{"name": "after", "epochs": int(self._random.integers(4, 20))}]
        return phases

    def model(self, activation: str, end: str, **start: Any) -> dict[str, Any]:
        layers: Layers = []
        if self.data["callable"].endswith("images"):
            layers += [
                {"Conv2D": {"filters": 8, "kernel_size": 3, "activation": activation, **start}},
                {"Flatten": {}},
            ]
        if self.data["callable"].endswith("sequences"):
            layers += [{"GRU": {"units": 16}}]
        for _ in range(self.depth):
            layers.append({"Dense": {"units": self.width, **start}})
            layers += [{"BatchNormalization": {}}] if self.norm else []
            layers.append({"Activation": {"activation": activation}})
            layers += [{"Dropout": {"rate": 0.2}}] if self.dropout else []
        return {"layers": [*layers, dense(self.ends, end)]}


def case(number: int) -> Case:
    """The network of this number, as it fails or does not."""
    drawn = _Draw(number)
    words = [drawn.data["callable"], drawn.data["kwargs"], drawn.loss, f"batch {drawn.batch_size}"]
    words += [f"{drawn.depth}×{drawn.width} {drawn.activation}", drawn.wrong_end, drawn.optimizer]
    words += [drawn.start, "normed" * drawn.norm, "dropout" * drawn.dropout]
    told = [each for each in words if each] + [[each["epochs"] for each in drawn.phases]]
    return Case(
        about=", ".join(map(str, told)),
        half="held_out",
        model=drawn.model(drawn.activation, drawn.wrong_end, **drawn.start),
        phases=drawn.phases,
        data=drawn.data,
        optimizer=drawn.optimizer,
        loss=drawn.loss,
        batch_size=drawn.batch_size,
    )


def known(number: int) -> Iterator[tuple[str, Case]]:
    """The same network with settings that are known to be good, by their names."""
    drawn = _Draw(number)
    # Scaled targets are the same targets; so are those of `absolute`.
    moved = drawn.data["callable"].endswith("moved")
    data: dict[str, Any] = {"train": rows("absolute", columns=2) if moved else drawn.data}
    if not drawn.data["callable"].endswith("sequences"):
        data["standardize"] = True
    momentum = {"SGD": {"learning_rate": 0.01, "momentum": 0.9}}
    leaky = ("leaky_relu", "he_normal")
    plain = (drawn.activation, "he_normal" if drawn.activation == "relu" else "glorot_uniform")
    for name, (activation, start), optimizer in (
        ("Adam 0.003", plain, adam(0.003)),
        ("Adam 0.01", plain, adam(0.01)),
        ("SGD 0.01 with momentum", plain, momentum),
        ("leaky, Adam 0.003", leaky, adam(0.003)),
        ("leaky, Adam 0.01", leaky, adam(0.01)),
    ):
        settings = {
            "model": drawn.model(activation, drawn.end, kernel_initializer=start),
            "compile": compiled(optimizer, drawn.loss),
            "phases": [
                {key: each[key] for key in ("name", "epochs") if key in each}
                for each in drawn.phases
            ],
            "data": data,
        }
        yield name, dataclasses.replace(case(number), known=settings)


@dataclasses.dataclass(frozen=True)
class Found:
    """What a drawn network came to, and the best that is known of it."""

    number: int
    about: str
    run: Outcome
    best: float | None
    """Skill of the best of the settings known."""
    best_by: str

    @property
    def share(self) -> float | None:
        """Skill, as a part of the best known."""
        if self.best is None or self.best <= 0 or self.run.skill is None:
            return None
        return self.run.skill / self.best

    def told(self) -> str:
        numbers = ["–" if each is None else f"{each:.3f}" for each in (self.run.skill, self.best)]
        skills = f"skill {numbers[0]} of {numbers[1]} ({self.best_by})"
        return (
            f"{self.number}: cost {self.run.cost:.2f}, {skills}: {self.about}\n    {self.run.story}"
        )


def measure(laboratory: Laboratory, number: int) -> Found:
    """Run the network, and train it with the settings known."""
    run = laboratory.try_out(case(number), number, "orchestrator")
    best, best_by = None, "none"
    for name, settings in known(number):
        skill = laboratory.try_out(settings, number, "oracle").skill
        if skill is not None and (best is None or skill > best):
            best, best_by = skill, name
        if best is not None and best >= ALMOST_ALL:
            break
    return Found(number, case(number).about, run, best, best_by)


@click.command()
@click.option("--networks", default=100, show_default=True)
@click.option("--from", "first", default=0, show_default=True)
@click.option("--jobs", default=1, show_default=True, help="Networks measured at a time.")
@click.option("--save", type=click.Path(path_type=Path), help="Write what was found as JSON lines.")
@click.argument("numbers", nargs=-1, type=int)
def main(numbers: Sequence[int], networks: int, first: int, jobs: int, save: Path | None) -> None:
    """Print a line for each network, and the counts."""
    found: list[Found] = []
    with trials.laboratory() as laboratory, ThreadPoolExecutor(jobs) as pool:
        chosen = numbers or range(first, first + networks)
        for each in pool.map(lambda number: measure(laboratory, number), chosen):
            found.append(each)
            click.echo(each.told())
            if save is not None:
                with save.open("a") as stream:
                    stream.write(json.dumps(dataclasses.asdict(each)) + "\n")
    for line in summary(found):
        click.echo(line)


def summary(found: Sequence[Found]) -> Iterator[str]:
    """How many failed, and what became of those."""
    judged = [each for each in found if each.share is not None and (each.best or 0) >= 0.1]
    for name, group in (
        ("not restarted", [each for each in judged if each.run.passed and each.run.attempts == 1]),
        ("restarted and passed", [e for e in judged if e.run.passed and e.run.attempts > 1]),
        ("exhausted", [each for each in judged if not each.run.passed]),
    ):
        if not group:
            continue
        shares = sorted(each.share or 0.0 for each in group)
        cost = statistics.mean(each.run.cost for each in group)
        enough = sum(share >= ENOUGH for share in shares)
        least = sum(share >= LEAST for share in shares)
        yield (
            f"{name}: {len(group)}, mean cost {cost:.2f}, at least {ENOUGH} of the best known: "
            f"{enough}, at least {LEAST}: {least}, median {statistics.median(shares):.2f}"
        )


if __name__ == "__main__":
    main()
