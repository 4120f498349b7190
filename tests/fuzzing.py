"""Broken and hostile input for the two readers of files: of configs and of run directories.

Each strategy draws what is done to a real config or a real record; `read_config` and `read_records`
are what must hold of whatever comes of it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from rich.console import Console

from orchestrator.config import load as configs
from orchestrator.config import recorded
from orchestrator.display.results import summarize_run
from orchestrator.display.tables import as_csv, as_table
from orchestrator.errors import InvalidError, RecordError
from orchestrator.history import compare, find, listing, logs
from orchestrator.history.find import History
from orchestrator.history.show import describe_run
from orchestrator.record.encoding import dump, jsonable
from orchestrator.record.records import Run
from orchestrator.record.storage import archive

CONFIGS = Path(__file__).parents[1] / "configs"
RECORDS = Path(__file__).parent / "record" / "fixtures" / "runs"

MAX_SECONDS = 5.0
"""Processor time that reading one input may take, on a slow machine."""
MAX_PROBLEMS = 101
"""How many problems one config may be told to have."""
MAX_MESSAGE = 2500
"""Characters of one problem that is told."""
CANARY = "orchestrator-fuzz-canary"
"""A file that the inputs try to make by what they would have executed."""

_TOKENS = (
    # Code that a YAML loader that is not safe runs.
    f"!!python/object/apply:os.system ['touch {CANARY}']",
    f"!!python/object/new:os.system ['touch {CANARY}']",
    "!!python/name:os.system", "!!python/module:os", "!!python/tuple [1]", "!!set {a}",
    "!!binary aGk=", "!!timestamp 2026-01-01", "!!omap [a: 1]", "!own {a: 1}", "!<tag:x> 1",
    "!" + "%1b" * 40, "!!str 1", "!!int x", "!!bool x", "!!float x", "!!null x", "!!map [1]",
    # Aliases.
    "&a [*a]", "*a", "&a x", "<<: *a", "{<<: [*a, *a]}", "{<<: {a: 1}}", "<<", "&a", "&a &b x",
    "{a: &a [1,1,1,1,1,1,1,1,1,1], b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a], "
    "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b], d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c], "
    "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d], f: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]}",
    # Depth and length.
    "[" * 150, "{a: " * 150, "- " * 150, "? " * 150, "[" * 90 + "]" * 90, "x" * 20_000,
    "k: " + "'" * 4001, "[" + "1," * 3000 + "]", '"' + "\\n" * 500 + '"',
    # Numbers.
    "9" * 5000, "-" + "9" * 299, "0x" + "f" * 400, "0o777", "0x", "1e999", "-1e999", "1e-999",
    ".nan", "-.inf", "-0", "-0.0", "1_000", "08", "+1", "1" * 310 + ".5",
    "18446744073709551616", "-1",
    # Texts.
    '"\\x1b[31m"', '"\\x1b]8;;http://a\\x07b"', '"\\0"', '"\\uD800"', '"\\u202E"', '"\\u2028"', "é",
    "\u202e", "\x9b31m", "\x85", "\u2028", "\ufeff", "[bold]x[/bold]", "[/]", ":bomb:", "'", '"',
    "|", ">-", "|9", "%TAG ! x", "%YAML 9.9", "---", "...", "--- a\n--- b", "#", ":", "?", "-", ",",
    "@x", "`x`", "\t", "\t- x", "= ", "~", "null", "true", "off", "on", "[]", "{}", "[{}]",
    "{[]: 1}", "{1: 2}", "{null: 1}", "{.nan: 1}", "{? [a] : 1}", "[null]", "all",
    "auto", "''", "2026-01-01",
    # Paths and names.
    "../../etc/passwd", "/etc/passwd", "/dev/zero", "..", "/", ".", "a/b", "os:system", "a" * 300,
    "builtins:exec", "{csv: /dev/zero, target: a}", "{callable: 'os:system', kwargs: {}}",
    "{Lambda: {function: x}}", "{Dense: {units: 1}}", "{Dense: 1}", "new_seed",
    "{remedy: new_seed}", "{remedy: new_seed, when: {kind: [died]}}",
    "{tuner: grid, space: {a: [1]}}",
)  # fmt: skip
"""What is put in place of a value, a key or a line of a config."""

_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 7, 10**18, 10**19, -(10**19), 10**30, 10**400, 0.0, -0.0, 0.5,
    -1.5, 1e308, 5e-324, "NaN", "Infinity", "-Infinity", "", "x", "0", "1", "1e999", "init",
    "main", "passed", "running", "failed", "a\nb", "\x1b[31mred", "\x1b]52;c;aGk=\x07", "\ud800",
    "\u202eevil", "\0",
    "[bold]x[/bold]", "[/]", "x" * 20_000, "../../../etc/passwd", "/", "..", "2026-11-26T14:31:54Z",
    "9999-12-31T23:59:59.999999-23:59", "0001-01-01T00:00:00+23:59", "2026-11-26", [], {},
    [[]], [{}], [None], {"": None}, {"a": 1}, {"event": "x"}, [1, "a"], {"from": 1, "to": [1]},
    {"from": None, "to": {"a": "\x1b"}}, {"from": {}, "to": "{}"},
)  # fmt: skip
"""What is put in place of a value of a record."""

_RAW = (
    b"1" * 5000, b"[" * 5000, b"[" * 200_000, b'{"a":' * 5000, b"-", b"NaN", b"1e400", b"-Infinity",
    b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b"\xff\xfe", b"\x00", b"", b"null", b"true",
    b"\n", b",", b"}", b"]", b'"', b"\\", b'"\\u0000"', b"0" * 50, b"\xef\xbb\xbf",
    b'"a":1,"a":2,', b"//",
)  # fmt: skip
"""Bytes that are put into a record."""


@dataclasses.dataclass(frozen=True)
class Broken:
    """One file of a run directory and what it says."""

    run: str
    file: str
    content: bytes

    def __repr__(self) -> str:
        return f"Broken({self.run!r}, {self.file!r}, {self.content!r})"


def _known_configs() -> list[bytes]:
    """The shipped configs, and those that runs have recorded, with every key that there is."""
    found = [path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))]
    return found + [path.read_bytes() for path in sorted(RECORDS.glob("*/resolved.yaml"))]


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in plain values."""
    yield path
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(each, (*path, key))


