"""The scene and the block of lines it is shown as, at every moment of made-up runs."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from orchestrator.display.live.block import block
from orchestrator.display.live.scene import Scene, advance
from orchestrator.record.events import (
    AttemptStarted,
    EpochEnded,
    Event,
    Heartbeat,
    PhaseEnded,
    PhaseStarted,
    TrainingProgress,
)
from orchestrator.record.records import Run, Settings
from tests import builders
from tests.builders import LAW
from tests.story import LAYERS, RUN, config, phase, story, told

MANY = {f"block_{index}/convolution/relu": (64, index) for index in range(40)}
LONG = {"a_model/with_a_name/" + 30 * "very_" + "long": (8, 8), "層" * 50: (8, 0)}


def scenes(
    events: list[Event | Heartbeat], **sections: object
) -> list[tuple[Event | Heartbeat, Scene]]:
    """The scene after each event; every event takes a second."""
    scene = Scene(config=config(**sections), run=Run(run=RUN), began=0.0)
    found = []
    for second, (event, run) in enumerate(told(events), start=1):
        scene = advance(scene, event, run, float(second))
        found.append((event, scene))
    return found


def text(scene: Scene, now: float = 100.0, *, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain for line in block(scene, now, width=width, height=height)]


def during_main(events: list[Event | Heartbeat]) -> Scene:
    """The scene when the last attempt has trained most of its epochs."""
    found = [scene for event, scene in scenes(events) if isinstance(event, EpochEnded)]
    return found[-2]


def test_everything_is_shown() -> None:
    scene = during_main(story(loss=1e3))
    scene = dataclasses.replace(scene, epoch_began=100.0)
    lines = text(scene)
    assert lines == [
        f"── {RUN} {'─' * 45} 1:40",
        "Attempt 2 of 8 · lower_learning_rate: rate ≤ 0.05, seed 2839049726",
        "⠋ main · phase 2 of 2 · epoch 8/8  ━━━━━━━━━━━━━━━━━━━━━───  0:03 left",
        "",
        "loss      18.25      █▅▄▃▂▁▁▁▁   lowest 18.25, log scale",
        "val_loss  20.08      █▅▄▃▂▁▁▁▁   lowest 20.08, log scale",
        "",
        "Dead units on the first 256 rows, upper bounds",
        "dense    ██░░░░░░░░░░░░░░░░░░░░░░  ≤ 3/32",
        "dense_1  ████████████░░░░░░░░░░░░  ≤ 16/32",
        "",
        "Checks after warmup",
        "pass  finite               what finite says",
        "pass  dead_neurons         what dead_neurons says",
        "pass  prediction_variance  what prediction_variance says",
        "",
        "Earlier attempts",
        "1  as configured  failed dead_neurons at warmup  skill 0.5",
    ]


def test_a_check_counts_on_all_rows() -> None:
    after = [scene for event, scene in scenes(story()) if isinstance(event, PhaseEnded)]
    lines = text(after[1])
    assert "Dead units on all training rows, after warmup" in lines
    assert "dense_1  ████████████░░░░░░░░░░░░  16/32" in lines
    assert "fail  dead_neurons         what dead_neurons says" in lines


def test_the_next_attempt_has_not_been_looked_at() -> None:
    after = [scene for event, scene in scenes(story()) if isinstance(event, AttemptStarted)]
    assert "Dead units, not counted yet" not in text(after[0])
    lines = text(after[1])
    assert "Dead units, not counted yet" in lines
    assert "dense    ░░░░░░░░░░░░░░░░░░░░░░░░  –/32" in lines
    assert not any("Checks after" in line for line in lines)


def test_batch_statistics_count_as_the_check_counts_them() -> None:
    entry = {"layer": "bn", "units": 4, "dead": 4, "dead_with_batch_statistics": 1}
    events = story()
    for index, event in enumerate(events):
        if isinstance(event, PhaseEnded):
            check = builders.made("dead_neurons", measured={"exact": False, "layers": [entry]})
            events[index] = replace(event, phase=replace(event.phase, checks=(check,)))
    _, scene = next(pair for pair in scenes(events) if isinstance(pair[0], PhaseEnded))
    assert "bn  ██████░░░░░░░░░░░░░░░░░░  ≤ 1/4" in text(scene)
    assert "Dead units on a sample of the rows, after init, upper bounds" in text(scene)


def test_the_height_stays_within_a_phase() -> None:
    heights: list[set[int]] = [set()]
    for event, scene in scenes(story(attempts=3, layers=MANY)):
        if isinstance(event, PhaseStarted):
            heights.append(set())
        elif isinstance(event, PhaseEnded | AttemptStarted):
            heights.append(set())
            continue
        heights[-1].add(len(text(scene)))
    assert all(len(each) <= 1 for each in heights)


@pytest.mark.parametrize("layers", [LAYERS, MANY, LONG, {}])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (80, 15), (40, 10), (20, 4)])
def test_every_scene_fits(layers: dict[str, tuple[int, int]], width: int, height: int) -> None:
    for _, scene in scenes(story(attempts=12, layers=layers)):
        lines = block(scene, 5000.0, width=width, height=height)
        assert len(lines) <= height
        assert max(line.cell_len for line in lines) <= width


@LAW
@given(st.integers(1, 130), st.integers(1, 60), st.integers(0, 200), st.floats())
def test_any_moment_fits_any_terminal(width: int, height: int, moment: int, loss: float) -> None:
    found = scenes(story(attempts=3, layers=LONG, loss=loss))
    _, scene = found[moment % len(found)]
    lines = block(scene, 50.0, width=width, height=height)
    assert 0 < len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_a_short_terminal_shows_the_worst() -> None:
    lines = text(during_main(story(attempts=9, layers=MANY, loss=1e3)), height=14)
    assert len(lines) == 14
    assert lines[0].startswith(f"── {RUN}")
    shown = [line.split()[0] for line in lines if "/relu" in line]
    assert shown == ["block_39/convolution/relu"]
    assert "and 39 more, at most 59% dead" in lines
    assert lines[-1] == "and 7 before"
    assert lines[-2].startswith("8  lower_learning_rate")


def test_failures_are_shown_before_what_passed() -> None:
    events = story(loss=1e3, attempts=1, passes=False)
    after = [scene for event, scene in scenes(events) if isinstance(event, PhaseEnded)]
    lines = text(after[-1], height=11)
    assert "fail  dead_neurons  what dead_neurons says" in lines
    assert not any(line.startswith("pass") for line in lines)


def test_losses_that_are_not_finite_are_marked() -> None:
    lines = text(during_main(story(loss=math.nan)))
    assert lines[4] == "loss      18.25      █×▄▃▂▁▁▁▁   lowest 18.25, log scale"
    after = [s for e, s in scenes(story(loss=math.inf)) if isinstance(e, EpochEnded)]
    assert text(after[1])[4] == "loss      inf        ▁×          lowest 2e+04"


def test_without_validation_rows_there_is_one_curve() -> None:
    found = scenes(story(), data={"train": {"npz": "rows.npz"}})
    assert not any("val_loss" in line for _, scene in found for line in text(scene))


def test_time_left() -> None:
    """Epochs of 2 s; one that drags on does not take time from the others."""
    plans = [{"name": "warmup", "epochs": 2}, {"name": "main", "epochs": 4}]
    events = [story()[1], *phase(1, "warmup", [1.0], epochs=2, layers=LAYERS)]
    found = scenes(events, phases=plans)
    after = {type(event).__name__: (second, s) for second, (event, s) in enumerate(found, start=1)}

    began, scene = after["PhaseStarted"]
    assert scene.seconds_left(began) is None
    stepped, scene = after["TrainingProgress"]
    assert scene.seconds_left(stepped) is None  # this second may have gone into tracing
    scene = advance(scene, TrainingProgress(step=2, steps=4), scene.run, stepped + 1)
    assert scene.seconds_left(stepped + 1) == (6.0, 22.0)  # a quarter of an epoch in 1 s
    ended, scene = after["EpochEnded"]
    assert scene.seconds_left(ended) == (2.0, 10.0)
    assert scene.seconds_left(ended + 1) == (1.0, 9.0)
    assert scene.seconds_left(ended + 60) == (0.0, 8.0)
    _, scene = after["PhaseEnded"]
    assert scene.seconds_left(9.0) is None


def test_an_attempt_that_is_trained_longer_has_more_epochs() -> None:
    (scene,) = (scene for _, scene in scenes([story()[0]]))
    before = scene.planned
    assert before == sum(plan.epochs for plan in scene.config.phases)
    settings = Settings(seed=7, more_epochs=5)
    attempt = replace(builders.failed(1), settings=settings)
    scene = dataclasses.replace(scene, run=replace(scene.run, attempts=(attempt,)))
    assert scene.planned == before + 5
