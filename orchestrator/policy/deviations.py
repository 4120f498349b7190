"""What of a training that passed did not run as its config says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestrator.config.schema import Config
from orchestrator.config.sections.rates import planned_rate
from orchestrator.config.sections.rung import obstacles
from orchestrator.policy import rule
from orchestrator.record.records import Attempt


def tell(config: Config, attempts: Sequence[Attempt], attempt: Attempt) -> Iterator[str]:
    """A sentence for each, with what to write.

    Args:
        config: the config.
        attempts: all that were made, in order.
        attempt: the one that passed.
    """
    settings, last = attempt.settings, config.phases[-1]
    factor, momentum = settings.learning_rate_factor, settings.momentum
    # A cap below what was planned, which has undone the raise, is told of its phase.
    planned, cap = planned_rate(attempts), settings.learning_rate_cap
    undone = planned is not None and cap is not None and cap < planned
    if factor is not None and not undone:
        rate = max(attempt.learning_rates.values(), default=0.0)
        yield (
            f"every learning rate was {factor:g} times what the config says, {rate:.3g} at "
            "most: write them so high"
        )
    if settings.schedule_stretch is not None:
        told = (
            each.advice
            for failed in attempts
            for each in failed.findings
            if each.fix is not None and each.fix.schedule_stretch is not None
        )
        yield (
            f"the optimizer's schedule took {settings.schedule_stretch:g} times as many steps as "
            f"the config says: {next(told, 'write it as long')}"
        )
    if momentum is not None:
        yield f"SGD had a momentum of {momentum:g}, and none in the config: write it there"
    if settings.clip_norm is not None:
        own = ", in place of the optimizer's own bound" if "clipping" in obstacles(attempts) else ""
        yield (
            f"gradients were clipped to a norm of {settings.clip_norm:g}, all taken together{own}: "
            f"write global_clipnorm: {settings.clip_norm:g} in the optimizer"
        )
    if settings.more_epochs is not None:
        epochs = config.epochs_of(last, settings)
        yield (
            f"phase {last.name} had {epochs} epochs instead of {last.epochs}: write epochs: "
            f"{epochs} there"
        )
    for capped in rule.capped(config, attempts, attempt):
        if capped.end is None:
            yield (
                f"phase {capped.phase} ran at a rate of at most {capped.cap:.2g} instead of "
                f"{capped.rate:.2g}: write learning_rate: {capped.cap:.2g} there"
            )
            continue
        yield (
            f"phase {capped.phase} ran at a rate of at most {capped.cap:.2g}, which in its "
            f"second half fell to {capped.end:.2g}, instead of {capped.rate:.2g}: write a "
            "schedule that falls so"
        )