def _changed(content: bytes, draw: st.DrawFn, others: tuple[bytes, ...]) -> bytes:
    """Bytes with a bit turned, a part left out, doubled or put in."""
    size = len(content)
    start = draw(st.integers(0, max(size - 1, 0)))
    length = draw(st.sampled_from((1, 2, 5, 20, 100, 1000)))
    kind = draw(st.sampled_from(("bit", "cut", "out", "twice", "in", "in", "random")))
    match kind:
        case "bit":
            turned = bytes([content[start] ^ (1 << draw(st.integers(0, 7)))]) if size else b""
            return content[:start] + turned + content[start + 1 :]
        case "cut":
            return content[:start]
        case "out":
            return content[:start] + content[start + length :]
        case "twice":
            return content[: start + length] + content[start:]
        case "in":
            return content[:start] + draw(st.sampled_from(others)) + content[start:]
        case _:
            return content[:start] + draw(st.binary(max_size=20)) + content[start:]


_CONFIGS = _known_configs()
_TOKEN_BYTES = tuple(token.encode(errors="surrogatepass") for token in _TOKENS)


@st.composite
def config_files(draw: st.DrawFn) -> bytes:
    """The content of a config: mostly a real one with a few places changed."""
    kind = draw(st.sampled_from(("lines", "lines", "lines", "lines", "bytes", "soup", "raw")))
    if kind == "raw":
        return draw(st.binary(max_size=200))
    if kind == "soup":
        parts = st.sampled_from((*_TOKEN_BYTES, b"\n", b"\n  ", b": ", b"model: ", b"data: "))
        return b" ".join(draw(st.lists(parts, max_size=12)))
    content = draw(st.sampled_from(_CONFIGS))
    for _ in range(draw(st.integers(1, 3))):
        if kind == "bytes":
            content = _changed(content, draw, _TOKEN_BYTES)
        else:
            content = _changed_line(content, draw)
    return content


def _changed_line(content: bytes, draw: st.DrawFn) -> bytes:
    """A config with one line changed."""
    lines = content.split(b"\n")
    place = draw(st.integers(0, len(lines) - 1))
    token = draw(st.sampled_from(_TOKEN_BYTES))
    line = lines[place]
    name, colon, _ = line.partition(b":")
    indent = line[: len(line) - len(line.lstrip())]
    match draw(
        st.sampled_from(("value", "value", "value", "inner", "key", "out", "twice", "in", "deeper"))
    ):
        case "value":
            lines[place] = name + colon + b" " + token
        case "inner":  # one of the values within brackets
            parts = line.split(b",")
            which = draw(st.integers(0, len(parts) - 1))
            head, mark, rest = parts[which].partition(b":")
            closing = rest[len(rest.rstrip(b"}]")) :]
            parts[which] = head + mark + b" " + token + closing
            lines[place] = b",".join(parts)
        case "key":
            lines[place] = indent + token + colon + line[len(name) + 1 :]
        case "out":
            del lines[place]
        case "twice":
            lines.insert(draw(st.integers(0, len(lines))), line)
        case "in":
            lines.insert(place, indent + token)
        case "deeper":
            lines[place] = b" " * draw(st.integers(1, 4)) + line
    return b"\n".join(lines)


