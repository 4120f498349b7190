"""Attempts that end before their time, for the checks that follow fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config.schema import Config
from orchestrator.diagnosis.verdicts.outlook import SOON
from orchestrator.record.checks import LearnedCheck, LearnedLimits, LearnedMeasured, OutputShare
from orchestrator.record.events import CausesFound, EpochEnded, Event, PhaseEnded, Warned
from orchestrator.record.records import Settings
from orchestrator.record.storage.directory import Place
from orchestrator.training.attempt import attempt as training
from orchestrator.training.attempt.checking import outlook
from orchestrator.training.attempt.checking.moment import Moment
from orchestrator.training.attempt.task import Begun, Task
from tests.conftest import MakeConfig

LARGE = {"kernel_initializer": {"RandomNormal": {"stddev": 3.0, "seed": 1}}}
LAYERS = [
    {"Dense": {"units": 8, "activation": "relu", **LARGE}},
    {"Dense": {"units": 1, **LARGE}},
]
SLOW: dict[str, Any] = {
    # Far worse than a constant, on the way down, and too slow by orders of magnitude.
    "model": {"layers": LAYERS},
    "compile": {"optimizer": {"Adam": {"learning_rate": 1e-5}}, "loss": "mse"},
    "phases": [{"name": "main", "epochs": 20}],
    "batch_size": 16,
    "checkpoint_seconds": 0.001,
}  # fmt: skip


def train(
    config: Config, directory: Path, begun: Begun | None = None, *, attempt: int = 1
) -> list[Event]:
    directory.mkdir(exist_ok=True)
    task = Task(
        config=config,
        settings=Settings(seed=0),
        seeds=(),
        attempt=attempt,
        directory=directory,
        fingerprint=None,
    )
    events: list[Any] = []
    training.train(dataclasses.replace(task, begun=begun), events.append)
    return [event for event in events if isinstance(event, Event)]


def ended(events: list[Event]) -> tuple[int, str | None]:
    """How many epochs the last phase had, and the check that it failed."""
    last = [event.phase for event in events if isinstance(event, PhaseEnded)][-1]
    failure = last.failure()
    return last.epochs, None if failure is None else failure.check


def test_a_rate_that_cannot_suffice_ends_early_and_says_so(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    events = train(make_config(**SLOW), tmp_path / "1")
    assert ended(events) == (5, "prediction_variance")
    (said,) = [event.message for event in events if isinstance(event, Warned)]
    assert said.startswith("attempt 1 ended 15 epochs early: the loss is")
    (found,) = [
        event.findings for event in events if isinstance(event, CausesFound) if event.failed
    ]
    (cause,) = [each for each in found if each.cause == "rate_too_low"]
    assert cause.fix is not None and cause.fix.learning_rate_factor is not None
    assert cause.fix.learning_rate_factor >= 1000


@pytest.mark.parametrize(
    ("way", "after", "epochs"),
    [
        ("above", 3, 5),
        ("soon", 1, 2),
        ("shifted", 1, 2),
        pytest.param("behind", 3, 4, marks=pytest.mark.sweep),
        pytest.param("resting", 4, 5, marks=pytest.mark.sweep),
    ],
)
def test_it_ends_at_the_same_epoch_when_it_is_resumed(
    way: str, after: int, epochs: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    ways = {
        "above": SLOW,
        "behind": absolute(**DEEP),
        "soon": absolute(100.0),
        "resting": absolute(**RESTING),
        "shifted": absolute(**SHIFTED),
    }
    config = make_config(ROWS, **{**ways[way], "checkpoint_seconds": 0.001})
    directory = tmp_path / "1"
    whole = train(config, directory)
    first = next(event.phase for event in whole if isinstance(event, PhaseEnded))
    begun = Begun(restarts=1, place=Place(1, after), phases=(first,), reason=None)
    again = train(config, directory, begun)
    assert ended(again) == ended(whole)
    told, known = (
        [event.metrics for event in events if isinstance(event, EpochEnded)]
        for events in (again, whole)
    )
    assert len(known) == epochs
    assert told == known[-len(told) :]


DECAY = {"CosineDecay": {"initial_learning_rate": 1e-5, "decay_steps": 1000}}


@pytest.mark.parametrize(
    "changes",
    [
        {"compile": {"optimizer": {"Adam": {"learning_rate": DECAY}}, "loss": "mse"}},
        {"fit": {"callbacks": [{"ReduceLROnPlateau": {"monitor": "loss"}}]}},
        {"checks": {"prediction_variance": "off"}},
        # Of a loss that is below a constant's nothing is certain, whatever skill is asked for.
        {
            "checks": {"prediction_variance": {"min_skill": 0.9999}},
            "compile": {"optimizer": {"Adam": {"learning_rate": 0.05}}, "loss": "mse"},
            "model": {
                "layers": [{"Dense": {"units": 8, "activation": "relu"}}, {"Dense": {"units": 1}}]
            },
        },
        {"compile": {"optimizer": {"Adam": {"learning_rate": 0.5}}, "loss": "mse"}},
    ],
)
def test_where_it_is_not_certain_the_training_has_all_its_epochs(
    changes: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    shorter = {"phases": [{"name": "main", "epochs": 6}]}
    assert ended(train(make_config(**{**SLOW, **shorter, **changes}), tmp_path / "1"))[0] == 6


def test_only_the_last_phase_ends_early(make_config: MakeConfig, tmp_path: Path) -> None:
    phases = [{"name": "warmup", "epochs": 6}, {"name": "main", "epochs": 3, "learning_rate": 0.1}]
    events = train(make_config(**{**SLOW, "phases": phases}), tmp_path / "1")
    assert [e.phase.epochs for e in events if isinstance(e, PhaseEnded)] == [0, 6, 3]


ROWS = """
import keras
import numpy as np

