"""The check of predictions: whether they vary, and are worth more than a constant.

Pure: no model, no file. The definitions are those of the project's design, section 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec.structs import replace

from orchestrator.config.sections.checks import PredictionVariance
from orchestrator.diagnosis.skill.columns import OutputSkill
from orchestrator.record.checks import (
    NO_SKILL,
    OutputWorth,
    PredictionVarianceCheck,
    PredictionVarianceLimits,
    PredictionVarianceMeasured,
    ValidationWorth,
    Verdict,
    is_visible,
    place,
)


def prediction_variance(
    outputs: Sequence[OutputSkill],
    limits: PredictionVariance,
    *,
    untrained: bool,
    last: bool,
    exact: bool = True,
    batch_outputs: Sequence[OutputSkill] | None = None,
) -> PredictionVarianceCheck:
    """The verdict on a constant prediction.

    Args:
        outputs: what was measured, column by column; never averaged.
        limits: the config's limits.
        untrained: whether this is phase 0, where nothing fails.
        last: whether this is the last phase, where the skill is judged too.
        exact: whether every training row was looked at.
        batch_outputs: the same with BatchNorm's batch statistics; a collapse that is not in them
            is a lag, and a failure only after the last phase, for so the model is saved.

    Returns:
        The worst verdict over the outputs, with the reason of the first that has it.
    """
    findings: list[tuple[Verdict, str]] = []
    for index, output in enumerate(outputs):
        verdict, reason = _judge_output(output, limits, last=last)
        if verdict == "fail" and untrained:
            verdict = "warn"
        if verdict == "fail" and batch_outputs is not None:
            batch_verdict, _ = _judge_output(batch_outputs[index], limits, last=last)
            if batch_verdict != "fail":
                verdict = "fail" if last else "warn"
                reason += "; not so with the batch's statistics: BatchNorm's moving ones lag"
        name = f"{place(index, output.name, output.column)}: " if len(outputs) > 1 else ""
        findings.append((verdict, name + reason))
    order: tuple[Verdict, ...] = ("fail", "warn", "pass", "not_applicable")
    verdict, reason = min(findings, key=lambda finding: order.index(finding[0]))
    alike = sum(each == verdict for each, _ in findings) - 1
    if alike and verdict in ("fail", "warn"):
        reason += f"; {alike:,} more of {len(findings):,} {verdict} too"
    return PredictionVarianceCheck(
        verdict=verdict,
        reason=reason,
        measured=PredictionVarianceMeasured(
            outputs=tuple(
                _output_worth(
                    output, None if batch_outputs is None else batch_outputs[index], last=last
                )
                for index, output in enumerate(outputs)
            ),
            exact=exact,
        ),
        limits=PredictionVarianceLimits(
            min_ratio=limits.min_ratio,
            min_information=limits.min_information,
            min_skill=limits.min_skill,
        ),
    )


def with_validation(
    check: PredictionVarianceCheck, held: Sequence[OutputSkill]
) -> PredictionVarianceCheck:
    """The check with what the predictions are worth on the validation rows, too."""
    worth = tuple(
        ValidationWorth(
            output=each.output,
            skill=each.skill,
            loss=each.loss,
            constant_loss=each.constant_loss,
            lowest_loss=each.lowest_loss,
        )
        for each in held
    )
    return replace(check, measured=replace(check.measured, validation=worth))


def _judge_output(
    output: OutputSkill, limits: PredictionVariance, *, last: bool
) -> tuple[Verdict, str]:
    if not output.trained:
        return "not_applicable", "no loss trains it, so it is not judged"
    if output.varies is False:
        return "not_applicable", "the target is constant, so a constant prediction is right"
    shown, verdict, reason = _judge_spread(output, limits)
    if verdict == "fail":
        return _weighed(output, output.constant_loss, f"{shown}{reason}")
    if output.unjudged is not None:
        shown += f", skill is not judged: {output.unjudged}"
    elif output.skill is not None:
        shown += f", skill {output.skill:.3g}"
        if last and not output.skill >= limits.min_skill:
            told = f"{shown} (limit {limits.min_skill:g}): worse than the best constant"
            excess = None if output.loss is None else output.loss - (output.constant_loss or 0.0)
            return _weighed(output, excess, told)
        if last and output.blind:
            return "fail", (
                f"{shown}, and of all columns of its output {output.whole:.3g}: it is to be "
                "its own input, and says nothing of it"
            )
        if last and output.skill < NO_SKILL and verdict == "pass":
            how = "hardly" if output.skill > 0 else "no"
            return "warn", f"{shown}: {how} better than the best constant"
    return verdict, f"{shown}{reason}"


def _weighed(output: OutputSkill, lost: float | None, reason: str) -> tuple[Verdict, str]:
    """The verdict on a column that is constant or worse, by what is lost with it."""
    if is_visible(lost, output.average):
        return "fail", reason
    return "warn", f"{reason}, at a loss of no account beside that of the other columns"


def _judge_spread(output: OutputSkill, limits: PredictionVariance) -> tuple[str, Verdict, str]:
    """How the prediction varies: what was measured, the verdict on that, and its reason."""
    if output.varies is None:
        if output.distinct:
            return "the predictions differ between rows", "pass", ""
        return "all predictions are equal", "fail", ""
    if output.kind == "regression":
        value, limit, what = output.variance_ratio, limits.min_ratio, "variance ratio"
    else:
        value, limit, what = output.information, limits.min_information, "information"
    value = math.nan if value is None else value
    shown = f"{what} {value:.3g} (limit {limit:g})"
    # No constant is better than the best one: what has skill varies, on whatever scale.
    skilled = output.skill is not None and output.skill > NO_SKILL
    if value >= limit or (skilled and not output.by_spread):
        same = ": every row gets the same class" if output.constant_class else ""
        return shown, "warn" if same else "pass", same
    if output.usual and output.distinct:
        # Under such a loss a constant can be the right answer: that of mae is the median.
        return shown, "warn", ": nearly constant, as most of the targets are under this loss"
    if output.kind == "regression" and value > 0:
        # Of targets in the thousands, a fresh network's predictions are a vanishing share.
        return shown, "fail", ": beside the targets, the prediction is constant"
    return shown, "fail", ": the prediction is constant"


def _output_worth(output: OutputSkill, batch: OutputSkill | None, *, last: bool) -> OutputWorth:
    return OutputWorth(
        output=output.output,
        kind=output.kind,
        name=output.name or None,
        column=output.column,
        variance_ratio=output.variance_ratio,
        information=output.information,
        skill=output.skill,
        whole_skill=output.whole,
        average_constant_loss=output.average,
        blind=last and output.blind,
        skill_with_batch_statistics=None if batch is None else batch.skill,
        loss=output.loss,
        constant_loss=output.constant_loss,
        function=output.function or None,
        lowest_loss=output.lowest_loss,
        unjudged=output.unjudged,
    )
