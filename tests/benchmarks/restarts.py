"""What restarts cost and reach on networks that die, against reseeding and against an oracle.

    python tests/benchmarks/restarts.py [--seeds 20] [--baselines 20] [--from 0] [CASE …]
    python tests/benchmarks/restarts.py --stopping

For each case and base seed: a run with the default policy; training to the end and then reseeding,
up to as many attempts, judged by the same checks; and an oracle that trains once with settings
known to work. Costs are in trainings: epochs × rows, divided by those of one full training; every
candidate seed that was screened counts as half an epoch, which is more than it takes: a forward
pass is a third of a training step, and a candidate takes one over all rows, or over the first 256
where a live path shows at once. Seconds are those of the attempts, with building and tracing,
without the start of the program.

With `--stopping`: what looking for a dead network at the end of every epoch costs, as a share of
the epoch's time, in pairs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import click
import numpy as np

from orchestrator.config import document
from orchestrator.config import load as configs
from orchestrator.config.schema import Config
from orchestrator.policy.rule import derive_seed
from orchestrator.record.encoding import jsonable
from orchestrator.training import launch as launcher

ROWS = 1000
MAX_ATTEMPTS = 8

DATA = """
import numpy as np

def absolute(count=1000, columns=1):
    x = np.random.default_rng(0).uniform(-3**0.5, 3**0.5, (count, columns))
    return x, np.abs(x).sum(axis=1)

def linear(count=1000):
    x = np.random.default_rng(0).uniform(-3**0.5, 3**0.5, (count, 2))
    return x, x @ np.array([1.0, -2.0])

def negative(count=1000):
    x, y = absolute(count)
    return x, -1 - y

def circles(count=1000):
    draw = np.random.default_rng(0)
    inner = np.arange(count) % 2
    angle, radius = draw.uniform(0, 2 * np.pi, count), 1 - 0.5 * inner + draw.normal(0, 0.05, count)
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), inner

def noise(count=1000):
    draw = np.random.default_rng(0)
    return draw.normal(size=(count, 3)), draw.normal(size=count)

def unscaled(count=1000):
    x, y = absolute(count, 2)
    return x * np.array([1e5, 1.0]), y

def distant(count=1000):
    x, y = absolute(count)
    return x, 10_000 + y

def weak(count=1000):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(count, 5))
    return x, 0.1 * x[:, 0] + draw.normal(size=count)

def rare(count=1000):
    draw = np.random.default_rng(0)
    x = draw.normal(size=(count, 5))
    return x, (x[:, 0] + 0.3 * draw.normal(size=count) > 2.3).astype(int)

def blobs(count=1000, classes=10, columns=20):
    draw = np.random.default_rng(0)
    centers, y = 1.5 * draw.normal(size=(classes, columns)), np.arange(count) % classes
    return centers[y] + draw.normal(size=(count, columns)), y
"""


def stack(depth: int, width: int, **hidden: Any) -> list[dict[str, Any]]:
    layer = {"units": width, "activation": "relu", "kernel_initializer": "he_normal", **hidden}
    return [{"Dense": layer}] * depth + [{"Dense": {"units": 1}}]


@dataclasses.dataclass(frozen=True)
class Case:
    """A network that dies, or one that does not."""

    about: str
    layers: list[dict[str, Any]]
    phases: list[dict[str, Any]]
    data: str = "absolute"
    optimizer: dict[str, Any] = dataclasses.field(default_factory=dict)
    loss: str = "mse"
    known: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Settings known to work, laid over the config; none where a lucky seed is enough."""
    hopeless: bool = False
    """Whether nothing can help."""

    @property
    def epochs(self) -> int:
        return sum(phase["epochs"] for phase in self.phases)

    def document(self, seed: int, **changes: Any) -> dict[str, Any]:
        return {
            "seed": seed,
            "data": {"train": {"callable": f"rows:{self.data}"}},
            "model": {"layers": self.layers},
            "compile": {
                "optimizer": self.optimizer or {"Adam": {"learning_rate": 0.003}},
                "loss": self.loss,
            },
            "batch_size": 64,
            "phases": self.phases,
            "restart": {"max_attempts": MAX_ATTEMPTS},
            **changes,
        }


