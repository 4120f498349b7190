"""The lines of the live display: a pure function of the scene, the time and the room."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from orchestrator.display import words
from orchestrator.display.charts import SPINNER, aligned, bar, is_logarithmic, sparkline
from orchestrator.display.live.scene import Curve, Scene
from orchestrator.display.text import clean
from orchestrator.display.widths import crop
from orchestrator.record.checks import Check
from orchestrator.record.events import LayerShare
from orchestrator.record.records import Attempt

_SEVERITY = ("pass", "not_applicable", "warn", "fail")
_BAR = 24
_CURVE = 60
_AIRY = 20
"""From this height on a blank line parts the sections, even where rows are left out for it."""
_BESIDE_CURVE = 50
"""Columns of what stands beside a curve: its name, a value, "lowest 1.234e+05, log scale", gaps."""


def block(scene: Scene, now: float, *, width: int, height: int) -> list[Text]:
    """The scene as lines.

    Args:
        scene: what to show.
        now: the clock, in seconds.
        width: columns at most.
        height: lines at most; the least important are left out.
    """
    head = [_title(scene, now, width)]
    if scene.run.attempts:
        head.append(_attempt(scene, width))
    head.append(_phase(scene, now, width))
    sections = (_curves(scene, width), _dead(scene, width), _checks(scene), _earlier(scene))
    return _fit(head, [each for each in sections if each.rows], width, height)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    """A part of the display: a title and rows, of which some may be left out."""

    title: str = ""
    rows: Sequence[Sequence[Text]] = ()
    weights: Sequence[float] = ()
    """How important each row is; where there is too little room, the least important go."""
    flexible: int
    """Index of the column that is cut where a row is too wide."""
    rest: str = "and {count} more"
    """The line for the rows left out: `count` of them, `worst` their greatest weight."""

    def height(self, count: int) -> int:
        return count + bool(self.title)

    def lines(self, count: int, width: int) -> list[Text]:
        """The title and `count` lines: the most important rows, and how many were left out."""
        kept = list(range(len(self.rows)))
        if count < len(kept):
            ranked = sorted(kept, key=lambda index: -self.weights[index])
            kept = sorted(ranked[: count - 1])
        lines = aligned([self.rows[index] for index in kept], width, flexible=self.flexible)
        hidden = [weight for index, weight in enumerate(self.weights) if index not in kept]
        if hidden:
            rest = self.rest.format(count=len(hidden), worst=max(hidden))
            lines.append(Text(crop(rest, width), style="dim"))
        title = [Text(crop(self.title, width), style="bold")] if self.title else []
        return [*title, *lines]


def _fit(head: list[Text], sections: list[_Section], width: int, height: int) -> list[Text]:
    """Take rows from the longest section until all fit; where two rows are left, drop the last."""
    counts = [len(section.rows) for section in sections]
    room = height - len(head)
    airy = height >= _AIRY

    def spare() -> int:
        taken = zip(sections, counts, strict=True)
        return room - sum(section.height(count) + airy for section, count in taken)

    while counts and spare() < 0:
        longest = counts.index(max(counts))
        if counts[longest] > 2:
            counts[longest] -= 1
        else:
            del sections[-1], counts[-1]
    airy = airy or spare() >= len(sections)
    lines = list(head)
    for section, count in zip(sections, counts, strict=True):
        lines += [Text("")] * airy + section.lines(count, width)
    return lines[:height]


def _title(scene: Scene, now: float, width: int) -> Text:
    elapsed = _clock(now - scene.began)
    name = crop(clean(scene.run.run), max(width - len(elapsed) - 10, 4))
    rule = "─" * (width - len(elapsed) - cell_len(name) - 6)
    title = Text.assemble(("── ", "dim"), (name, "bold"), (f" {rule} ", "dim"), elapsed)
    return title if title.cell_len <= width else Text(crop(title.plain, width))


def _attempt(scene: Scene, width: int) -> Text:
    attempt = scene.run.attempts[-1]
    number = f"Attempt {attempt.attempt} of {scene.config.restart.max_attempts}"
    line = f"{number} · {words.change(attempt)}"
    if cell_len(line) > width:
        line = f"{number} · {words.short_change(attempt, seed=True)}"
    return Text(crop(line, width), style="bold")


def _phase(scene: Scene, now: float, width: int) -> Text:
    """Phase, epoch, progress bar and time left; where that is too wide, some of it."""
    phase = scene.phase
    if phase is None:
        return Text(crop(f"{_spinner(now)} {_activity(scene, now) or 'going on'}", width))
    left = _activity(scene, now) or _left(scene, now)
    where = f" · phase {scene.phase_number} of {len(scene.config.phases)}"
    epoch = f" · epoch {min(scene.epoch + 1, phase.epochs)}/{phase.epochs}"
    text = f"{_spinner(now)} {clean(phase.phase)}{where}{epoch}"
    if cell_len(text) + len(left) + 2 > width:
        text = text.replace(where, "")
    columns = min(width - cell_len(text) - len(left) - 4, _BAR)
    if columns < 4:
        return Text(crop(f"{text}  {left}", width))
    filled = bar(scene.epoch + scene.fraction, phase.epochs, columns)
    line = Text.assemble(
        f"{text}  ", ("━" * filled, "cyan"), ("─" * (columns - filled), "dim"), f"  {left}"
    )
    return line if line.cell_len <= width else Text(crop(line.plain, width))


def _activity(scene: Scene, now: float) -> str:
    """What goes on, and for how long."""
    if not scene.activity or scene.activity_began is None:
        return scene.activity
    return f"{scene.activity}  {_clock(now - scene.activity_began)}"


def _left(scene: Scene, now: float) -> str:
    seconds = scene.seconds_left(now)
    if seconds is None:
        return ""
    phase, attempt = seconds
    last = scene.phase_number == len(scene.config.phases)
    return f"{_clock(phase)} left" + ("" if last else f", {_clock(attempt)} in all")


def _curves(scene: Scene, width: int) -> _Section:
    names = ["loss"]
    if scene.config.data.validation is not None:
        names.append("val_loss")
    columns = min(_CURVE, scene.planned, max(width - _BESIDE_CURVE, 8))
    rows = [_curve_row(name, scene.curves.get(name, Curve()), columns, scene) for name in names]
    return _Section(rows=rows, weights=[0.0] * len(rows), flexible=3)


def _curve_row(name: str, curve: Curve, columns: int, scene: Scene) -> list[Text]:
    """Name, latest value and curve, each padded to its final width, so that nothing shifts."""
    latest = words.number(curve.latest) if curve.epochs else "–"
    log = is_logarithmic((curve.lowest, curve.highest))
    drawn = sparkline(curve.points, columns, math.ceil(scene.planned / curve.each), log=log)
    notes = [f"lowest {words.number(curve.lowest)}"] if math.isfinite(curve.lowest) else []
    if log:
        notes.append("log scale")
    return [
        Text(name),
        Text(f"{latest:<9}"),
        Text(f"{drawn:<{columns}}", style="cyan"),
        Text(", ".join(notes), style="dim"),
    ]


def _dead(scene: Scene, width: int) -> _Section:
    limits = scene.config.checks.dead_neurons
    bounds = (0.5, 0.9) if limits is None else (limits.warn_above, limits.fail_above)
    shares = [each.dead / each.units if each.units else 0.0 for each in scene.layers]
    if scene.looked_at is None:
        title = "Dead units, not counted yet"
    else:
        title = f"Dead units on {scene.looked_at}" + (", upper bounds" * scene.upper_bounds)
    rows = [
        _dead_row(each, share, scene, width, bounds)
        for each, share in zip(scene.layers, shares, strict=True)
    ]
    return _Section(
        title=title,
        rows=rows,
        weights=shares,
        flexible=0,
        rest="and {count} more, at most {worst:.0%} dead",
    )


def _dead_row(
    layer: LayerShare, share: float, scene: Scene, width: int, bounds: tuple[float, float]
) -> list[Text]:
    columns = min(_BAR, width // 3)
    name = Text(crop(clean(layer.layer), max(width - columns - 16, 6), left=True))
    if scene.looked_at is None:
        return [name, Text("░" * columns, style="dim"), Text(f"–/{layer.units}", style="dim")]
    filled = bar(layer.dead, layer.units, columns)
    style = ("green", "yellow", "red")[sum(share > bound for bound in bounds)]
    picture = Text.assemble(("█" * filled, style), ("░" * (columns - filled), "dim"))
    sign = "≤ " if scene.upper_bounds and layer.dead else ""
    return [name, picture, Text(f"{sign}{layer.dead}/{layer.units}")]


def _checks(scene: Scene) -> _Section:
    phases = scene.run.attempts[-1].phases if scene.run.attempts else ()
    if not phases:
        return _Section(flexible=2)
    checks = phases[-1].checks
    return _Section(
        title=f"Checks after {clean(phases[-1].phase)}",
        rows=[_check_row(check) for check in checks],
        weights=[_SEVERITY.index(check.verdict) for check in checks],
        flexible=2,
        rest="and {count} more, no worse",
    )


def _check_row(check: Check) -> list[Text]:
    word = Text(words.VERDICTS[check.verdict], style=words.STYLES[check.verdict])
    return [word, Text(check.check), Text(clean(check.reason))]


def _earlier(scene: Scene) -> _Section:
    attempts = scene.run.attempts[:-1]
    return _Section(
        title="Earlier attempts",
        rows=[_earlier_row(attempt) for attempt in attempts],
        weights=[attempt.attempt for attempt in attempts],
        flexible=1,
        rest="and {count} before",
    )


def _earlier_row(attempt: Attempt) -> list[Text]:
    skill = attempt.skill()
    return [
        Text(str(attempt.attempt)),
        Text(words.short_change(attempt)),
        Text(crop(words.outcome(attempt), 36), style="red" if attempt.failure else ""),
        Text("" if skill is None else f"skill {skill:.3g}"),
    ]


def waiting(note: str, now: float, seconds: float, *, width: int) -> Text:
    """The line of the live display before the run has begun.

    Args:
        note: what goes on.
        now: the clock, in seconds.
        seconds: how long it has been going on.
        width: columns at most.
    """
    return Text(crop(f"{_spinner(now)} {note}  {_clock(seconds)}", width))


def _spinner(now: float) -> str:
    return SPINNER[int(4 * now) % len(SPINNER)]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
