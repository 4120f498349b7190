"""What people see while a run goes on, all of it on stderr.

A terminal gets lines that stay, and below them the live display. A file or a pipe gets the lines
that stay, and now and then one that tells of the latest epoch.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from pathlib import Path
from typing import Literal

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.config.schema import Config
from orchestrator.display import words
from orchestrator.display.charts import Legible
from orchestrator.display.live.scene import Scene, advance, curves_of
from orchestrator.display.live.screen import Screen, display
from orchestrator.display.live.steps import LONG_SECONDS, Steps
from orchestrator.display.text import clean
from orchestrator.record.events import (
    AttemptEnded,
    AttemptResumed,
    AttemptStarted,
    CausesFound,
    Doing,
    EpochEnded,
    Event,
    Heartbeat,
    ModelBuilt,
    PhaseEnded,
    PhaseStarted,
    RacerEnded,
    ReadingProgress,
    RunEnded,
    ScreeningProgress,
    SeedsScreened,
    Warned,
)
from orchestrator.record.records import Phase, Run, Start
from orchestrator.record.storage import archive

SPARSE_SECONDS = 15.0
"""Without a live display, at most one line in this time tells of an epoch."""

_NOTICED_SECONDS = 0.1
"""What goes on before a run is told of where it took so long."""

Detail = Literal["all", "attempts", "warnings"]
"""How much is shown: everything, a line an attempt, or nothing but warnings."""


def stderr() -> Console:
    """The console for progress. FORCE_COLOR colours a file, but gives it no live display."""
    return Console(stderr=True, force_interactive=None if sys.stderr.isatty() else False)


class View:
    """Shows a run as it goes.

    Args:
        console: where to.
        detail: how much.
    """

    def __init__(self, console: Console, *, detail: Detail = "all") -> None:
        self._console = console
        self._detail = detail
        self._screen = Screen()
        self._live = display(self._screen, console) if detail == "all" else None
        self._epoch = 0
        self._planned = 0
        self._begun = False
        self._directory: Path | None = None
        """Where the run is recorded; None before, and for what is not recorded, a replay."""
        self._spoke = time.monotonic()
        self._steps = Steps(self._tell_step, self._tell_long_step)

    def __enter__(self) -> View:
        """Start the live display, where there is one."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the live display away."""
        self._steps.end(told=False)
        self._screen.scene, self._screen.note = None, ""
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Tell what goes on before the run has begun.

        Args:
            text: what it is, and behind a colon how far it has come.
        """
        self._screen.note = text
        if self._detail == "all":
            self._steps.begin(text)

    def read(self, progress: ReadingProgress) -> None:
        """Tell how far the reading of rows has come, before the run has begun."""
        told = words.reading(progress)
        if not self._begun and self._detail == "all":
            self._steps.begin(told)
        if self._live:
            self._screen.note = "" if progress.done else told
        elif self._detail == "all" and time.monotonic() - self._spoke >= SPARSE_SECONDS:
            self._print(Text(told))

    def begin(
        self,
        directory: Path,
        config: Config,
        *,
        replayed: int | None = None,
        resumed: Run | None = None,
    ) -> None:
        """Tell where the run is recorded, and start to show it.

        Args:
            directory: the run's directory.
            config: its config.
            replayed: number of the attempt that is trained again; None for a run.
            resumed: the run so far, where it goes on; None for a new one.
        """
        self._steps.end()
        where = f"{words.relative(directory.parent)}{os.sep}"
        if resumed is not None and self._detail != "warnings":
            self._print(Text(f"Run {directory.name} in {where} {words.going_on(resumed)}"))
        elif self._detail == "all":
            what = "Run" if replayed is None else f"Replay of attempt {replayed} of run"
            self._print(Text(f"{what} {directory.name} in {where}"))
        self._begun = True
        self._directory = directory if replayed is None else None
        if self._live:
            run = Run(run=directory.name) if resumed is None else resumed
            self._screen.scene = Scene(config=config, run=run, began=time.monotonic())

    def show(self, event: Event | Heartbeat, run: Run) -> None:
        """Show one event; `run` is the run after it."""
        scene = self._screen.scene
        if scene is not None:
            scene = advance(scene, event, run, time.monotonic())
            self._screen.scene = self._with_earlier_epochs(scene, event)
        if self._detail == "all":
            self._follow(event)
        if isinstance(event, Warned):
            self._print(Text.assemble(("warning", "yellow"), f": {clean(event.message)}"))
        elif self._detail == "all":
            self._tell(event)
        elif self._detail == "attempts":
            self._tell_ending(event, run)

    def _with_earlier_epochs(self, scene: Scene, event: Event | Heartbeat) -> Scene:
        """The scene with the curves of an attempt that goes on, from epochs that it may not know.

        They were another attempt's, or were trained before this process began.
        """
        match event:
            case AttemptResumed() | AttemptStarted(start=Start()) if self._directory is not None:
                epochs = archive.epochs(self._directory).get(event.attempt, ())
                return dataclasses.replace(scene, curves=curves_of(epochs))
        return scene

    def _follow(self, event: Event | Heartbeat) -> None:
        """Note what goes on between the events that are told of with a time of their own."""
        match event:
            case Doing():
                self._steps.begin(words.doing(event))
            case ScreeningProgress():
                self._steps.begin(words.screening(event))
            case AttemptStarted() | AttemptResumed():
                self._steps.begin("building the model")
            case ModelBuilt():
                self._steps.begin("checking the untrained model")
            case _:
                self._steps.end(told=False)

    def _tell_step(self, what: str, seconds: float) -> None:
        if seconds >= (LONG_SECONDS if self._begun else _NOTICED_SECONDS):
            indent = "  " if self._begun else ""
            self._print(Text(f"{indent}{what} · {words.duration(seconds)}"))

    def _tell_long_step(self, text: str) -> None:
        if not self._live:
            self._print(Text(f"{'  ' if self._begun else ''}{text} …"))

    def _tell(self, event: Event | Heartbeat) -> None:
        """The lines that stay."""
        match event:
            case AttemptStarted():
                if event.cause is not None and event.remedy is not None:
                    # On a terminal the lines above have just given the reason.
                    sentence = words.restart_sentence(event, reason=self._live is None)
                    self._print(Text(sentence, style="bold"))
                head = f"\nAttempt {event.attempt} (seed {event.settings.seed})"
                self._print(Text(head, style="bold"))
            case AttemptResumed():
                sentence = words.resumption(event)
                self._print(Text(f"  {sentence}"))
            case RacerEnded():
                self._print(Text(f"  {words.race_sentence(event.racer)}"))
            case SeedsScreened() if len(event.candidates) > 1:
                self._print(Text(f"  {words.screening_sentence(event)}"))
            case PhaseStarted():
                self._epoch, self._planned = event.done, event.epochs
            case EpochEnded():
                self._epoch += 1
                self._say_now_and_then(event)
            case PhaseEnded():
                self._phase(event.phase)
            case CausesFound():
                for finding in event.findings:
                    told = words.finding_line(finding, failed=event.failed)
                    self._print(Text(f"  {told}"))
            case AttemptEnded():
                if event.status != "failed" and event.failure is not None:
                    reason = clean(event.failure.reason)
                    self._print(Text(f"Attempt {event.attempt} crashed: {reason}"))

    def _tell_ending(self, event: Event | Heartbeat, run: Run) -> None:
        """One line for each attempt, as soon as it is known what follows it."""
        if isinstance(event, AttemptStarted) and event.cause is not None:
            self._print(Text(words.restart_sentence(event)))
            for finding in run.attempts[-2].told_findings():
                self._print(Text(f"  {words.finding_line(finding, failed=True)}"))
        elif isinstance(event, RunEnded) and run.attempts:
            self._print(Text(words.last_sentence(run)))
            for line in words.worth_knowing(run):
                self._print(Text(f"  {line}"))

    def _phase(self, phase: Phase) -> None:
        head = f"  {clean(phase.phase)}"
        if phase.epochs:
            epochs = f"{phase.epochs} epoch{'s' * (phase.epochs != 1)}"
            head += f" · {epochs} · {words.losses(phase.metrics)}"
        self._print(Text(f"{head} · {phase.seconds:.1f} s"))
        if self._live:
            self._verdicts(phase)
            return
        for check in phase.checks:
            self._print(
                _verdict(check.verdict).append(
                    f"  {check.check:<19}  {words.verdict_reason(check)}"
                )
            )

    def _verdicts(self, phase: Phase) -> None:
        """The verdicts for a terminal: what passed on one line, everything else with its reason."""
        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True)
        grid.add_column(overflow="fold")
        passed = [check.check for check in phase.checks if check.verdict == "pass"]
        if passed:
            grid.add_row(_verdict("pass"), Text(", ".join(passed)))
        for check in phase.checks:
            if check.verdict != "pass":
                reason = words.verdict_reason(check)
                grid.add_row(_verdict(check.verdict), Text(f"{check.check}: {reason}"))
        if grid.row_count:
            self._print(grid)

    def _say_now_and_then(self, event: EpochEnded) -> None:
        if not self._live and time.monotonic() - self._spoke >= SPARSE_SECONDS:
            epoch = f"epoch {self._epoch}/{self._planned}"
            self._print(Text(f"  {clean(event.phase)} · {epoch} · {words.losses(event.metrics)}"))

    def _print(self, renderable: RenderableType) -> None:
        self._spoke = time.monotonic()
        if self._live:
            self._live.print(Legible(renderable))
            return
        # A log file gets whole lines, a terminal gets wrapped ones.
        whole = isinstance(renderable, Text) and not self._console.is_interactive
        self._console.print(Legible(renderable), highlight=False, soft_wrap=whole)


def _verdict(verdict: str) -> Text:
    return Text.assemble("    ", (f"{words.VERDICTS[verdict]:<4}", words.STYLES[verdict]))
