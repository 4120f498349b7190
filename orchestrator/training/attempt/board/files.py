"""TensorBoard's event files of an attempt that goes on: what will be written again is taken out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import tensorflow as tf
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event

from orchestrator.record.storage.directory import Place

VERDICTS, CHECKS = "verdicts/", "checks/"
"""How the tags of what is written at the end of a phase begin."""
INIT = "verdicts/00-init"
_HPARAMS = "_hparams_/"
_EVALUATED = "evaluation_"
"""How the tags begin of what Keras writes before the values of the epoch itself, at a step that
counts training steps."""
_EPOCH = "epoch_"


def forget(folder: Path, place: Place, trained: int) -> None:
    """Take out what an attempt wrote after the place from which it goes on: it will come again.

    TensorBoard would show such points twice, or a line that runs back.

    Args:
        folder: the attempt's folder of event files.
        place: from where it goes on.
        trained: epochs of the phases that are finished there.
    """

    def stays(tag: str, step: int) -> bool:
        if tag.startswith(_HPARAMS):
            return False  # written anew whenever a worker begins
        if tag == INIT:
            return place.phases > 0
        if tag.startswith((VERDICTS, CHECKS)):
            return step < trained
        return step < place.epoch

    for path in sorted(folder.rglob("events.out.tfevents.*")):
        _rewrite(path, stays)


def _rewrite(path: Path, stays: Callable[[str, int], bool]) -> None:
    events = [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]
    kept = [*_kept(events, stays)]
    if len(kept) == len(events):
        return
    if not any(event.HasField("summary") for event in kept):
        path.unlink()
        return
    temporary = path.with_name(".rewritten")  # which TensorBoard takes for no event file
    with tf.io.TFRecordWriter(str(temporary)) as writer:
        for event in kept:
            writer.write(event.SerializeToString())
    os.replace(temporary, path)


def _kept(events: list[Event], stays: Callable[[str, int], bool]) -> Iterator[Event]:
    """The events that stay; those of an evaluation go with the epoch that it belongs to."""
    evaluated: list[Event] = []
    for event in events:
        tags = [value.tag for value in event.summary.value]
        if any(tag.startswith(_EVALUATED) for tag in tags):
            evaluated.append(event)
        elif all(stays(tag, event.step) for tag in tags):
            if any(tag.startswith(_EPOCH) for tag in tags):
                yield from evaluated
                evaluated = []
            yield event
        elif any(tag.startswith(_EPOCH) for tag in tags):
            evaluated = []
