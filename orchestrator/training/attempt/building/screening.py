"""Candidate seeds: the first whose network is not dead before it was trained is chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import keras

from orchestrator.model import initialization
from orchestrator.model.initialization import Recorder, Replay
from orchestrator.record.records import Candidate, Finding

AT_FAULT = 4
"""So many candidates that are dead by what their initializers are, and not for want of luck, are
enough to stop."""

Build = Callable[[int, Recorder], keras.Model]
"""Builds the model of an attempt from a seed."""
Judge = Callable[[keras.Model], Callable[[], str | None]]
"""For a model, what tells why it is dead with the weights that it has at that moment."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Screening:
    """What was chosen, and from what."""

    model: keras.Model
    """As a fresh build with the chosen seed makes it."""
    seed: int
    """The chosen seed; the first where every network is dead."""
    candidates: tuple[Candidate, ...]
    """Those that were looked at, in order."""
    finding: Finding | None = None
    """Why another seed makes no difference."""


def screen(
    seeds: Sequence[int],
    build: Build,
    judge: Judge,
    at_fault: Callable[[keras.Model], bool],
    progress: Callable[[int], None],
) -> Screening:
    """Choose the first seed whose network is not dead.

    The weights of most candidates are computed without building them, where two builds have shown
    that this gives the same; the chosen network is built in any case.

    Args:
        seeds: the candidates, at least one; where there is only one it is not looked at.
        build: builds the model from a seed.
        judge: tells why a network is dead.
        at_fault: tells whether its initializers are such that any seed gives a dead one.
        progress: told how many were looked at.

    Returns:
        The model of the chosen seed.
    """
    recorder = Recorder()
    model = build(seeds[0], recorder)
    if len(seeds) == 1:
        return Screening(model=model, seed=seeds[0], candidates=())
    look = judge(model)
    reason = look()
    candidates = [Candidate(seed=seeds[0], reason=reason)]
    if reason is None:
        return Screening(model=model, seed=seeds[0], candidates=tuple(candidates))
    first = model.get_weights()
    replay = Replay(model, recorder, seeds[0])
    faithful = replay.faithful
    finding = None
    all_at_fault = at_fault(model)
    for seed in seeds[1:]:
        if all_at_fault and len(candidates) == AT_FAULT:
            break
        built = None
        if not faithful or len(candidates) == 1:
            built = build(seed, Recorder())
            if initialization.same(built.get_weights(), first):
                finding = _fixed(replay.fixed, every=True)
                break
            faithful = faithful and initialization.same(built.get_weights(), replay.weights(seed))
        if faithful:
            model.set_weights(replay.weights(seed))
            reason = look()
        else:
            reason = judge(built)()
        candidates.append(Candidate(seed=seed, reason=reason))
        all_at_fault = all_at_fault and at_fault(model if faithful or built is None else built)
        progress(len(candidates))
        if reason is None:
            return Screening(
                model=build(seed, Recorder()) if built is None else built,
                seed=seed,
                candidates=tuple(candidates),
            )
    model.set_weights(first)
    if finding is None and replay.fixed:
        finding = _fixed(replay.fixed, every=False)
    return Screening(model=model, seed=seeds[0], candidates=tuple(candidates), finding=finding)


def _fixed(paths: Sequence[str], *, every: bool) -> Finding:
    what = "every seed gives the same network" if every else "not every weight follows the seed"
    if paths:
        named = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        why = f"the initializer of {named} has a seed of its own; leave its seed out"
    else:
        why = "nothing in it is drawn from the seed; do not set seeds or weights where it is built"
    return Finding(cause="fixed_seed", reason=f"{what}: {why}", certain=False)