def trained():
    # Biases that differ are those of a network that others have trained.
    drawn = keras.initializers.HeNormal(seed=1)
    hidden = keras.layers.Dense(16, "relu", True, drawn, "glorot_uniform")
    ends = keras.layers.Dense(1, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((2,)), hidden, ends])

def read(offset=0.0):
    x = np.random.default_rng(0).normal(size=(400, 2)).astype("float32")
    y = np.abs(x).sum(axis=1, keepdims=True)
    return x + np.float32(offset), (y - y.mean()) / y.std()

def three():
    x = np.random.default_rng(0).uniform(-1.7, 1.7, size=(400, 3)).astype("float32")
    return x, np.abs(x).sum(axis=1, keepdims=True)

def classes():
    draw, y = np.random.default_rng(0), np.arange(400) % 8
    return (3 * draw.normal(size=(8, 5)))[y] + draw.normal(size=(400, 5)), y

def bent():
    x, _ = read()
    return np.concatenate([x, 1e-5 * x], axis=1), x[:, 0] + 2 * np.abs(x[:, 1])

def far():
    x, y = read()
    return np.concatenate([x, np.full_like(x, 1e-5) * x], axis=1), y
"""
HE = {"activation": "relu", "kernel_initializer": {"HeNormal": {"seed": 1}}}
ENDS = {"Dense": {"units": 1, "kernel_initializer": "zeros"}}
TWELVE = [{"name": "main", "epochs": 12}]
FAST: dict[str, Any] = {
    "compile": {"optimizer": {"Adam": {"learning_rate": 2.0}}, "loss": "mse"},
    "model": {"layers": [{"Dense": {"units": 16, "activation": "tanh"}}, ENDS]},  # none dies
}
SGD: dict[str, Any] = {"compile": {"optimizer": {"SGD": {"learning_rate": 2e-4}}, "loss": "mse"}}
GATHERING: dict[str, Any] = {
    # A tenth of the usual rate, with all that it gathers.
    "compile": {"optimizer": {"SGD": {"learning_rate": 1e-4, "momentum": 0.9}}, "loss": "mse"}
}
CRAWL: dict[str, Any] = {"compile": {"optimizer": {"SGD": {"learning_rate": 2e-6}}, "loss": "mse"}}
PENALTY: dict[str, Any] = {
    "model": {"layers": [{"Dense": {"units": 16, **HE, "kernel_regularizer": "l2"}}, ENDS]}
}
TRAINED: dict[str, Any] = {"factory": {"callable": "rows:trained"}}
DEEP: dict[str, Any] = {
    "model": {"layers": [{"Dense": {"units": 2, **HE, "bias_initializer": "ones"}}] * 9 + [ENDS]}
}


RESTING: dict[str, Any] = {
    # A unit of relu for each class: what is of a class whose unit is off stays so.
    "data": {"train": {"callable": "rows:classes"}},
    "model": {
        "layers": [{"Dense": {"units": 16, **HE}}, {"Dense": {"units": 8, "activation": "relu"}}]
    },
    "compile": {
        "optimizer": {"Adam": {"learning_rate": 0.02}},
        "loss": "sparse_categorical_crossentropy",
    },
    "phases": [{"name": "main", "epochs": 20}],
}


BENT: dict[str, Any] = {
    # What rests without being cut off may go on, as a network with hidden layers would.
    "data": {"train": {"callable": "rows:bent"}},
    "model": {"layers": [ENDS]},
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.03}}, "loss": "mse"},
    "phases": [{"name": "main", "epochs": 20}],
}


DROPOUT = {"Dropout": {"rate": 0.85}}
"""So high that it is told of before the training."""

SHIFTED: dict[str, Any] = {
    # Good with dropout, and worse than a constant without.
    "data": {"train": {"callable": "rows:three"}},
    "model": {"layers": [{"Dense": {"units": 64, **HE}}, {"Dropout": {"rate": 0.4}}] * 4 + [ENDS]},
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.003}}, "loss": "mse"},
}


DROWNED: dict[str, Any] = {
    "data": {"train": {"callable": "rows:three"}},
    "model": {
        "layers": [{"Dense": {"units": 32, "activation": "elu"}}, {"Dropout": {"rate": 0.5}}] * 2
        + [ENDS]
    },
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.001}}, "loss": "mse"},
}


ANSWER = {
    "when": {"kind": ["crippled"], "cause": ["unusual_rate"]},
    "rungs": [{"remedy": "lower_learning_rate"}],
}


def absolute(offset: float = 0.0, **changes: Any) -> dict[str, Any]:
    """A network on the sum of two |x|, a constant at first, which takes more than 12 epochs."""
    return {
        "data": {"train": {"callable": "rows:read", "kwargs": {"offset": offset}}},
        "model": {"layers": [{"Dense": {"units": 16, **HE}}, ENDS]},
        "compile": {"optimizer": {"Adam": {"learning_rate": 0.0003}}, "loss": "mse"},
        "phases": TWELVE,
        "batch_size": 10,
        **changes,
    }


@pytest.mark.parametrize(
    ("changes", "epochs", "why"),
    [
        (absolute(**FAST), 2, "its rate is 2,000 times the usual one; after 2 epochs: skill"),
        (absolute(**SGD), 4, "its rate is 0.02 times the usual one; after 4 epochs: skill"),
        (absolute(**CRAWL), 2, "its rate is 0.0002 times the usual one; after 2 epochs: skill"),
        (
            absolute(**CRAWL, **PENALTY),
            2,
            "its rate is 0.0002 times the usual one; after 2 epochs: ",
        ),
        (absolute(100.0), 2, "unscaled_inputs was found before it; after 2 epochs: skill"),
        (absolute(batch_size=400), 6, "few_steps was found before it; after 6 epochs: skill"),
        (absolute(**DEEP), 4, "most networks as deep and narrow are dead from the start"),
        (absolute(**RESTING), 5, "loss_mismatch was found before it; after 5 epochs: skill 0.2"),
        (absolute(**BENT), 10, "unscaled_inputs was found before it; after 10 epochs: skill 0.3"),
        (absolute(**SHIFTED), 2, "after 2 epochs, with dropout (4 layers, at most 0.4), as in tr"),
        (absolute(**DROWNED), 6, "after 6 epochs, with dropout (2 layers, at most 0.5), as in tr"),
    ],
)
def test_what_has_something_against_it_is_given_up_when_it_has_learnt_too_little(
    changes: dict[str, Any], epochs: int, why: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    events = train(make_config(ROWS, **changes), tmp_path / "1")
    told = [event.message for event in events if isinstance(event, Warned)]
    count, failed = ended(events)
    assert count == epochs and failed is not None
    (said,) = [each for each in told if "early" in each]
    left = changes["phases"][0]["epochs"] - epochs
    assert said.startswith(f"attempt 1 ended {left} epochs early: {why}")


@pytest.mark.parametrize(
    ("verdict", "lenient", "done", "falling", "given_up"),
    [
        ("fail", None, 10, False, True),
        ("warn", None, 10, True, True),  # it is on its way, with dropout
        ("warn", None, 10, False, False),
        ("warn", None, 5, True, False),  # not half way yet
        ("warn", "a part of the model is frozen", 10, True, False),
        ("pass", None, 10, True, False),
    ],
)
def test_a_falling_loss_is_no_excuse_half_way_where_it_is_another_one(
    verdict: Any,
    lenient: str | None,
    done: int,
    falling: bool,
    given_up: bool,
    make_config: MakeConfig,
) -> None:
    share = 0.9 if verdict == "pass" else 0.15
    found = LearnedCheck(
        verdict=verdict,
        reason="little",
        measured=LearnedMeasured(outputs=(OutputShare(output=0, share=share),), lenient=lenient),
        limits=LearnedLimits(fail_below=0.5, warn_below=0.8),
    )
    moment = SimpleNamespace(epochs=20, task=SimpleNamespace(attempt=1, config=make_config()))
    view: Any = SimpleNamespace(moment=moment, done=done, find=lambda kind: found)
    assert (outlook._short(view, SOON, falling=falling) is not None) == given_up


@pytest.mark.parametrize(("rate", "epochs"), [(0.01, 12), (0.0003, 2)])
def test_a_large_loss_at_first_is_nothing_against_a_training_that_comes_down_in_time(
    rate: float, epochs: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    """It is far worse than a constant all the while; at the lower rate it does not come down."""
    large = {"kernel_initializer": "ones"}
    hidden = {"Dense": {"units": 16, "activation": "relu", **large}}
    changes: dict[str, Any] = {
        "model": {"layers": [hidden, {"Dense": {"units": 1, **large}}]},
        "compile": {"optimizer": {"Adam": {"learning_rate": rate}}, "loss": "mse"},
    }
    events = train(make_config(ROWS, **absolute(**changes)), tmp_path / "1")
    (found,) = [each.findings for each in events if isinstance(each, CausesFound)][:1]
    assert "unusual_start" in [each.cause for each in found]
    assert ended(events)[0] == epochs


def phases(*given: tuple[str, int, float | None]) -> dict[str, Any]:
    plans = [
        {"name": name, "epochs": epochs} | ({} if rate is None else {"learning_rate": rate})
        for name, epochs, rate in given
    ]
    return {"phases": plans}


@pytest.mark.parametrize(
    ("changes", "given_up"),
    [
        ({}, True),
        # Nothing is there to go back to, or nothing goes.
        (phases(("shock", 1, 5.0), ("after", 12, 1e-4)), False),
        ({"restart": {"policy": ["new_seed"]}}, False),
    ],
)
def test_a_phase_that_does_not_learn_again_what_one_has_undone_is_given_up(
    changes: dict[str, Any], given_up: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    tanh = {"layers": [{"Dense": {"units": 16, "activation": "tanh"}}, ENDS]}  # none dies
    shock = phases(("before", 20, None), ("shock", 1, 5.0), ("after", 12, 1e-4))
    fast = {"optimizer": {"Adam": {"learning_rate": 0.01}}, "loss": "mse"}
    checks = {
        "findings": {"ignore": ["unusual_rate"]},
        "prediction_variance": {"min_skill": -1e6},  # of which it would be given up as well
    }
    given = absolute(model=tanh, compile=fast, checks=checks)
    config = make_config(ROWS, **given | shock | changes)
    events = train(config, tmp_path / "1")
    told = [event.message for event in events if isinstance(event, Warned)]
    early = "attempt 1 ended 8 epochs early: what it had learnt in an earlier phase was lost; after"
    assert any(each.startswith(early) for each in told) is given_up


FAR = {"data": {"train": {"callable": "rows:far"}}}
FASTER: dict[str, Any] = {
    # A share of 0.6 at the end.
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.6}}, "loss": "mse"},
    "batch_size": 20,
}
HALF_GOOD: dict[str, Any] = {
    # A share of 0.7 half way, and of 0.5 at the end.
    "compile": {"optimizer": {"Adam": {"learning_rate": 0.3}}, "loss": "mse"},
    "model": FAST["model"],
}


@pytest.mark.parametrize(
    ("attempt", "changes", "epochs"),
    [
        (1, {}, 6),
        (2, {}, 12),  # enough may have been spent by then to end with it
        (1, {"restart": {"max_seconds": 1000}}, 12),
        (1, {"restart": {"policy": ["new_seed"]}}, 12),
        # Something else stands against it, too.
        (1, {**FAR, **FASTER, "checks": {"findings": {"ignore": ["unusual_rate"]}}}, 12),
    ],
)
def test_at_an_unusual_rate_it_is_held_to_what_its_end_would_be(
    attempt: int, changes: dict[str, Any], epochs: int, make_config: MakeConfig, tmp_path: Path
) -> None:
    limits = {"learned": {"fail_below": 0.05, "warn_below": 0.8}}
    changes = absolute(
        **{**HALF_GOOD, **changes, "checks": {**limits, **changes.get("checks", {})}}
    )
    events = train(make_config(ROWS, **changes), tmp_path / "1", attempt=attempt)
    phase = [event.phase for event in events if isinstance(event, PhaseEnded)][-1]
    learned = phase.find(LearnedCheck)
    assert phase.epochs == epochs
    assert learned is not None and 0.05 < (learned.share() or 0.0) < 0.8
    failed = epochs < 12
    assert learned.verdict == ("fail" if failed else "warn")
    assert learned.limits.fail_below == (0.8 if failed else 0.05)  # recorded as it was judged
    assert (phase.failure() is not None) is failed


@pytest.mark.parametrize(("policy", "early"), [(None, True), (["new_seed"], False)])
def test_so_is_an_output_whose_classes_are_cut_off(
    policy: list[str] | None, early: bool, make_config: MakeConfig, tmp_path: Path
) -> None:
    drawn = {"activation": "relu", "kernel_initializer": {"HeNormal": {"seed": 1}}}
    layers = [{"Dense": {"units": 64, **drawn}}, {"Dense": {"units": 8, **drawn}}]
    adam = {"optimizer": {"Adam": {"learning_rate": 0.003}}, "loss": RESTING["compile"]["loss"]}
    changes = {**RESTING, "model": {"layers": layers}, "compile": adam}
    limits = {"learned": {"fail_below": 0.1, "warn_below": 0.8}}
    restart = {} if policy is None else {"restart": {"policy": policy}}
    config = make_config(ROWS, **absolute(**changes, **restart, checks=limits))
    events = train(config, tmp_path / "1")
    phase = [event.phase for event in events if isinstance(event, PhaseEnded)][-1]
    learned = phase.find(LearnedCheck)
    assert (phase.epochs < 20) is early  # at which look hangs on how the machine rounds
    assert learned is not None and 0.1 < (learned.share() or 0.0) < 0.8
    assert (learned.verdict, learned.limits.fail_below) == (
        ("fail", 0.8) if policy is None else ("warn", 0.1)
    )


def test_it_is_judged_alike_when_it_is_resumed_after_it_was_ended(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    limits = {"fail_below": 0.05, "warn_below": 0.8}
    config = make_config(
        ROWS, **absolute(**HALF_GOOD, checks={"learned": limits}, checkpoint_seconds=0.001)
    )
    whole = train(config, tmp_path / "1")
    first = next(event.phase for event in whole if isinstance(event, PhaseEnded))
    for epoch in (5, 6):
        begun = Begun(restarts=1, place=Place(1, epoch), phases=(first,), reason=None)
        again = train(config, tmp_path / "1", begun)
        assert ended(again) == ended(whole) == (6, "learned")


@pytest.mark.parametrize(
    "changes",
    [
        absolute(),  # nothing stands against it
        absolute(model={"layers": [{"Dense": {"units": 16, **HE}}, DROPOUT, ENDS]}),
        # What is ignored or off is not recorded before the training, either.
        absolute(**FAST, checks={"findings": "off"}),
        absolute(**FAST, checks={"findings": {"ignore": ["unusual_rate"]}}),
        absolute(100.0, checks={"findings": "off"}),
        absolute(**DEEP, restart={"policy": ["leaky_relu"]}),  # not by what it is of this kind
        absolute(**SGD, model=TRAINED),
        absolute(**GATHERING),
    ],
)
def test_else_it_has_all_its_epochs(
    changes: dict[str, Any], make_config: MakeConfig, tmp_path: Path
) -> None:
    events = train(make_config(ROWS, **changes), tmp_path / "1")
    assert ended(events)[0] == 12


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        (
            FAST,
            [
                {"restart": {"max_attempts": 1}},
                {"restart": {"policy": ["new_seed"]}},
                {"restart": {"policy": [{"remedy": "train_longer"}, ANSWER]}},
                {"checks": {"learned": "off", "prediction_variance": "off"}},
            ],
        ),
        (DEEP, [{"restart": {"policy": [{"when": ["often_dead_at_init"], "rungs": []}]}}]),
        (
            SHIFTED,
            [
                {"restart": {"max_attempts": 1}},
                {"restart": {"policy": ["new_seed", "lower_learning_rate"]}},
                {"checks": {"findings": "off"}},
                {"checks": {"findings": {"ignore": ["heavy_dropout"]}}},
                {"checks": {"learned": "off"}},
            ],
        ),
        (DROWNED, [{"restart": {"max_attempts": 1}}]),
    ],
)
def test_where_the_config_has_no_answer_what_would_end_it_does_not(
    changes: dict[str, Any],
    others: list[dict[str, Any]],
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    configs = [make_config(ROWS, **absolute(**changes, **other)) for other in others]
    ends_now, ended_by = outlook.ends_now, []

    def ask(moment: Moment) -> bool:
        for config, other in zip(configs, others, strict=True):
            laid = {"restart": config.restart, "checks": config.checks}
            config = moment.task.config.model_copy(update=laid)
            task = dataclasses.replace(moment.task, config=config)
            if ends_now(dataclasses.replace(moment, task=task, emit=lambda event: None)):
                ended_by.append(other)
        return ends_now(moment)

    monkeypatch.setattr(outlook, "ends_now", ask)
    assert ended(train(make_config(ROWS, **absolute(**changes)), tmp_path / "1"))[0] < 12
    assert ended_by == []


def test_statistics_that_lag_end_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    # The loss has a penalty in it, and would never come down to a constant's.
    large = {
        "kernel_initializer": {"RandomNormal": {"stddev": 100.0, "seed": 1}},
        "kernel_regularizer": {"L2": {"l2": 0.001}},
    }
    norm = {"BatchNormalization": {"momentum": 0.999}}
    layers = [{"Dense": {"units": 32, **large}}, norm, {"ReLU": {}}, ENDS]
    config = make_config(
        ROWS,
        **absolute(
            model={"layers": layers},
            compile={"optimizer": {"Adam": {"learning_rate": 0.02}}, "loss": "mse"},
            batch_size=20,
        ),
    )
    assert ended(train(config, tmp_path / "1"))[0] == 12