def adam(rate: float) -> dict[str, Any]:
    return {"Adam": {"learning_rate": rate}}


def sgd(rate: float) -> dict[str, Any]:
    return {"SGD": {"learning_rate": rate}}


def main_phase(epochs: int) -> list[dict[str, Any]]:
    return [{"name": "main", "epochs": epochs}]


def shock(rate: float) -> list[dict[str, Any]]:
    return [
        {"name": "before", "epochs": 50},
        {"name": "shock", "epochs": 3, "learning_rate": rate},
        {"name": "after", "epochs": 47},
    ]


SIGMOID = [*stack(4, 32)[:-1], {"Dense": {"units": 1, "activation": "sigmoid"}}]
RELU_OUTPUT = [*stack(2, 32)[:-1], {"Dense": {"units": 1, "activation": "relu"}}]
HELD = [*stack(2, 32)[:-1], {"Dense": {"units": 1, "kernel_regularizer": {"L1": {"l1": 100.0}}}}]
SOFTMAX = [*stack(3, 64)[:-1], {"Dense": {"units": 10, "activation": "softmax"}}]
BLOCK: list[dict[str, Any]] = [
    {"Dense": {"units": 32}},
    {"BatchNormalization": {}},
    {"ReLU": {}},
]
NORMED = [*BLOCK * 3, {"Dense": {"units": 1}}]
NEGATIVE = {"RandomUniform": {"minval": -1.0, "maxval": 0.0}}
HE = {"layers": stack(4, 32)}

