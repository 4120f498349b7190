"""What a search leaves for people: a config with the winner's values, and a picture.

The config is the user's own text with the values laid in, and runs from where it stands.
"""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.config import document
from orchestrator.config import load as configs
from orchestrator.config.schema import Config
from orchestrator.display.search import words
from orchestrator.display.search.axes import label
from orchestrator.display.search.picture import draw_search
from orchestrator.display.words import relative
from orchestrator.errors import InvalidError
from orchestrator.record.search import BASE, Search, Trial
from orchestrator.record.storage.directory import SearchPaths, write
from orchestrator.tuning.result.edit import edit, same

_WIDTH = 96


def write_files(config: Config, tuned: Config, search: Search, root: Path, *, command: str) -> None:
    """Write `tuned.yaml` and the picture of a search that has ended.

    Args:
        config: the base config.
        tuned: the config with the values of the best trial.
        search: the search.
        root: its directory.
        command: what made it.
    """
    paths = SearchPaths(root)
    write(paths.picture, draw_search(search, unit=words.unit(search.objective)).encode())
    best = search.best()
    if best is None or config._given is not None:
        return  # no config can hold a function that was given in Python
    text = comments(search, best, command=command, path=relative(paths.tuned))
    write(paths.tuned, f"{text}\n{tuned_text(config, tuned)}".encode())


def tuned_text(config: Config, tuned: Config) -> str:
    """The user's own text with the values of another config, and paths as they were.

    Args:
        config: the config as the user has it.
        tuned: the same with other values.

    Returns:
        YAML that loads as the other config from any folder; written anew, without the user's
        comments, where that cannot be done in the text.
    """
    written = config._written
    if written is None:
        return tuned.dump()
    wanted = _overlaid(copy.deepcopy(written.value), config.model_dump(), tuned.model_dump())
    wanted |= {"name": tuned.name, "base": tuned.base}
    text = edit(written.source.decode("utf-8-sig"), wanted)
    try:
        found = configs.check(document.parse(text, name=""), Path(tuned.base, "tuned.yaml"))
    except InvalidError:
        return tuned.dump()
    return text if same(found.model_dump(), tuned.model_dump()) else tuned.dump()


def _overlaid(written: Any, before: Any, after: Any) -> Any:
    """What was written, with the changes from one whole value to another."""
    if same(before, after):
        return written
    if written is None and isinstance(before, dict):
        written = {}
    if isinstance(written, dict) and isinstance(before, dict) and isinstance(after, dict):
        changed = {key for key in after if key not in before or not same(before[key], after[key])}
        kept = {key: value for key, value in written.items() if key in after or key not in before}
        return kept | {
            key: _overlaid(written.get(key), before.get(key), after[key]) for key in changed
        }
    if isinstance(written, list) and len(written) == len(before) == len(after):
        return [_overlaid(*items) for items in zip(written, before, after, strict=True)]
    return after


def comments(search: Search, best: Trial, *, command: str, path: str) -> str:
    """The lines above the config: what was found, how sure it is, and where it comes from.

    Args:
        search: the search.
        best: its best trial.
        command: what made it.
        path: where the config will stand.
    """
    paragraphs = [headline(search), *_found(search, best), *_values(search, best)]
    if search.comparison is not None and search.comparison.reason:
        paragraphs.append(f"How sure: {search.comparison.reason}")
    if search.effects:
        paragraphs.append(words.effects_sentence(search))
    paragraphs.append(f"Found by: {command}\nRun it:   orchestrate {path}")
    lines = [line for text in paragraphs for line in [*_wrapped(text), ""]]
    return "".join(f"# {line}".rstrip() + "\n" for line in lines[:-1])


def headline(search: Search) -> str:
    """The result in a sentence."""
    found, default = search.comparison, words.ARMS["default"]
    own = "The config as it is: no trial of the search was better. "
    told = own if search.best_trial == BASE else ""
    if found is None:
        return told.rstrip() or (
            "Not compared on fresh seeds: how good this is on other seeds is not known."
        )
    if found.better:
        return f"{told}Better than {default} on {len(found.seeds)} fresh seeds."
    return f"{told}NOT shown to be better than {default}, which is recommended."


def _found(search: Search, best: Trial) -> Iterator[str]:
    trials = len(search.trials)
    seeds = f"each on {len(search.seeds)} seed{'s' * (len(search.seeds) != 1)}"
    yield (
        f"Trial {best.trial} of {trials} of a {search.tuner} search, {seeds}: "
        f"{words.unit(search.objective)} {words.score(best.score)}."
    )


def _values(search: Search, best: Trial) -> Iterator[str]:
    """Each value beside the config's own, and what else was searched."""
    rows = []
    for each in search.space:
        if each.path in best.values and best.trial != BASE:
            found = best.values[each.path]
            own = "" if each.default is None else f"{label(each.default)} → "
            told = f"{own}{words.chosen(each, found)}"
            rows.append(f"  {each.path}: {told}   (of {words.domain(each)})")
    if rows:
        yield "\n".join(["Searched, with what was found:", *rows])


def _wrapped(text: str) -> Iterator[str]:
    for line in text.splitlines():
        indent = " " * (len(line) - len(line.lstrip()))
        yield from textwrap.wrap(
            line, _WIDTH, subsequent_indent=f"{indent}  " if indent else "", break_on_hyphens=False,
            break_long_words=False, drop_whitespace=True,
        )  # fmt: skip
