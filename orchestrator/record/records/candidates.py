"""What was tried before an attempt: seeds looked at, and a race's rungs."""

from __future__ import annotations

from orchestrator.record.encoding import Record
from orchestrator.record.records.failures import Failure
from orchestrator.record.records.settings import Settings


class Candidate(Record, kw_only=True):
    """One seed whose network was looked at before training."""

    seed: int
    """The seed."""
    reason: str | None
    """Why its network cannot be trained; None when it can."""


class Racer(Record, kw_only=True):
    """A rung with a seed that was tried for a few epochs, beside others, to see which goes on."""

    remedy: str
    """The remedy."""
    rung: str
    """Key of the rung in the resolved config."""
    settings: Settings
    """The settings that it was given."""
    seed: int | None = None
    """The seed that it trained with, which screening may have chosen."""
    screened: int = 0
    """Candidate seeds that were looked at for it."""
    epochs: int = 0
    """Epochs that it trained; those of the one that goes on are among the attempt's."""
    share: float | None = None
    """What it had learnt by then of what the reference learns, over the outputs the least; None
    where that is not known."""
    loss: float | None = None
    """Training loss of its last epoch."""
    failure: Failure | None = None
    """Why it could not go on: it was lost on the way, or gave a constant."""
    reason: str | None = None
    """Why another one goes on; None for the one that does."""
