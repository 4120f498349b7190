"""The benchmarks start: what they measure takes too long for a test."""

import inspect

import click
import pytest

from tests.benchmarks import epochs, fuzz, history, learned, reading, restarts, zoo


@pytest.mark.parametrize(
    "command",
    [epochs.main, fuzz.main, history.main, learned.main, reading.main, restarts.main, zoo.main],
)
def test_options_are_what_the_function_takes(command: click.Command) -> None:
    assert command.callback is not None
    taken = inspect.signature(command.callback).parameters
    assert [param.name for param in command.params if param.name not in taken] == []
    assert len(command.params) == len(taken)
