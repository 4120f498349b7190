"""Every expected failure, as one tree.

OrchestratorError
├── InvalidError       the config or the data is at fault (exit 2); carries every Problem found
├── UserCodeError      the user's own factory, data callable, layer or callback raised (exit 4)
├── WorkerDiedError    the process of an attempt was killed or stopped answering; the policy goes on
├── NotSentError       what `retrain` was given cannot go to another process; it trains in this one
├── WorkerError        our own code raised inside a worker (exit 1)
├── StoppedError       Ctrl-C, SIGTERM, or a disk that cannot be written any more (exit 75)
└── RecordError        a run directory that cannot be read
    └── NewerError     one that a newer version has written

Only the command line catches the tree as a whole.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNWRITABLE = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk is full for this user", "free some space or ask for a larger quota"),
    errno.EFBIG: ("a file has the largest size that is allowed", "raise the limit: ulimit -f"),
    errno.EROFS: ("nothing can be written there", "mount the file system for writing"),
}
"""What the system's errors of writing mean, and what to do."""
_UNREACHABLE = {
    errno.EACCES: ("nothing can be written there", "get back the permission to write"),
    errno.EPERM: ("nothing can be written there", "get back the permission to write"),
    errno.EIO: ("the disk does not work", "see what the system's log says about it"),
    errno.ESTALE: ("the disk cannot be reached any more", "mount it again"),
    errno.ENODEV: ("the disk cannot be reached any more", "mount it again"),
    errno.ENOENT: ("the directory is gone", "put it back, or go where it was moved"),
    errno.ENOTDIR: ("the directory is gone", "put it back, or go where it was moved"),
}
"""The same of errors that reading has as well, where it is known that something was written."""
_MAX_NAMES = 40
"""Names that a hint lists; the rest are counted."""
_MAX_VALUE = 100
"""Characters of a value of the user's that a message shows."""
_MAX_SAID = 2000
"""Characters of another's message that ours carries: sentences are shorter, dumps are not."""
_MAX_READ = 50_000
"""Characters at either end of another's message in which its sentence is looked for."""
_WHERE = ("Exception encountered when calling", "Graph execution error")
"""How a line begins that only says which layer or function was being called."""
_RAISED = re.compile(r"\w+(Error|Exception|Warning): ")
"""How the last line of a traceback begins."""

_OPERATION = re.compile(r"\{\{function_node [^}]*\}\}\s*| \[Op:\w+\](\s+name:[ \t]*\w*)?")
"""How TensorFlow names an operation that is run by itself, around what it says."""


class OrchestratorError(Exception):
    """Base of everything that orchestrator raises on purpose."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing that is wrong with a config or its data."""

    file: str
    """The file at fault, as the user would name it; `--set` for an override."""
    line: int | None = None
    """Line in that file, counted from 1."""
    key: str | None = None
    """Dotted path of the key or name of the column; list indices count from 0."""
    message: str
    """What was expected and what was received."""
    hint: str | None = None
    """What to do about it."""

    def __str__(self) -> str:
        """`file:line: key: message; hint` with the parts that are known."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        parts = [place, self.key, self.message] if self.key else [place, self.message]
        text = ": ".join(parts)
        return f"{text}; {self.hint}" if self.hint else text


class InvalidError(OrchestratorError):
    """The config or the data is at fault; nothing was trained."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Take all that was found.

        Args:
            problems: at least one.
        """
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    def __reduce__(self) -> tuple[type[InvalidError], tuple[tuple[Problem, ...]]]:
        """Pickle by the problems, which is what crosses from a worker."""
        return InvalidError, (self.problems,)


class Reporter(Protocol):
    """Knows the place of a problem: a config its keys and lines, `diagnose` its arguments."""

    def problem(self, key: tuple[int | str, ...], message: str, hint: str | None = None) -> Problem:
        """A problem at a key of the config, as where the reporter's user would look for it."""


class UserCodeError(OrchestratorError):
    """Code of the user's raised; the message says where and what."""


class WorkerDiedError(OrchestratorError):
    """A worker process was killed, or made no progress for `stall_timeout` seconds."""


class NotSentError(OrchestratorError):
    """A function or rows that Python cannot hand to another process."""


class WorkerError(OrchestratorError):
    """Our own code, or a library below it, raised inside a worker."""


class StoppedError(OrchestratorError):
    """Ctrl-C, SIGTERM or a disk that cannot be written ended the run; what was recorded stays."""


class RecordError(OrchestratorError):
    """A run directory is damaged, foreign or of a newer schema."""


class NewerError(RecordError):
    """A record of a schema that this version does not know."""


