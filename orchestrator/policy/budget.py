"""How much a run may still spend."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.config.schema import Config
from orchestrator.policy import shortfall
from orchestrator.record.records import Attempt

_DEAR = 2.5
"""So many trainings are enough: what they have learnt until then is taken (design, section 4)."""


def refusal(config: Config, attempts: Sequence[Attempt], elapsed: float) -> str | None:
    """Why no further attempt may be made, whatever the policy says.

    Args:
        config: the config.
        attempts: those made so far.
        elapsed: seconds that the run has taken.
    """
    restart, count = config.restart, len(attempts)
    if count >= restart.max_attempts:
        made = "1 attempt was" if count == 1 else f"{count} attempts were"
        return f"{made} made, restart.max_attempts allows no more"
    if restart.max_seconds is not None and elapsed >= restart.max_seconds:
        return f"the time is up, restart.max_seconds is {restart.max_seconds:g}"
    return None


def asks_for_more(config: Config, attempts: Sequence[Attempt]) -> bool:
    """Whether the last attempt, though it passes, is asked whether more could be learnt.

    That is one that was repaired, or one that is in question from the start, while trainings have
    not become too dear.
    """
    trained = sum(attempt.trained for attempt in attempts)
    planned = sum(plan.epochs for plan in config.phases)
    answered = config.restart.answered()
    in_question = len(attempts) > 1 or shortfall.is_in_question(attempts[-1], answered)
    return in_question and trained < _DEAR * planned
