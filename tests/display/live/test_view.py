"""What a run looks like on a terminal, in a file, and to those who want it quiet."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.display.charts import SPINNER
from orchestrator.display.live.view import Detail, View, stderr
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    CausesFound,
    Doing,
    EpochEnded,
    Event,
    Heartbeat,
    ModelBuilt,
    PhaseEnded,
    ReadingProgress,
    RunEnded,
    SeedsScreened,
    Warned,
)
from orchestrator.record.records import Candidate, Finding, Run
from tests.story import LAYERS, RUN, config, phase, record, story, told
from tests.terminal import Terminal

STORY = f"""\
Run {RUN} in runs/

Attempt 1 (seed 7)
  init · 1.5 s
    pass  finite, dead_neurons, prediction_variance
  warmup · 2 epochs · loss 1000 · val_loss 1100 · 1.5 s
    pass  finite, prediction_variance
    fail  dead_neurons: what dead_neurons says
Attempt 1 failed dead_neurons after phase warmup; restarting by
lower_learning_rate with learning rate at most 0.05, seed 2839049726.

Attempt 2 (seed 2839049726)
  init · 1.5 s
    pass  finite, dead_neurons, prediction_variance
  warmup · 2 epochs · loss 1000 · val_loss 1100 · 1.5 s
    pass  finite, dead_neurons, prediction_variance
  main · 8 epochs · loss 17.25 · val_loss 18.98 · 1.5 s
    pass  finite, dead_neurons, prediction_variance
