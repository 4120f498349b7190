"""Layers behind which rows that differ cannot be told apart."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import keras

from orchestrator.data.rows import Array, is_text, leaves, select
from orchestrator.diagnosis.causes.before.signal.spread import Seen, follow, relative_spread
from orchestrator.diagnosis.causes.before.subject import Subject
from orchestrator.model import keras_internals, layers
from orchestrator.record.records import Finding

_SUSPICIOUS = 1e-2
"""Relative spread of an output, over the rows, above which nothing can be lost."""
_FOLLOWED = 32
"""Rows that are followed from layer to layer."""
_LOST = 1e-6
"""Relative spread at which float32 tells the rows apart no more. Eight layers of sigmoid units
begin with 1e-5 and learn; twelve begin with 6e-8 and do not."""
_LOST_IN_TIME = 1e-3
"""The same behind steps that are the same for all rows: an LSTM behind 20 of them begins with 6e-3
and learns, behind 40 with 2e-4 and does not."""
_FAINT_IN_TIME = 1e-5
"""The same in absolute numbers, where the steps are zeros and all of it fades: of those who learn
the spread is 4e-5, of those who do not 2e-6."""
_LOST_FROZEN = 1e-3
"""The same behind layers that do not train: what follows would need weights of a thousand."""
_FAINT = 1e-4
"""Spread behind layers that do not train, in absolute numbers, for which the same is true."""
_STEPS = 10
"""Steps at the end of a sequence that are the same for all rows, from which on they matter."""
_Seek = Callable[[Subject, Sequence[Seen]], Finding | None]


def find_lost_signal(subject: Subject) -> Iterator[Finding]:
    """Layers behind which rows that differ cannot be told apart.

    Looked for where an output hardly differs from row to row. What is 0 everywhere is left to
    others: a branch whose last kernel or gamma begins at zero is healthy, and dead units have a
    check of their own.
    """
    outputs = subject.predictions
    least = min(map(relative_spread, outputs), default=1.0)
    ways = [seek for seek, bound in _ways(subject.model) if least < bound]
    x = select(subject.few, slice(0, _FOLLOWED))[0]
    if not ways or not any(map(_differs, leaves(x))):
        return
    last = {
        id(part)
        for layer in layers.last_layers(subject.model, x)
        for part in layers.parts(layer)
    }  # fmt: skip
    seen = follow(subject.model, x)
    hidden = [each for each in seen if id(each.layer) not in last]
    found = (seek(subject, hidden) for seek in ways)
    yield from itertools.islice((each for each in found if each is not None), 1)


def _differs(leaf: tuple[str, Array]) -> bool:
    """Whether the rows of an input are not all the same."""
    _, array = leaf
    if is_text(array):
        return bool((array != array[:1]).any())
    return relative_spread(array) >= _LOST_IN_TIME


def _ways(model: keras.Model) -> Iterator[tuple[_Seek, float]]:
    """How a signal may get lost in a model, and below which relative spread of an output it has."""
    inside = keras_internals.all_layers(model)
    if any(isinstance(each, keras.layers.RNN) for each in inside):
        yield _lost_in_time, _SUSPICIOUS
    if any(keras_internals.own_variables(each) and not each.trainable for each in inside):
        yield _lost_frozen, _SUSPICIOUS
    # In training BatchNorm scales what is small; its moving statistics know nothing of that yet.
    norms = (each for each in inside if isinstance(each, keras.layers.BatchNormalization))
    if not any(each.trainable for each in norms):
        yield _lost_on_the_way, _FAINT


def _lost_in_time(subject: Subject, seen: Sequence[Seen]) -> Finding | None:
    """A recurrent layer that reads the same steps in all rows after those that differ."""
    for index, each in enumerate(seen):
        lost = each.relative < _LOST_IN_TIME or each.spread < _FAINT_IN_TIME
        behind = (after.relative < _SUSPICIOUS for after in seen[index + 1 :])
        if each.still < _STEPS or not lost or not each.size or not all(behind):
            continue
        embeddings = [
            before.layer
            for before in seen[:index]
            if isinstance(before.layer, keras.layers.Embedding)
        ]
        reason = (
            f"behind layer {each.name} the rows cannot be told apart (it differs by "
            f"{each.spread:.1g} from row to row, at a size of {each.size:.1g}): the last "
            f"{each.still} steps of its sequences are the same in all of them, as padding is, and "
            "it has forgotten by then what came before"
        )
        if embeddings:
            advice = f"give {embeddings[-1].name} mask_zero=True, so that padding is passed over"
        else:
            advice = "put a Masking layer in front of it, or the padding before the values"
        place = subject.place(embeddings[-1] if embeddings else each.layer)
        return subject.found("lost_signal", reason, advice, key=place)
    return None


def _lost_frozen(subject: Subject, seen: Sequence[Seen]) -> Finding | None:
    """A part that does not train, out of which nothing comes that what follows could work with."""
    first = next((index for index, each in enumerate(seen) if each.trains), len(seen))
    base = seen[:first]
    if not any(each.frozen for each in base):
        return None
    lost = [each.relative < _LOST_FROZEN or each.spread < _FAINT for each in base]
    if not lost[-1]:
        return None
    start = len(base) - next(
        (count for count, each in enumerate(reversed(lost)) if not each), len(lost)
    )
    if start == len(base) or not base[start].size:
        return None
    place, end = base[start], base[-1]
    reason = (
        f"from layer {place.name} on the rows cannot be told apart: what layers that do not train "
        f"hand on varies by {end.spread:.1g} from row to row, at a size of {end.size:.1g}"
    )
    advice = "load weights that were trained into those layers, or let them train"
    return subject.found("lost_signal", reason, advice, key=subject.place(place.layer))


def _lost_on_the_way(subject: Subject, seen: Sequence[Seen]) -> Finding | None:
    """A layer behind which all is the same for every row, as saturated units give it."""
    start = len(seen)
    while start and seen[start - 1].relative < _LOST:
        start -= 1
    if start == len(seen) or not all(each.size for each in seen[start:]):
        return None
    place = seen[start]
    reason = (
        f"from layer {place.name} on the rows cannot be told apart: relative to its size, what it "
        f"returns differs by {place.relative:.1g} from row to row"
    )
    advice = (
        "scale what goes in, so that its units do not saturate, or write fewer layers and relu for "
        "sigmoid"
    )
    return subject.found("lost_signal", reason, advice, key=subject.place(place.layer))
