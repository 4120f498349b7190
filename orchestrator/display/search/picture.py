"""The picture of a search: the score against each parameter, as SVG without any library. Pure.

It brings its own background and follows the reader's preference for light or dark; what differs by
colour differs by shape, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from orchestrator.display.search import axes
from orchestrator.display.search.axes import Axis, label
from orchestrator.display.widths import crop
from orchestrator.record.search import BASE, Parameter, Search, Trial

_PANEL = (320, 236)
"""Width and height that a panel takes, in pixels; the list of long choices comes on top."""
_LINE = 16
"""Height of a line of that list."""
_PLOT = (52, 30, 252, 160)
"""Left, top, width and height of the plot in its panel."""
_HEAD = 84
"""Height of the title and the legend."""
_COLUMNS = 3
_LETTERS = 42
"""Letters that fit below a plot."""

_STYLE = """
text { font: 12px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #24292f }
.page { fill: #ffffff } .plot { fill: #f6f8fa } .grid { stroke: #d8dee4 }
.title { font-size: 15px; font-weight: 600 } .name { font-weight: 600 }
.dim { fill: #57606a; font-size: 11px } .line { stroke: #57606a; stroke-dasharray: 2 3 }
.done { fill: #0969da; fill-opacity: .75 } .cut { fill: none; stroke: #0969da; stroke-width: 1.5 }
.failed { stroke: #57606a; stroke-width: 1.5 }
.best { fill: #bc4c00 } .base { fill: none; stroke: #1a7f37; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .page { fill: #0d1117 } .plot { fill: #161b22 } .grid { stroke: #30363d }
.dim { fill: #8d96a0 } .line { stroke: #8d96a0 } .done { fill: #58a6ff } .cut { stroke: #58a6ff }
.failed { stroke: #8d96a0 } .best { fill: #f0883e } .base { stroke: #3fb950 } }
"""


def draw_search(search: Search, *, unit: str) -> str:
    """The score of each trial against each parameter.

    Args:
        search: the search.
        unit: what the score is, for people.

    Returns:
        An SVG document.
    """
    columns = max(min(len(search.space), _COLUMNS), 2)
    across = [_across(parameter, search.trials) for parameter in search.space]
    tops = _tops([_listed(axis) for axis in across], columns)
    width, height = columns * _PANEL[0], tops[-1]
    scored = [trial for trial in search.trials if _is_scored(trial)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img">',
        f"<title>{escape(search.name)}: {escape(unit)} against each parameter</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="page" width="{width}" height="{height}"/>',
        *_head(search, unit, width),
    ]
    if not scored:
        parts.append(_text(16, _HEAD, "No trial has a score yet.", ""))
    else:
        scores = axes.of_scores([trial.score for trial in scored if trial.score is not None])
        for index, parameter in enumerate(search.space):
            left, top = index % columns * _PANEL[0], tops[index // columns]
            panel = _panel(search, parameter, across[index], scores)
            parts += [f'<g transform="translate({left} {top})">', *panel, "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _head(search: Search, unit: str, width: int) -> Iterator[str]:
    count = len(search.trials)
    title = f"{search.name}: {unit} of {count} trial{'s' * (count != 1)}"
    yield _text(16, 28, title, "title")
    left = 22.0
    for kind, told in (
        ("done", "a trial"), ("cut", "cut short"), ("failed", "failed"),
        ("best", "the best"), ("base", "the config as it is"),
    ):  # fmt: skip
        if kind in ("cut", "failed") and not any(trial.status == kind for trial in search.trials):
            continue
        yield _mark(kind, left, 54, "")
        yield _text(left + 12, 58, told, "dim")
        left += 32 + 6.2 * len(told)


def _tops(lists: Sequence[Sequence[str]], columns: int) -> list[int]:
    """Where each row of panels begins, and where the last one ends."""
    tops = [_HEAD]
    for start in range(0, max(len(lists), 1), columns):
        longest = max(map(len, lists[start : start + columns]), default=0)
        tops.append(tops[-1] + _PANEL[1] + _LINE * longest)
    return tops


def _listed(across: Axis) -> list[str]:
    """The choices of an axis, where they are too long to stand side by side below it."""
    told = [text for _, text in across.ticks] if across.slot else []
    room = _LETTERS // max(len(told), 1) - 1
    return told if max(map(len, told), default=0) > room else []


def _panel(search: Search, parameter: Parameter, across: Axis, scores: Axis) -> Iterator[str]:
    """One parameter's trials."""
    left, top, width, height = _PLOT
    yield f"<title>{escape(parameter.path)}</title>"
    yield _text(left, top - 10, crop(parameter.path, _LETTERS, left=True), "name")
    yield f'<rect class="plot" x="{left}" y="{top}" width="{width}" height="{height}"/>'
    for place, told in scores.ticks:
        y = top + height * (1 - place)
        yield _line("grid", left, y, left + width, y)
        yield _text(left - 6, y + 4, told, "dim", "end")
    listed = _listed(across)
    for index, (place, told) in enumerate(across.ticks):
        x = left + width * place
        if not across.slot:
            yield _line("grid", x, top, x, top + height)
        shown = chr(ord("A") + index % 26) if listed else told
        yield _text(x, top + height + 16, shown, "dim", "middle")
        if listed:
            y = top + height + 16 + _LINE * (index + 1)
            yield _text(left, y, crop(f"{shown}  {told}", _LETTERS), "dim")
    yield from _base(search, parameter, across, scores)
    for trial in sorted(search.trials, key=lambda each: each.trial == search.best_trial):
        marked = trial.trial == BASE != search.best_trial  # by `_base`
        if parameter.path in trial.values and not marked:
            x = left + width * (across.place(trial.values[parameter.path]) + _aside(trial, across))
            y = top + height * (1 - scores.place(trial.score) if _is_scored(trial) else 0)
            yield _mark(_kind(trial, search.best_trial), x, y, _told(trial, parameter))


def _base(search: Search, parameter: Parameter, across: Axis, scores: Axis) -> Iterator[str]:
    """The score of the config as it is, and where it stands on the parameter's axis."""
    left, top, width, height = _PLOT
    base = search.trial(BASE)
    level: float = top + height
    if base is not None and _is_scored(base):
        level = top + height * (1 - scores.place(base.score))
        yield _line("line", left, level, left + width, level)
    if parameter.hyperparameter and base is not None and parameter.path not in base.values:
        return  # it is under a condition that does not hold there
    if (mark := _default(parameter, across)) is not None:
        told = f"the config as it is: {parameter.path} {label(parameter.default)}"
        yield _mark("base", left + width * mark, level, told)


def _across(parameter: Parameter, trials: Sequence[Trial]) -> Axis:
    """The axis of a parameter's values."""
    tried = (trial.values.get(parameter.path, parameter.default) for trial in trials)
    values = [value for value in tried if value is not None]
    if parameter.kind in ("float", "int"):
        bounds = [each for each in (parameter.low, parameter.high) if each is not None]
        # The config may have something else in that place, as a schedule.
        known = [each for each in values if isinstance(each, int | float)]
        shown = [each for each in [*bounds, *known] if each > 0 or not parameter.log]
        return axes.of_numbers(shown or [1.0], log=parameter.log)
    return axes.of_choices([*(parameter.choices or (False, True)), *values])


def _default(parameter: Parameter, across: Axis) -> float | None:
    """Where the default stands; None where there is none, or it is outside of what was searched."""
    try:
        place = across.place(parameter.default)
    except (TypeError, ValueError, KeyError):
        return None
    return place if 0 <= place <= 1 else None


def _aside(trial: Trial, across: Axis) -> float:
    """Within the slot of a choice trials stand side by side, each always at the same place."""
    return across.slot * 0.6 * ((trial.trial * 0.618) % 1 - 0.5)


def _kind(trial: Trial, best: int | None) -> str:
    if trial.trial == best:
        return "best"
    if not _is_scored(trial):
        return "failed"
    return "cut" if trial.status == "cut" else "done"


def _is_scored(trial: Trial) -> bool:
    return trial.score is not None and math.isfinite(trial.score)


def _told(trial: Trial, parameter: Parameter) -> str:
    """What a reader sees who rests on a mark."""
    score = "no score" if trial.score is None else f"score {trial.score:.4g}"
    status = "" if trial.status == "completed" else f", {trial.status}"
    own = label(trial.values[parameter.path])
    return f"trial {trial.trial}: {score}{status}; {parameter.path} {own}"


def _mark(kind: str, x: float, y: float, told: str) -> str:
    """A mark; the kinds differ in their shapes."""
    title = f"<title>{escape(told)}</title>" if told else ""
    if kind == "failed":
        path = f"M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"
    elif kind == "base":
        path = f"M{x:.1f} {y - 6:.1f}l6 6l-6 6l-6 -6z"
    elif kind == "best":
        points = [(7.5 if index % 2 == 0 else 3.2, index * math.pi / 5) for index in range(10)]
        corners = [(x + r * math.sin(a), y - r * math.cos(a)) for r, a in points]
        path = "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in corners) + "z"
    else:
        return f'<circle class="{kind}" cx="{x:.1f}" cy="{y:.1f}" r="4">{title}</circle>'
    return f'<path class="{kind}" d="{path}">{title}</path>'


def _line(kind: str, x: float, y: float, to_x: float, to_y: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def _text(x: float, y: float, told: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(told)}</text>'
    )