_FILES = ("run.json", "journal.jsonl", "environment.json", "resolved.yaml")


def known_records() -> dict[tuple[str, str], bytes]:
    """The files of recorded runs, by run and name."""
    return {
        (directory.name, name): (directory / name).read_bytes()
        for directory in sorted(RECORDS.iterdir())
        for name in _FILES
    }


_RECORDS = known_records()
_OF_WEIGHT = [
    key for key in _RECORDS for _ in range({"run.json": 4, "journal.jsonl": 4}.get(key[1], 1))
]
_PLACES: dict[Any, list[tuple[Any, ...]]] = {}


@st.composite
def records(draw: st.DrawFn) -> Broken:
    """A recorded run, one file of which was changed."""
    run, file = draw(st.sampled_from(_OF_WEIGHT))
    content = _RECORDS[run, file]
    structured = file != "resolved.yaml" and draw(st.integers(0, 3)) > 0
    for _ in range(draw(st.integers(1, 3))):
        if not structured:
            content = _changed(content, draw, _RAW)
        elif file == "journal.jsonl":
            content = _changed_journal(content, draw)
        else:
            content = _changed_json(content, draw)
    return Broken(run, file, content)


def _changed_json(content: bytes, draw: st.DrawFn) -> bytes:
    """A document with another value, or another key, at one place."""
    try:
        value = json.loads(content)
    except ValueError:
        return content
    return _dumped(_changed_value(value, draw))


