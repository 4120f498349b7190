"""What happens in a search, a line each."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from orchestrator.config.schema import Config
from orchestrator.display import words
from orchestrator.display.search import words as search_words
from orchestrator.record.search import Search
from orchestrator.tuning.journal import (
    ArmRunEnded,
    Compared,
    SearchEnded,
    SearchEvent,
    SearchWarned,
    TrialEnded,
    TrialStarted,
)


class Lines:
    """Prints them.

    Args:
        console: where.
        quiet: print warnings and the end alone.
    """

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self._console = console
        self._quiet = quiet

    def say(self, text: str) -> None:
        """Tell what is going on."""
        if not self._quiet:
            self._print(text)

    def begin(self, directory: Path, found: Search, config: Config) -> None:
        """Tell where the search is recorded."""
        self.say(f"Search {directory.name} in {words.relative(directory.parent)}")

    def show(self, event: SearchEvent, search: Search) -> None:
        """Tell what has happened."""
        match event:
            case TrialStarted():
                told = search_words.values(search.space, event.values) or "the config as it is"
                self.say(f"Trial {event.trial} of {search.max_trials}: {told}")
            case TrialEnded():
                score = "" if event.score is None else f" at {event.score:.4g}"
                reason = f": {event.reason}" if event.reason else ""
                self.say(f"  {event.status}{score}{reason}")
            case ArmRunEnded():
                self.say(f"  {event.arm}, seed {event.run.seed}: {event.run.status}")
            case Compared() if event.comparison.reason:
                self._print(event.comparison.reason)
            case SearchWarned():
                self._print(event.message)
            case SearchEnded():
                self._print(event.conclusion)
            case _:
                pass

    def _print(self, text: str) -> None:
        self._console.print(Text(text), highlight=False, soft_wrap=True)