def closest(name: str, valid: Sequence[str], *, cutoff: float = 0.6) -> str | None:
    """The valid name that the user most likely meant.

    Args:
        name: what was received.
        valid: the names that would have been accepted.
        cutoff: least similarity, from 0 to 1 for equal names.

    Returns:
        The closest one, compared without case, or None when nothing is near.
    """
    folded = {candidate.casefold(): candidate for candidate in valid}
    matches = difflib.get_close_matches(name.casefold(), list(folded), n=3, cutoff=cutoff)

    def likeness(match: str) -> float:
        # Two letters swapped are likelier than two left out: Adma is Adam, not Adamax.
        similar = difflib.SequenceMatcher(None, name.casefold(), match).ratio()
        return similar - 0.05 * abs(len(match) - len(name))

    return folded[max(matches, key=likeness)] if matches else None


def suggestion(name: str, valid: Sequence[str]) -> str:
    """A hint that names the closest valid name, or else all of them.

    Args:
        name: what was received.
        valid: the names that would have been accepted.

    Returns:
        A clause without a full stop.
    """
    match = closest(name, valid)
    if match is not None:
        return f"did you mean {short(match)}?"
    names = sorted({name for name in valid if name})
    if not names:
        return "there is none to choose from"
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"expected one of {', '.join(map(cut, names[:_MAX_NAMES]))}{more}"


def short(value: Any) -> str:
    """A value as YAML would write it, cut to a length that a message can carry."""
    if isinstance(value, Mapping):
        text = f"the keys {', '.join(map(str, value))}" if value else "an empty mapping"
    elif value is None:
        text = "nothing"
    else:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    return cut(text)


def cut(text: str, length: int = _MAX_VALUE) -> str:
    """A text in a length that a message can carry."""
    return text if len(text) <= length else f"{text[: length - 1]}…"


def describe_error(error: BaseException) -> str:
    """What an error says, whole and on one line, without what Keras and TensorFlow put around it.

    Left out are terminal colours, the layers that were being called with their arguments, the node
    of a graph, and the calls that autograph lists.

    Args:
        error: of any library, or of the user's own.

    Returns:
        Its sentences; the name of its class where it has none.
    """
    text = _said(error)
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = _OPERATION.sub("", text)
    text = re.split(r"\n[ \t]*Arguments received by |\sFull object config: ", text)[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and lines[0] == "in user code:":  # then the calls, and last what was raised
        calls = [index for index, line in enumerate(lines) if _RAISED.match(line)]
        lines = lines[calls[-1] :] if calls else lines
    # An error of a graph lists the calls that led to a node, then what happened, then the node.
    nodes = [index for index, line in enumerate(lines) if "[[{{node" in line]
    if nodes and nodes[0] > 0:
        return lines[nodes[0] - 1]
    # Keras and TensorFlow say where they were before they say what it was.
    told = [line for line in lines if not line.startswith(_WHERE)]
    found = " ".join(told or lines) or type(error).__name__
    return found if len(found) <= _MAX_SAID else f"{found[: _MAX_SAID - 1]}…"


def _said(error: BaseException) -> str:
    """What an error says in its own words, without the middle where they are a book."""
    single = len(error.args) == 1 and isinstance(error.args[0], str)
    try:
        # A KeyError shows its argument as Python would write it, and a bare key says nothing alone.
        text = error.args[0] if isinstance(error, KeyError) and single else str(error)
        if isinstance(error, KeyError) and " " not in text.strip():
            text = f"KeyError: {error}"
    except Exception as failed:  # noqa: BLE001 - a class of the user's may raise anything
        return f"{type(error).__name__}, whose message raises {type(failed).__name__}"
    if len(text) > 2 * _MAX_READ:
        text = f"{text[:_MAX_READ]}\n…\n{text[-_MAX_READ:]}"
    # Halves of characters, as in names of files that are no UTF-8, cannot be recorded.
    return text.encode("utf-8", "backslashreplace").decode()


def is_disk_full(error: OSError) -> bool:
    """Whether an error means that nothing more can be written."""
    return error.errno in _FULL


def unwritable(error: OSError, *, folder: str | None = None) -> str | None:
    """What an error of the system says, where it says that something cannot be written any more.

    Args:
        error: the error.
        folder: where something was being written; None where it may have been read.

    Returns:
        What happened, where, and what to do, as clauses of a sentence; None where the error says
        something else.
    """
    known = _UNWRITABLE if folder is None else _UNWRITABLE | _UNREACHABLE
    if error.errno not in known:
        return None
    what, advice = known[error.errno]
    place = folder if error.filename is None else os.fsdecode(error.filename)
    told = f"{what}: {error.strerror}"
    return f"{told}; {advice}" if place is None else f"{told}: {place}; {advice}"
