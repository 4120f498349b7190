"""How far a search is: its best so far, its time left, and the lines of its live display. Pure."""

from __future__ import annotations

import dataclasses
import math

from rich.text import Text

from orchestrator.display.charts import SPINNER, bar, sparkline
from orchestrator.display.search import words
from orchestrator.display.text import clean
from orchestrator.display.widths import crop
from orchestrator.record.search import BASE, Search

_BAR = 24
_CURVE = 40


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A search at one moment. Times are seconds of a monotonic clock."""

    search: Search
    """Its record."""
    began: float
    """When this sitting began; a search that is resumed has had others."""
    before: int
    """Runs that had ended by then."""
    seconds_before: float
    """What the sittings before have taken."""
    fresh_seeds: int
    """Seeds of the comparison to come."""

    def seconds_left(self, now: float) -> float | None:
        """About how long it will take, at the pace of this sitting; None before any run ended."""
        done = runs_ended(self.search) - self.before
        if done < 1:
            return None
        return (now - self.began) / done * _runs_left(self.search, self.fresh_seeds)


def runs_ended(search: Search) -> int:
    """How many runs of trials and of the comparison have ended."""
    found = search.comparison
    arms = sum(len(arm.runs) for arm in found.arms) if found is not None else 0
    return arms + sum(len(trial.runs) for trial in search.trials)


def _runs_left(search: Search, fresh_seeds: int) -> float:
    """Runs that are still to come, if further trials are cut as often as those before."""
    found = search.comparison
    if found is not None:
        return sum(len(found.seeds) - len(arm.runs) for arm in found.arms)
    ended = [trial for trial in search.trials if trial.status != "running"]
    each = sum(len(trial.runs) for trial in ended) / len(ended) if ended else len(search.seeds)
    begun = sum(len(trial.runs) for trial in search.trials if trial.status == "running")
    to_come = max(search.max_trials - len(ended), 0) * each
    return max(to_come - begun, 0.0) + 2 * fresh_seeds


def best_so_far(search: Search) -> str:
    """The best trial so far and the config as it is, in one clause; empty without any."""
    best, base = search.best(), search.trial(BASE)
    if best is None:
        return ""
    told = f"best so far: trial {best.trial}, score {words.score(best.score)}"
    if base is not None and base.score is not None and best.trial != BASE:
        told += f" (the config as it is: {words.score(base.score)})"
    return told


def clock(seconds: float | None) -> str:
    """A time left, without a precision that it does not have."""
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 90:
        return f"about {max(int(round(seconds, -1)), 10)} s left"
    if seconds < 90 * 60:
        return f"about {round(seconds / 60)} min left"
    return f"about {seconds / 3600:.1f} h left"


def block(progress: Progress, now: float, *, width: int, height: int) -> list[Text]:
    """The live display.

    Args:
        progress: the search.
        now: the clock, in seconds.
        width: columns at most.
        height: lines at most.
    """
    search = progress.search
    lines = [_title(progress, now, width), _where(progress, now, width)]
    if search.trials and search.comparison is None:
        *_, told = words.trial_cells(search.trials[-1], search)
        tried = clean(told)
        lines.append(Text(crop(f"  {tried}", width)))
    if best := best_so_far(search):
        lines.append(Text(crop(best, width), style="green"))
    scores = [
        trial.score
        for trial in search.trials
        if trial.score is not None and trial.score == trial.score
    ]
    if len(scores) > 1 and width > _CURVE:
        curve = sparkline(scores, _CURVE, search.max_trials if search.max_trials < _CURVE else 0)
        lines.append(Text.assemble("scores  ", (curve, "cyan")))
    return lines[:height]


def _title(progress: Progress, now: float, width: int) -> Text:
    seconds = int(now - progress.began + progress.seconds_before)
    elapsed = f"{seconds // 3600}:{seconds % 3600 // 60:02}:{seconds % 60:02}"
    elapsed = elapsed.removeprefix("0:").removeprefix("0") if seconds < 3600 else elapsed
    name = crop(clean(progress.search.search), max(width - len(elapsed) - 10, 4))
    rule = "─" * (width - len(elapsed) - len(name) - 6)
    title = Text.assemble(("── ", "dim"), (name, "bold"), (f" {rule} ", "dim"), elapsed)
    return title if title.cell_len <= width else Text(crop(title.plain, width))


def _where(progress: Progress, now: float, width: int) -> Text:
    """Trial and seed, or how far the comparison is, a bar, and the time left."""
    search, left = progress.search, clock(progress.seconds_left(now))
    found = search.comparison
    if found is not None:
        done, whole = sum(len(arm.runs) for arm in found.arms), len(found.seeds) * len(found.arms)
        text = f"comparing on fresh seeds · run {min(done + 1, whole)} of {whole}"
    elif search.trials:
        trial = search.trials[-1]
        done, whole = len(trial.runs), len(search.seeds)
        seed = f" · seed {min(done + 1, whole)} of {whole}"
        text = f"trial {trial.trial} of {search.max_trials}{seed}"
        done, whole = (trial.trial - 1) * whole + done, search.max_trials * whole
    else:
        return Text(crop(f"{_spinner(now)} starting", width))
    text = f"{_spinner(now)} {text}"
    columns = min(width - len(text) - len(left) - 4, _BAR)
    if columns < 4:
        return Text(crop(f"{text}  {left}".rstrip(), width))
    filled = bar(done, whole, columns)
    return Text.assemble(
        f"{text}  ", ("━" * filled, "cyan"), ("─" * (columns - filled), "dim"), f"  {left}"
    )


def _spinner(now: float) -> str:
    return SPINNER[int(4 * now) % len(SPINNER)]
