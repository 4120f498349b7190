"""Shows a search as it goes: a row a trial, and on a terminal a block below them that moves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from orchestrator.config.schema import Config
from orchestrator.display.charts import Legible
from orchestrator.display.live.block import waiting
from orchestrator.display.live.screen import display
from orchestrator.display.live.view import Detail
from orchestrator.display.search import words
from orchestrator.display.search.progress import Progress, best_so_far, block, clock, runs_ended
from orchestrator.display.text import clean
from orchestrator.display.widths import crop
from orchestrator.display.words import relative
from orchestrator.record.search import Comparison, Search, Trial

_ROW = "{:>5}  {:>9}  {:<6}  {:>8}  {:>7}  {}"
_HEADING = _ROW.format("trial", "score", "", "passed", "time", "values")


class _Screen:
    """What the live display shows now.

    Args:
        clock: tells the seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.progress: Progress | None = None
        self.note = ""
        self._clock = clock
        self._start = clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it within the height of the terminal."""
        now, width = self._clock(), options.max_width
        lines: list[Text] = []
        if self.progress is not None:
            height = max(console.size.height - 1, 1)
            lines = block(self.progress, now, width=width, height=height)
        elif self.note:
            lines = [waiting(self.note, now, now - self._start, width=width)]
        yield Legible(Group(*lines))


class SearchView:
    """Shows a search as it goes.

    Args:
        console: where to.
        detail: how much: everything, a line a trial, or nothing but warnings.
        clock: tells the seconds.
    """

    def __init__(
        self,
        console: Console,
        *,
        detail: Detail = "all",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._detail = detail
        self._clock = clock
        self._screen = _Screen(clock)
        self._live = display(self._screen, console) if detail == "all" else None
        self._progress: Progress | None = None
        self._trials = 0
        self._pairs = 0
        self._warnings = 0
        self._headed = False

    def __enter__(self) -> SearchView:
        """Start the live display, where there is one."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Take the live display away."""
        self._screen.progress, self._screen.note = None, ""
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Tell what goes on before the search has begun."""
        if self._live:
            self._screen.note = text
        elif self._detail == "all":
            self._print(Text(text))

    def begin(self, directory: Path, found: Search, config: Config) -> None:
        """Tell where the search is recorded, and how far it is.

        Args:
            directory: the search's directory.
            found: the search so far; one that is resumed has trials.
            config: the base config.
        """
        ended = [trial for trial in found.trials if trial.status != "running"]
        self._progress = self._screen.progress = Progress(
            search=found,
            began=self._clock(),
            before=runs_ended(found),
            seconds_before=found.seconds,
            fresh_seeds=config.tune.fresh_seeds,
        )
        self._trials, self._warnings = len(ended), len(found.warnings)
        if self._detail != "all":
            return
        where = f"{relative(directory.parent)}{os.sep}"
        self._print(Text(f"Search {directory.name} in {where}"))
        for line in self._plan(found, len(ended), config.tune.fresh_seeds):
            self._print(Text(line))

    def _plan(self, found: Search, ended: int, fresh: int) -> Iterator[str]:
        seeds = f"{len(found.seeds)} seed{'s' * (len(found.seeds) != 1)}"
        told = f"{found.max_trials} trials, each on {seeds} · {words.unit(found.objective)}"
        yield f"{told} · {fresh} fresh seed{'s' * (fresh != 1)} to compare on" if fresh else told
        if ended:
            best = best_so_far(found)
            yield f"{ended} trials are made already" + (f" · {best}" if best else "")

    def show(self, event: object, search: Search) -> None:
        """Show what has changed.

        Args:
            event: what happened; the search tells it, too.
            search: the search after it.
        """
        if self._progress is None:
            return
        progress = Progress(
            search=search,
            began=self._progress.began,
            before=self._progress.before,
            seconds_before=self._progress.seconds_before,
            fresh_seeds=self._progress.fresh_seeds,
        )
        self._progress = progress
        if self._screen.progress is not None:
            self._screen.progress = progress
        for warning in search.warnings[self._warnings :]:
            self._print(Text.assemble(("warning", "yellow"), f": {clean(warning)}"))
        self._warnings = len(search.warnings)
        if self._detail == "warnings":
            return
        ended = [trial for trial in search.trials if trial.status != "running"]
        for trial in ended[self._trials :]:
            self._tell_trial(trial, progress)
        self._trials = len(ended)
        if search.comparison is not None and self._detail == "all":
            self._tell_pairs(search, search.comparison)

    def _tell_trial(self, trial: Trial, progress: Progress) -> None:
        """The row of a trial that has ended."""
        search = progress.search
        if not self._headed and self._detail == "all":
            self._print(Text(f"\n{_HEADING}", "bold"))
            self._headed = True
        number, score, passed, seconds, told = words.trial_cells(trial, search)
        best = trial.trial == search.best_trial
        note = "best" if best else "" if trial.status == "completed" else trial.status
        row = _ROW.format(number, score, note, passed, seconds, clean(told))
        if self._live:
            row = crop(row, self._console.width)
        else:
            row += "".join(f" · {each}" for each in self._standing(progress) if each)
        style = "green" if best else {"failed": "red", "cut": "dim"}.get(trial.status, "")
        self._print(Text(row, style=style))
        if trial.status == "failed" and trial.reason:
            self._print(Text(f"       {clean(trial.reason)}", "red"))

    def _standing(self, progress: Progress) -> tuple[str, str]:
        """The best so far and the time left, where no live display has them."""
        best = progress.search.best()
        told = "" if best is None else f"best so far {best.trial}: {words.score(best.score)}"
        return told, clock(progress.seconds_left(self._clock()))

    def _tell_pairs(self, search: Search, found: Comparison) -> None:
        """A row for each fresh seed whose runs have ended in all arms."""
        whole = min((len(arm.runs) for arm in found.arms), default=0)
        for index in range(self._pairs, whole):
            if index == 0:
                self._print(Text("\nOn fresh seeds", "bold"))
            scores = (
                f"{words.arm_name(search, arm.arm)} {words.score(arm.runs[index].score)}"
                for arm in found.arms
            )
            self._print(Text(f"  {index + 1:>3} of {len(found.seeds)}: {' · '.join(scores)}"))
        self._pairs = whole

    def _print(self, text: Text) -> None:
        if self._live:
            self._live.print(Legible(text))
        else:  # a log file gets whole lines, a terminal gets wrapped ones
            whole = not self._console.is_interactive
            self._console.print(Legible(text), highlight=False, soft_wrap=whole)