"""
"""What stays on a terminal of 80 columns."""


def screen(
    terminal: Terminal, *, width: int = 80, height: int = 24, color: str | None = "standard"
) -> Console:
    return Console(
        file=terminal,
        force_terminal=True,
        width=width,
        height=height,
        color_system=color,  # type: ignore[arg-type]
        no_color=color is None,
        legacy_windows=False,
        _environ={"TERM": "xterm"},
    )


def show(view: View, events: list[Event | Heartbeat], *, until: type | None = None) -> None:
    """Show the events; stop before the last one of a type."""
    last = max(
        (index for index, event in enumerate(events) if until and isinstance(event, until)),
        default=len(events),
    )
    view.say("importing TensorFlow")
    view.begin(Path("runs", RUN).absolute(), config())
    for event, run in list(told(events))[:last]:
        view.show(event, run)


def text(terminal: Terminal) -> str:
    return "\n".join(line.rstrip() for line in terminal.lines).rstrip("\n") + "\n"


def drawn(view: View, terminal: Terminal) -> str:
    """What the terminal shows once the view has drawn its live display again."""
    assert view._live is not None
    with view._live._lock:
        view._live._live.refresh()
        return text(terminal)


@pytest.mark.parametrize("height", [24, 15, 6])
@pytest.mark.parametrize("color", ["standard", None])
def test_the_story_is_what_stays_on_a_terminal(height: int, color: str | None) -> None:
    terminal = Terminal()
    with View(screen(terminal, height=height, color=color)) as view:
        show(view, story(loss=1e3))
    assert text(terminal) == STORY
    assert terminal.widest <= 80


def test_the_curve_of_an_attempt_that_goes_on_begins_where_the_attempt_does(runs: Path) -> None:
    events = story(loss=1e3)
    last = max(index for index, each in enumerate(events) if isinstance(each, EpochEnded))
    resumed = AttemptResumed(attempt=2, restarts=1, phases=2, epoch=6)
    before = [*events[: last + 1], resumed]
    directory = record(runs, before)
    again = phase(2, "main", [25.0], layers=LAYERS, epochs=8, first=7)
    terminal = Terminal()
    with View(screen(terminal)) as view:
        *_, (_, run) = told(before)
        view.begin(directory, config(), resumed=run)
        for event, run in list(told([*before, *again]))[len(before) - 1 : -1]:
            view.show(event, run)
        lines = drawn(view, terminal).splitlines()
    # Epochs 7 to 10 are void, of which the last had a loss of 17.25.
    assert "loss      25         █▅▄▃▂▁▁     lowest 20, log scale" in lines


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (80, 15), (40, 12)])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_live_display_stands_below_the_story(width: int, height: int, encoding: str) -> None:
    terminal = Terminal(encoding)
    with View(screen(terminal, width=width, height=height)) as view:
        show(view, story(loss=1e3), until=EpochEnded)
        lines = drawn(view, terminal).splitlines()
    title = next(index for index, line in enumerate(lines) if line.endswith(" 0:00"))
    assert lines[0].startswith(f"Run {RUN}")
    assert RUN[:10] in lines[title]
    assert "Attempt 2 of 8" in lines[title + 1]
    assert "main" in lines[title + 2]
    assert "epoch 8/8" in lines[title + 2]
    assert any(line.startswith("loss      18.25 ") for line in lines[title:])
    assert any("16/32" in line for line in lines[title:])
    assert len(lines) - title < height
    assert terminal.widest <= width


def test_screened_seeds_and_what_the_evidence_points_to_are_told() -> None:
    dead = Candidate(seed=7, reason="all 4 units of dense are dead")
    chosen = Candidate(seed=2839049726, reason=None)
    fault = Finding(
        cause="fixed_seed", reason="dense draws the same kernel each time", certain=False
    )
    events = story()
    built = next(i for i, event in enumerate(events) if isinstance(event, ModelBuilt))
    ended = next(i for i, event in enumerate(events) if isinstance(event, AttemptEnded))
    events.insert(ended, CausesFound(attempt=1, findings=(fault,)))
    events.insert(built, SeedsScreened(attempt=1, seed=chosen.seed, candidates=(dead, chosen)))
    terminal = Terminal()
    with View(screen(terminal)) as view:
        show(view, events)
    assert text(terminal).splitlines()[2:10] == [
        "Attempt 1 (seed 7)",
        "  seed 2839049726 is the first of 2 whose untrained network is not dead",
        "  init · 1.5 s",
        "    pass  finite, dead_neurons, prediction_variance",
        "  warmup · 2 epochs · loss nan · val_loss nan · 1.5 s",
        "    pass  finite, prediction_variance",
        "    fail  dead_neurons: what dead_neurons says",
        "  the evidence points to: dense draws the same kernel each time",
    ]


def test_colour_says_nothing_that_words_do_not() -> None:
    shown = []
    for color in ("standard", None):
        terminal = Terminal()
        with View(screen(terminal, color=color)) as view:
            show(view, story(loss=1e3), until=PhaseEnded)
            lines = drawn(view, terminal).splitlines()
            shown.append([line.lstrip(SPINNER) for line in lines if "─" not in line])
    assert shown[0] == shown[1]


def test_before_the_run_the_terminal_says_what_takes_so_long() -> None:
    terminal = Terminal()
    with View(screen(terminal)) as view:
        view.say("importing TensorFlow")
        assert drawn(view, terminal)[2:] == "importing TensorFlow  0:00\n"
    assert text(terminal) == "\n"


def test_an_exception_leaves_no_block_behind() -> None:
    terminal = Terminal()
    with pytest.raises(KeyboardInterrupt), View(screen(terminal)) as view:
        show(view, story(loss=1e3), until=EpochEnded)
        raise KeyboardInterrupt
    assert "Attempt 2 of 8" not in text(terminal)
    assert terminal.getvalue() == ""  # Terminal keeps lines, not text


def test_printing_and_drawing_leave_no_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.display.live.screen.FRAMES_PER_SECOND", 1000)
    terminal = Terminal()
    with View(screen(terminal)) as view:
        show(view, story(attempts=7, loss=1e3))
    assert "of 8" not in text(terminal)
    assert text(terminal).count("Attempt 7 (seed 2839049726)") == 1


def test_warnings_wrap_above_the_block() -> None:
    terminal = Terminal()
    with View(screen(terminal)) as view:
        show(view, [Warned(message="much " * 30)])
    assert terminal.lines[1].startswith("warning: much much")
    assert terminal.widest <= 80


def plain(events: list[Event | Heartbeat], detail: Detail = "all", **options: object) -> list[str]:
    """What a file gets."""
    stream = io.StringIO()
    with View(Console(file=stream, width=80, **options), detail=detail) as view:  # type: ignore[arg-type]
        show(view, events)
    assert "\x1b" not in stream.getvalue()
    return stream.getvalue().splitlines()


def test_a_file_gets_whole_lines(tmp_path: Path) -> None:
    lines = plain(story(loss=1e3))
    assert lines[:8] == [
        f"Run {RUN} in runs/",
        "",
        "Attempt 1 (seed 7)",
        "  init · 1.5 s",
        "    pass  finite               what finite says",
        "    pass  dead_neurons         what dead_neurons says",
        "    pass  prediction_variance  what prediction_variance says",
        "  warmup · 2 epochs · loss 1000 · val_loss 1100 · 1.5 s",
    ]
    assert lines[11] == (
        "Attempt 1 failed dead_neurons after phase warmup: what dead_neurons says; restarting by "
        "lower_learning_rate with learning rate at most 0.05, seed 2839049726."
    )


def test_what_goes_on_before_a_run_is_told_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.display.live.view._NOTICED_SECONDS", 0.0)
    stream = io.StringIO()
    with View(Console(file=stream, width=200)) as view:
        view.say("importing TensorFlow")
        view.say("building the model")
        view.read(ReadingProgress(what="net:data", rows=64, batches=2))
        view.read(ReadingProgress(what="net:data", rows=96, batches=3, done=True))
        view.begin(Path("runs", RUN).absolute(), config())
    assert stream.getvalue().splitlines() == [
        "importing TensorFlow · 0.0 s",
        "building the model · 0.0 s",
        "reading rows · 0.0 s",
        f"Run {RUN} in runs/",
    ]


def test_a_check_that_takes_long_is_told_on_the_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.display.live.steps.LONG_SECONDS", 0.05)
    stream = io.StringIO()
    with View(Console(file=stream, width=200)) as view:
        view.begin(Path("runs", RUN).absolute(), config())
        run = Run(run=RUN)
        view.show(Doing(what="checking", detail="tracing the model"), run)
        view.show(Doing(what="checking", detail="12 of 128 batches"), run)
        time.sleep(0.3)
        view.show(Warned(message="done"), run)
        time.sleep(0.2)
    assert stream.getvalue().splitlines()[1:] == [
        "  checking: 12 of 128 batches …",
        "warning: done",
    ]


def test_what_cannot_move_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.display.live.view.SPARSE_SECONDS", 0.0)
    lines = plain(story(loss=1e3))
    assert "  main · epoch 3/8 · loss 40 · val_loss 44" in lines


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TTY_INTERACTIVE": "0"}])
def test_a_terminal_that_cannot_move_gets_lines(environment: dict[str, str]) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, _environ=environment)
    if not console.is_interactive:  # TTY_INTERACTIVE is known to newer versions of rich
        assert not View(console)._live


def test_forced_colour_does_not_move_a_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with View(stderr()) as view:
        show(view, story(loss=1e3))
    err = capsys.readouterr().err
    assert "\x1b[32m" in err
    assert "\x1b[2K" not in err
    assert "Attempt 2 of 8" not in err


def test_quiet_is_a_line_an_attempt() -> None:
    failed = "failed dead_neurons after phase warmup: what dead_neurons says"
    restart = "restarting by lower_learning_rate with learning rate at most 0.05, seed 2839049726."
    assert plain(story(), "attempts") == [
        f"Attempt 1 {failed}; {restart}",
        "Attempt 2 passed, skill 0.5.",
    ]
    assert plain(story(passes=False), "attempts") == [
        f"Attempt 1 {failed}; {restart}",
        f"Attempt 2 {failed}; exhausted: the policy has no rung left.",
    ]
    interrupted = RunEnded(
        status="interrupted", accepted_attempt=None, best_attempt=None,
        conclusion="stopped by SIGINT; what was recorded so far is kept", exit_code=75,
    )  # fmt: skip
    assert plain([*story()[:12], interrupted], "attempts") == [
        "Attempt 1 interrupted: stopped by SIGINT; what was recorded so far is kept."
    ]


def test_quiet_is_quiet_on_a_terminal_too() -> None:
    terminal = Terminal()
    with View(screen(terminal), detail="attempts") as view:
        show(view, story())
        time.sleep(0.3)
    assert len(text(terminal).splitlines()) == 4  # the first is wrapped
    assert "importing" not in text(terminal)


def test_only_warnings() -> None:
    assert plain(story(), "warnings") == []
    assert plain([Warned(message="all rows are alike")], "warnings") == [
        "warning: all rows are alike"
    ]