def _dumped(value: Any) -> bytes:
    """As JSON; of a lone surrogate now and then the three bytes that are no UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(
        errors="surrogatepass"
    )


def _changed_value(value: Any, draw: st.DrawFn) -> Any:
    places = list(_places(value))
    path = places[draw(st.integers(0, len(places) - 1))]
    new = draw(st.sampled_from(_VALUES))
    if not path:
        return new
    *outer, last = path
    holder = value
    for key in outer:
        holder = holder[key]
    match draw(
        st.sampled_from(("new", "new", "new", "new", "out", "wrap", "move", "twice", "rename"))
    ):
        case "new":
            holder[last] = new
        case "out":
            del holder[last]
        case "wrap":
            holder[last] = draw(st.sampled_from(([holder[last]], {"a": holder[last]})))
        case "move":  # a value that has its sense elsewhere
            other = value
            for key in places[draw(st.integers(0, len(places) - 1))]:
                other = other[key]
            holder[last] = json.loads(json.dumps(other))
        case "twice" if isinstance(holder, list):
            holder.insert(last, holder[last])
        case "rename" if isinstance(holder, dict):
            holder[new if isinstance(new, str) else "x"] = holder.pop(last)
    return value


def _changed_journal(content: bytes, draw: st.DrawFn) -> bytes:
    """A journal with a line changed, left out, doubled or moved, and checksums that match."""
    lines = content.rstrip(b"\n").split(b"\n")
    place = draw(st.integers(0, len(lines) - 1))
    match draw(st.sampled_from(("change", "change", "change", "change", "out", "twice", "move"))):
        case "change":
            try:
                value = json.loads(lines[place])
            except ValueError:
                return content
            if isinstance(value, dict):
                value.pop("crc", None)
            lines[place] = signed(_dumped(_changed_value(value, draw)))
        case "out":
            del lines[place]
        case "twice":
            lines.insert(place, lines[place])
        case "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(place))
    renumber = draw(st.booleans())
    if renumber:
        lines = [_numbered(line, number) for number, line in enumerate(lines, start=1)]
    return b"\n".join(lines) + b"\n"


def signed(body: bytes) -> bytes:
    """A line of a journal with the checksum that it needs."""
    return b'{"crc":"%08x",' % zlib.crc32(body) + body[1:]


def _numbered(line: bytes, number: int) -> bytes:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return line
    if not isinstance(value, dict) or "number" not in value:
        return line
    value.pop("crc", None)
    return signed(_dumped({**value, "number": number}))


class Reader:
    """Reads what the strategies draw, and counts how that went.

    Args:
        folder: an empty one, for the files that are read.
    """

    def __init__(self, folder: Path) -> None:
        self.counts: Counter[str] = Counter()
        self.slowest = 0.0
        self._turn = 0
        self._folder = folder
        self._config = folder / "config.yaml"
        self._runs = folder / "runs"
        for (run, file), content in _RECORDS.items():
            directory = self._runs / run
            directory.mkdir(parents=True, exist_ok=True)
            (directory / file).write_bytes(content)
        self._files = {*_listed(folder), str(self._config)}

    def read_config(self, content: bytes) -> None:
        """A config is read, or refused in sentences that name it."""
        self._config.write_bytes(content)
        self._timed("config", lambda: self._load_config())
        self._expect_untouched()

    def _load_config(self) -> str:
        try:
            configs.load(self._config, base=CONFIGS)
        except InvalidError as error:
            assert error.problems
            for problem in error.problems:
                assert problem.file == str(self._config), problem
                assert len(str(problem)) < MAX_MESSAGE, str(problem)
            assert len(error.problems) <= MAX_PROBLEMS
            return "refused"
        return "read"

    def read_record(self, broken: Broken) -> None:
        """A run directory is read and shown, or refused in a sentence that names the file."""
        self._turn += 1
        path = self._runs / broken.run / broken.file
        path.write_bytes(broken.content)
        try:
            self._timed(broken.file, lambda: self._load_record(path.parent))
        finally:
            path.write_bytes(_RECORDS[broken.run, broken.file])
        self._expect_untouched()

    def _load_record(self, directory: Path) -> str:
        environment = archive.environment(directory)
        recorded.read(directory)
        refused = False
        try:
            archive.parse((directory / "run.json").read_bytes(), "run.json")
        except RecordError as error:  # then the journal is read, if there is one
            _expect_named(error, "run.json")
            refused = True
        try:
            entries = archive.events(directory)
        except RecordError as error:
            _expect_named(error, "journal.jsonl")
            refused, entries = True, []
        for entry in entries:
            for line in logs.lines(entry.event):
                expect_printable(line.replace("\n", "\0"))
        try:
            run = archive.read(directory)
        except RecordError as error:
            _expect_named(error, "run.json", "journal")
            history = find.read_history(self._runs, cached=False)
            assert directory.name in [each.directory for each in history.unreadable]
            return "refused"
        history = find.read_history(self._runs, cached=False)
        assert history.unreadable == ()
        if self._turn % 4 == 0:  # it takes longer than all else
            self._show(directory, run, environment, history)
        return "refused" if refused else "read"

    def _show(
        self, directory: Path, run: Run, environment: dict[str, Any], history: History
    ) -> None:
        for columns, rows in (
            listing.table(history.runs, []),
            listing.fields(history.runs),
            listing.attempts(run.attempts),
        ):
            expect_printable(as_table(columns, rows, width=80, color=False))
            as_csv(columns, rows)
        dump(jsonable(run))
        side = compare.read_side(directory, run, None)
        compare.differences([side, side])
        shown = describe_run(
            run,
            directory,
            epochs=archive.epochs(directory),
            sizes={},
            environment=environment,
        )
        console = Console(width=80, file=io.StringIO(), force_terminal=False)
        with console.capture() as captured:
            console.print(shown, highlight=False)
        expect_printable(captured.get())
        console.print(summarize_run(run, directory), highlight=False)

    def _timed(self, kind: str, read: Callable[[], str]) -> None:
        begun = time.process_time()
        outcome = read()
        seconds = time.process_time() - begun
        self.slowest = max(self.slowest, seconds)
        self.counts[f"{kind} {outcome}"] += 1
        assert seconds < MAX_SECONDS, f"took {seconds:.1f} s"

    def _expect_untouched(self) -> None:
        assert {*_listed(self._folder)} <= self._files
        assert not os.path.exists(CANARY)


def _listed(folder: Path) -> Iterator[str]:
    for root, _, names in os.walk(folder):
        yield from (os.path.join(root, name) for name in names)


def _expect_named(error: RecordError, *names: str) -> None:
    text = str(error)
    assert any(name in text for name in names), text
    assert len(text) < MAX_MESSAGE, text
    assert text.count("\n") < 3, text


def expect_printable(text: str) -> None:
    """Nothing but what a terminal shows as it is."""
    odd = {character for character in text if not character.isprintable()} - {"\n"}
    assert not odd, odd
