"""The error tree, what a problem looks like, and suggestions."""

import errno
import pickle
import time

import pytest

from orchestrator.errors import (
    InvalidError,
    OrchestratorError,
    Problem,
    StoppedError,
    UserCodeError,
    closest,
    describe_error,
    is_disk_full,
    suggestion,
    unwritable,
)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({}, "a.yaml: wrong"),
        ({"line": 3}, "a.yaml:3: wrong"),
        ({"line": 3, "key": "b.0"}, "a.yaml:3: b.0: wrong"),
        ({"hint": "do this"}, "a.yaml: wrong; do this"),
        ({"line": 3, "key": "b", "hint": "do this"}, "a.yaml:3: b: wrong; do this"),
    ],
)
def test_a_problem_reads_file_line_key_message_hint(parts, text):
    assert str(Problem(file="a.yaml", message="wrong", **parts)) == text


def test_an_invalid_error_prints_every_problem_on_its_own_line():
    problems = (Problem(file="a", message="one"), Problem(file="b", line=2, message="two"))
    assert str(InvalidError(iter(problems))) == "a: one\nb:2: two"


def test_an_invalid_error_keeps_its_problems_across_processes():
    error = InvalidError([Problem(file="a", line=1, key="k", message="m", hint="h")])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


def test_expected_failures_are_one_tree():
    for error in (InvalidError([]), UserCodeError("u"), StoppedError("s")):
        assert isinstance(error, OrchestratorError)
        assert type(pickle.loads(pickle.dumps(error))) is type(error)


@pytest.mark.parametrize(
    ("name", "valid", "expected"),
    [
        ("epoch", ["epochs", "name"], "epochs"),
        ("EPOCHS", ["epochs", "name"], "epochs"),
        ("dense", ["Dense", "Dropout"], "Dense"),
        ("zzz", ["epochs", "name"], None),
        ("x", [], None),
    ],
)
def test_closest_ignores_case_and_gives_up_on_what_is_far(name, valid, expected):
    assert closest(name, valid) == expected


def test_closest_can_be_asked_to_be_stricter():
    assert closest("remedy", ["seed"]) == "seed"
    assert closest("remedy", ["seed"], cutoff=0.8) is None


def test_suggestion_names_the_closest_or_all_in_order():
    assert suggestion("epoch", ["epochs", "name"]) == "did you mean 'epochs'?"
    assert suggestion("zzz", ["name", "epochs"]) == "expected one of epochs, name"


def test_suggestion_has_words_for_no_names_and_bounds_many():
    assert suggestion("x", []) == "there is none to choose from"
    assert suggestion("x", [""]) == "there is none to choose from"
    many = suggestion("zzz", [f"column_{index:03}" for index in range(100)])
    assert many.endswith("column_039 and 60 more")


def test_only_a_full_disk_or_quota_counts_as_full():
    assert is_disk_full(OSError(errno.ENOSPC, "full"))
    assert is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert not is_disk_full(OSError(errno.EACCES, "denied"))


def test_what_cannot_be_written_is_said_with_what_to_do() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "runs/a/run.json")
    told = "the disk is full: No space left on device: runs/a/run.json; free some space"
    assert unwritable(full) == unwritable(full, folder="runs/a") == told
    denied = OSError(errno.EACCES, "Permission denied")  # of a file of rows, perhaps
    assert unwritable(denied) is None
    assert unwritable(denied, folder="runs/a") == (
        "nothing can be written there: Permission denied: runs/a; get back the permission to write"
    )
    assert unwritable(OSError(errno.EISDIR, "Is a directory"), folder="runs/a") is None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("one.\ntwo: *\n  three"), "one. two: * three"),
        (ValueError("Exception encountered when calling Own.call().\n\n\x1b[1mInput 0 is wrong: 8, not 16\x1b[0m\n\nArguments received by Own.call():\n  • x=tf.Tensor(shape=(1, 16))"), "Input 0 is wrong: 8, not 16"),  # noqa: E501
        (ValueError("Graph execution error:\n\nDetected at node a defined at:\n<no stack>\nindices[0] = 7 is not in [0, 3)\n\t [[{{node a}}]] [Op:b]"), "indices[0] = 7 is not in [0, 3)"),  # noqa: E501
        (ValueError("in user code:\n\n    File 'a.py', line 3, in f  *\n        g(x)\n\n    ValueError: no.\n    Really"), "ValueError: no. Really"),  # noqa: E501
        (TypeError("Could not locate class 'A'. Register it. Full object config: {'a': 1}"), "Could not locate class 'A'. Register it."),  # noqa: E501
        (KeyError("The path: ('code',) can't be found"), "The path: ('code',) can't be found"),
        (ValueError("{{function_node __wrapped__AddV2_device_/job:localhost/replica:0/task:0/device:CPU:0}} Incompatible shapes: [1,6] vs. [5] [Op:AddV2] name: "), "Incompatible shapes: [1,6] vs. [5]"),  # noqa: E501
        (KeyError("code"), "KeyError: 'code'"),
        (ValueError(), "ValueError"),
        (ValueError("x" * 3000), "x" * 1999 + "…"),
    ],
)  # fmt: skip
def test_what_a_library_says_is_told_whole_without_its_frame(error, said):
    assert describe_error(error) == said


class Speechless(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise LookupError("no words")


def test_an_error_that_cannot_speak_is_described_all_the_same() -> None:
    assert describe_error(Speechless()) == "Speechless, whose message raises LookupError"


def test_of_a_book_the_beginning_is_told_and_soon() -> None:
    started = time.process_time()
    assert describe_error(ValueError("x" * 10_000_000)) == "x" * 1999 + "…"
    assert describe_error(ValueError("no rows" + "\n" * 10_000_000)) == "no rows …"
    assert time.process_time() - started < 2


def test_halves_of_characters_are_written_out() -> None:
    assert describe_error(ValueError("no file 'a\udc80'")) == r"no file 'a\udc80'"
