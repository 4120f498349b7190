"""The remedies for what is out of scale, and for an output that does not fit its targets."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Literal

from msgspec.structs import replace

from orchestrator.config.sections.base import (
    Flag,
    PositiveInt,
)
from orchestrator.config.sections.rung import Rung
from orchestrator.config.sections.when import When
from orchestrator.record.records import Attempt, Cause, Fix, Settings, Standardized


class Standardize(Rung):
    """Shift and scale the inputs, or the targets of a regression, that findings name."""

    remedy: Literal["standardize"] = "standardize"
    """The remedy."""
    times: PositiveInt = 2
    """How often it may be used: of the targets it may only show once the inputs are scaled."""
    when: When | None = ["unscaled_inputs", "distant_targets"]
    """Failures that it answers; null means any, and what no finding names is left as it is."""
    keep: Flag = True
    """Keep its change when the next attempt fails by the same check: other settings do no better on
    rows out of scale."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """Inputs and targets out of scale are standardised inside the model.

        What an output is made by goes, where it would cut standardised targets off.
        """
        failed = attempts[-1]
        standardize = standardized(_out_of_scale(settings, failed))
        if standardize is not None and standardize != settings.standardize:
            return replace(_written(settings, _scaling(failed)), standardize=standardize)
        told = [_obstacle(part, failed) for part in OUT_OF_SCALE if _is_named(part, failed)]
        reasons = [each for each in told if each is not None]
        if reasons:
            return "; ".join(reasons)
        if standardize is not None:
            return f"the {standardize} are standardised already"
        return "no finding says that inputs or targets are out of scale"


OUT_OF_SCALE: Mapping[str, Cause] = {"inputs": "unscaled_inputs", "targets": "distant_targets"}
"""The cause that says of each that it is out of scale."""
_STANDARDIZED: Mapping[tuple[str, ...], Standardized] = {
    ("inputs",): "inputs",
    ("targets",): "targets",
    ("inputs", "targets"): "inputs and targets",
}


def standardized(parts: Container[str]) -> Standardized | None:
    """What a setting calls the parts that are standardised."""
    return _STANDARDIZED.get(tuple(part for part in OUT_OF_SCALE if part in parts))


def _out_of_scale(settings: Settings, failed: Attempt, *, shown: bool = False) -> set[str]:
    """The parts that are standardised already, and those that findings say have to be and can.

    Args:
        settings: those to change.
        failed: the attempt with the findings.
        shown: leave out what was suspected before a training that has not shown it.
    """
    return {
        part
        for part in OUT_OF_SCALE
        if part in (settings.standardize or "")
        or (_is_named(part, failed, shown=shown) and _obstacle(part, failed) is None)
        or _is_fixed(part, _scaling(failed), failed)
    }


def _scaling(failed: Attempt) -> list[Fix]:
    """What findings ask for of targets that are to be standardised, where the model can have it."""
    fixes = [each.fix for each in failed.findings if each.cause == OUT_OF_SCALE["targets"]]
    return [
        each
        for each in fixes
        if each is not None and not (each.activation and "fix_output" in failed.obstacles)
    ]


def _is_fixed(part: str, fixes: Sequence[Fix], failed: Attempt) -> bool:
    """Whether a part is to be standardised by what findings ask for beside what they name."""
    if part == "targets":
        return any(each.standardize for each in fixes)
    return any(each.standardize_inputs for each in fixes) and _obstacle(part, failed) is None


def _written(settings: Settings, fixes: Sequence[Fix]) -> Settings:
    """The settings with the activations and losses of outputs that fixes ask for."""
    activations = {each.output: each.activation for each in fixes if each.activation}
    losses = {each.output: each.loss for each in fixes if each.loss}
    return replace(
        settings,
        output_activation={**(settings.output_activation or {}), **activations} or None,
        output_loss={**(settings.output_loss or {}), **losses} or None,
    )


def _is_named(part: str, failed: Attempt, *, shown: bool = False) -> bool:
    trained = failed.failure is not None and failed.failure.check != "findings"
    return any(
        each.cause == OUT_OF_SCALE[part]
        and (each.found == "after" or each.certain or not (shown and trained))
        for each in failed.findings
    )


def _obstacle(part: str, failed: Attempt) -> str | None:
    return failed.obstacles.get(f"standardize {part}")


class FixOutput(Rung):
    """Put the activation on an output, or the loss, that a finding asks for.

    Inputs and targets that findings say are out of scale are standardised as well.
    """

    remedy: Literal["fix_output"] = "fix_output"
    """The remedy."""
    when: When | None = [
        "one_unit_softmax",
        "unreachable_targets",
        "loss_mismatch",
        "undefined_loss",
    ]
    """Failures that it answers; null means any other failure of a training."""

    def apply(
        self, settings: Settings, attempts: Sequence[Attempt], last: Settings | None
    ) -> Settings | str:
        """What findings say has to make an output, and to train it."""
        failed = attempts[-1]
        fixes = [finding.fix for finding in failed.findings if finding.fix is not None]
        fixes = [each for each in fixes if each.told]
        if not fixes:
            return "what to write instead depends on what is meant, so that it is left to you"
        changed = _written(settings, fixes)
        if changed == settings:
            return "the output is changed already"
        parts = _out_of_scale(settings, failed, shown=True)
        parts.update(part for part in OUT_OF_SCALE if _is_fixed(part, fixes, failed))
        return replace(changed, standardize=standardized(parts))