CASES = {
    "9x5": Case("nine of five, Adam 3e-3", stack(9, 5), main_phase(20)),
    "9x2": Case(
        "nine of two, Adam 1e-3", stack(9, 2), main_phase(30), optimizer=adam(1e-3),
        known={"model": {"layers": stack(9, 2, activation="leaky_relu")}},
    ),
    "healthy": Case("2×32, Adam 1e-2", stack(2, 32), main_phase(20), optimizer=adam(1e-2)),
    "nan": Case(
        "two inputs, SGD 1.0, linear target", stack(2, 32), main_phase(20), data="linear",
        optimizer=sgd(1.0), known={"compile": {"optimizer": sgd(0.01), "loss": "mse"}},
    ),
    "relu_output": Case(
        "relu output, negative targets", RELU_OUTPUT, main_phase(20), data="negative",
        hopeless=True,
    ),
    "bias": Case(
        "4×32, bias −5 on every hidden layer",
        stack(4, 32, bias_initializer={"Constant": {"value": -5.0}}),
        main_phase(20), known={"model": HE},
    ),
    "negative": Case(
        "4×32, all-negative kernels", stack(4, 32, kernel_initializer=NEGATIVE), main_phase(20),
        known={"model": HE},
    ),
    "zero": Case(
        "4×32, zero kernels", stack(4, 32, kernel_initializer="zeros"), main_phase(20),
        known={"model": HE},
    ),
    "shock": Case(
        "4×32, two circles, 3 of 100 epochs at rate 5.0", SIGMOID, shock(5.0), data="circles",
        optimizer=adam(1e-3), loss="binary_crossentropy",
        known={"phases": shock(0.05)},
    ),
    "fast": Case(
        "2×32, Adam 1.0", stack(2, 32), main_phase(20), optimizer=adam(1.0),
        known={"compile": {"optimizer": adam(0.01), "loss": "mse"}},
    ),
    "fast_sgd": Case(
        "4×32, SGD 0.5", stack(4, 32), main_phase(20), optimizer=sgd(0.5),
        known={"compile": {"optimizer": sgd(0.02), "loss": "mse"}},
    ),
    "wide_fast": Case(
        "3×256, Adam 0.1", stack(3, 256), main_phase(20), optimizer=adam(0.1),
        known={"compile": {"optimizer": adam(0.003), "loss": "mse"}},
    ),
    "fixed": Case(
        "9×2, every initializer with a seed of its own",
        stack(9, 2, kernel_initializer={"HeNormal": {"seed": 1}}), main_phase(30),
        optimizer=adam(1e-3), known={"model": {"layers": stack(9, 2, activation="leaky_relu")}},
    ),
    "held": Case(
        "2×32, the last kernel held at zero by L1", HELD, main_phase(20), hopeless=True,
    ),
    "unscaled": Case(
        "2×32, one input of 1e5, Adam 0.1", stack(2, 32), main_phase(20), data="unscaled",
        optimizer=adam(0.1),
        known={"data": {"train": {"callable": "rows:unscaled"}, "standardize": True},
               "compile": {"optimizer": adam(0.01), "loss": "mse"}},
    ),
    "softmax": Case(
        "3×64, ten classes, SGD 5.0", SOFTMAX, main_phase(20), data="blobs", optimizer=sgd(5.0),
        loss="sparse_categorical_crossentropy",
        known={"compile": {"optimizer": sgd(0.1), "loss": "sparse_categorical_crossentropy"}},
    ),
    "normed": Case(
        "3×32 with BatchNormalization, Adam 1.0", NORMED, main_phase(20), optimizer=adam(1.0),
        known={"compile": {"optimizer": adam(0.01), "loss": "mse"}},
    ),
    "weak": Case(
        "2×32, 1% of the variance explainable (healthy)", stack(2, 32), main_phase(20),
        data="weak", optimizer=adam(1e-3),
    ),
    "rare": Case(
        "4×32, 1% of the rows in the class (healthy)", SIGMOID, main_phase(20), data="rare",
        optimizer=adam(1e-3), loss="binary_crossentropy",
    ),
    "distant": Case(
        "2×32, targets of 10,000 ± 0.5", stack(2, 32), main_phase(20), data="distant",
        optimizer=adam(1e-2), hopeless=True,
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One way to a model, for one base seed."""

    passed: bool
    cost: float
    """In full trainings."""
    seconds: float
    skill: float | None
    attempts: int
    story: str = ""


def orchestrated(case: Case, seed: int, folder: Path) -> Outcome:
    """A run with the default policy."""
    path = folder / "config.yaml"
    path.write_text(document.dump(case.document(seed)))
    record = launcher.run(path, runs_dir=folder / "runs", quiet=True)
    attempts = record["attempts"]
    epochs = sum(phase["epochs"] for attempt in attempts for phase in attempt["phases"])
    story = " → ".join(
        f"{each['remedy'] or 'start'}"
        + (f" ({len(each['screened'])} seeds)" if len(each["screened"]) > 1 else "")
        + (f": {each['failure']['check']} at {each['failure']['phase']}" if each["failure"] else "")
        for each in attempts
    )
    if record["status"] != "passed":
        story += f" | {record['conclusion']}"
    last = attempts[(record["accepted_attempt"] or len(attempts)) - 1]["phases"][-1]
    return Outcome(
        passed=record["status"] == "passed",
        cost=(epochs + record["screened_seeds"] / 2) / case.epochs,
        seconds=sum(attempt["seconds"] for attempt in attempts),
        skill=_skill(last["checks"]),
        attempts=len(attempts),
        story=story,
    )


def _skill(checks: Sequence[Any]) -> float | None:
    for check in jsonable(checks):
        if check["check"] == "prediction_variance":
            return min((entry["skill"] for entry in check["measured"].get("outputs", ())
                        if isinstance(entry.get("skill"), float)), default=None)  # fmt: skip
    return None


def plain(case: Case, seed: int, folder: Path, attempts: int, **changes: Any) -> Outcome:
    """Training to the end, then reseeding, up to so many times; judged by the same checks."""
    import keras

    from orchestrator.diagnosis.checks import Evidence
    from orchestrator.diagnosis.examine import examine, non_finite_variables
    from orchestrator.diagnosis.tracing.probe import Probe
    from orchestrator.model.build import build_model
    from orchestrator.model.outputs import find_outputs
    from orchestrator.record.records import Settings
    from orchestrator.training.attempt import preparation

    path = folder / "config.yaml"
    path.write_text(document.dump(case.document(seed, **changes)))
    config: Config = configs.load(path)
    dataset = preparation.load(config)
    start = time.perf_counter()
    skill, passed, done = None, False, 0
    while not passed and done < attempts:
        chosen = seed if done == 0 else derive_seed(seed, done)
        keras.backend.clear_session()
        model = build_model(config, Settings(seed=chosen), dataset.train)
        x, y, _ = dataset.train.first(ROWS)
        for phase in config.phases:
            if phase.learning_rate is not None:
                model.optimizer.learning_rate = phase.learning_rate
            else:
                model.optimizer.learning_rate = next(
                    iter(case.document(seed, **changes)["compile"]["optimizer"].values())
                )["learning_rate"]
            model.fit(x, y, batch_size=64, epochs=phase.epochs, verbose=0)
        done += 1
        weights = [("weight", model.weights)]
        examined = examine(
            Probe(model), dataset.train, find_outputs(model, config, dataset.train),
            config.checks, Evidence(non_finite=non_finite_variables(weights)),
        )  # fmt: skip
        passed = all(check.verdict != "fail" for check in examined.checks)
        skill = _skill(examined.checks)
    return Outcome(
        passed=passed, cost=done, seconds=time.perf_counter() - start, skill=skill, attempts=done
    )


def interval(passed: int, count: int) -> tuple[float, float]:
    """Wilson's 95% interval of a rate."""
    z, p = 1.96, passed / count
    middle = (p + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(p * (1 - p) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def line(name: str, outcomes: Sequence[Outcome], base: float) -> str:
    passed = [each for each in outcomes if each.passed]
    low, high = interval(len(passed), len(outcomes))
    costs = sorted(each.cost for each in outcomes)
    top = costs[min(math.ceil(0.95 * len(costs)) - 1, len(costs) - 1)]
    skills = sorted(each.skill for each in passed if each.skill is not None)
    quality = f"{skills[0]:.3f} / {statistics.median(skills):.3f}" if skills else "–"
    seconds = statistics.fmean(each.seconds for each in outcomes)
    return (
        f"  {name:14} {len(passed):3}/{len(outcomes):<3} [{low:.2f}, {high:.2f}]  "
        f"cost {statistics.fmean(costs):5.2f} (95%: {top:5.2f})  "
        f"{seconds:6.2f} s ({seconds / base:4.2f}×)  skill least/median {quality}"
    )


def trial(case: Case, seed: int, *, baselines: bool) -> dict[str, Outcome]:
    """All ways for one base seed, or ours alone."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "rows.py").write_text(DATA)
        found = {"orchestrator": orchestrated(case, seed, folder)}
        if not baselines:
            return found
        found["reseeding"] = plain(case, seed, folder, 2 if case.hopeless else MAX_ATTEMPTS)
        if case.known:
            found["oracle"] = plain(case, seed, folder, 1, **case.known)
        elif not case.hopeless:
            last = found["reseeding"]
            seconds = last.seconds / last.attempts  # the seed that worked
            found["oracle"] = dataclasses.replace(last, cost=1.0, seconds=seconds, attempts=1)
    return found


def stopping(pairs: int = 15) -> None:
    """Print how long the look at the end of an epoch takes beside the epoch."""
    networks = {"9×5": ([5] * 9, 1), "2×32": ([32] * 2, 1), "3×256": ([256] * 3, 64)}
    for name, (widths, columns) in networks.items():
        for dead in (False, True):
            shares = [*shares_of_an_epoch(widths, columns, dead=dead, pairs=pairs)]
            click.echo(
                f"{name}, {'dead' if dead else 'healthy'}: the look takes "
                f"{statistics.median(shares):.3f} of an epoch of {ROWS} rows "
                f"({min(shares):.3f} to {max(shares):.3f}, {pairs} pairs)"
            )


def shares_of_an_epoch(
    widths: Sequence[int], columns: int, *, dead: bool, pairs: int
) -> Iterator[float]:
    """Seconds of a look for a cut over those of an epoch, pair by pair."""
    import keras

    from orchestrator.config.sections.checks import Checks
    from orchestrator.data.rows import Rows
    from orchestrator.diagnosis.examine import non_finite_variables, why_lost
    from orchestrator.diagnosis.tracing.probe import Probe

    keras.utils.set_random_seed(0)
    options = {"activation": "relu", "kernel_initializer": "he_normal"}
    hidden = [keras.layers.Dense(width, **options) for width in widths]
    model = keras.Sequential([keras.layers.Input((columns,)), *hidden, keras.layers.Dense(1)])
    if dead:
        kernel, bias = hidden[-1].get_weights()
        hidden[-1].set_weights([kernel, bias - 1e3])
    model.compile("adam", "mse")
    x = np.random.default_rng(0).uniform(-1, 1, (ROWS, columns)).astype(np.float32)
    y = np.abs(x).sum(axis=1)
    rows, probe = Rows(x=x, y=y), Probe(model)
    for pair in range(pairs + 1):
        start = time.perf_counter()
        model.fit(x, y, batch_size=64, verbose=0)
        middle = time.perf_counter()
        broken = non_finite_variables([("weight", model.weights)])
        why_lost(probe, rows, Checks(), non_finite=broken, training_batch_size=64)
        if pair:  # the first one traces
            yield (time.perf_counter() - middle) / (middle - start)


@click.command()
@click.option("--stopping", "only_stopping", is_flag=True, help="The cost of stopping early.")
@click.option("--seeds", default=20, show_default=True)
@click.option("--from", "first", default=0, show_default=True)
@click.option("--baselines", type=int, help="So many seeds for the two others; default all.")
@click.option("--stories", is_flag=True, help="Print what each run tried.")
@click.option("--save", type=click.Path(path_type=Path), help="Write every outcome as JSON.")
@click.argument("cases", nargs=-1, type=click.Choice(list(CASES)))
def main(
    only_stopping: bool,
    cases: Sequence[str],
    seeds: int,
    first: int,
    baselines: int | None,
    stories: bool,
    save: Path | None,
) -> None:
    """Print a table for each case."""
    if only_stopping:
        stopping()
        return
    baselines = seeds if baselines is None else max(baselines, 1)
    kept: dict[str, list[dict[str, Any]]] = {}
    for name in cases or CASES:
        case = CASES[name]
        trials = []
        for seed in range(first, first + seeds):
            trials.append(trial(case, seed, baselines=seed - first < baselines))
            if stories:
                ours = trials[-1]["orchestrator"]
                click.echo(f"    {seed}: cost {ours.cost:.2f}, skill {ours.skill}: {ours.story}")
        click.echo(f"{name}: {case.about}, {case.epochs} epochs, {seeds} base seeds")
        known = "oracle" if "oracle" in trials[0] else "reseeding"
        measured = [each[known] for each in trials if known in each]
        base = statistics.fmean(each.seconds / each.attempts for each in measured)
        for way in trials[0]:
            click.echo(line(way, [each[way] for each in trials if way in each], base))
        kept[name] = [{way: dataclasses.asdict(each[way]) for way in each} for each in trials]
        if save is not None:
            save.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
