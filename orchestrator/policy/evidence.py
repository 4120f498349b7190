"""What the record of failed attempts points to, and which lines of a policy answer it. Pure."""

from __future__ import annotations

from collections.abc import Container, Sequence

from orchestrator.config.sections.when import All, When
from orchestrator.policy.kinds import kinds
from orchestrator.record.records import CONFIRMED, Attempt, Failure, Finding

_EACH = 2
"""Of so many findings of one cause each is told."""


def reasons(when: When | None, attempt: Attempt) -> tuple[str, ...]:
    """Why a failed attempt is one that a line of the policy answers.

    Args:
        when: what the line answers; None means any failure.
        attempt: an attempt with a failure.

    Returns:
        The reasons of the findings that were asked for, or else that of the failure; none where it
        is another one.
    """
    failure = attempt.failure
    if failure is None:
        raise ValueError(f"expected a failed attempt, received status={attempt.status!r}")
    if when is None and failure.check == "findings":
        return ()  # no training could succeed, unless a rung is made for that cause
    evidence = [each for each in attempt.findings if _is_evidence(each)]
    found, causes = kinds(attempt), {finding.cause for finding in evidence}
    if not isinstance(when, All):
        matches = when is None or not {failure.check, *found, *causes}.isdisjoint(when)
        return (failure.reason,) if matches else ()
    if when.check is not None and failure.check not in when.check:
        return ()
    if when.kind is not None and found.isdisjoint(when.kind):
        return ()
    if when.cause is None and not when.certain:
        return (failure.reason,)
    return tuple(
        finding.told
        for finding in evidence
        if (when.cause is None or finding.cause in when.cause)
        and (finding.certain or not when.certain)
    )


def _is_evidence(finding: Finding) -> bool:
    """Whether a policy goes by a finding: not by a mere suspicion, which a failure confirms."""
    return finding.found == "after" or finding.certain or finding.cause not in CONFIRMED


def applies(when: When | None, attempts: Sequence[Attempt]) -> bool:
    """Whether a line of the policy answers the last failure, and enough of them have been so.

    Args:
        when: what the line answers; None means any failure.
        attempts: all so far, each with a failure.
    """
    if not reasons(when, attempts[-1]):
        return False
    count = when.count if isinstance(when, All) else 1
    return count == 1 or sum(len(reasons(when, each)) for each in attempts) >= count


def found_causes(attempts: Sequence[Attempt]) -> list[tuple[int, str]]:
    """What the evidence on failed attempts points to, each cause once.

    Args:
        attempts: of one run.

    Returns:
        The number of the last attempt that shows a cause, for figures differ from attempt to
        attempt, and what it was: where it was suspected before the training and found after it, as
        it was found then. Where many layers or outputs have one cause, the first is told and the
        others are counted. Advice from before the training comes last: not all of it has to do with
        the failure.
    """
    last = {
        found.cause: (each.attempt, found.found) for each in attempts for found in each.findings
    }
    told = [
        (each.attempt, found)
        for each in attempts
        for found in each.findings
        if last[found.cause] == (each.attempt, found.found)
    ]
    told.sort(key=lambda pair: pair[1].found == "before" and not pair[1].certain)
    shown: dict[str, list[tuple[int, str]]] = {}
    for number, found in told:
        shown.setdefault(found.cause, []).append((number, found.told))
    return [line for lines in shown.values() for line in _counted(lines)]


def _counted(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """What was found of one cause, where it is much no more than the first and the number."""
    if len(lines) <= _EACH:
        return lines
    (number, first), *more = lines
    return [(number, f"{first} (and {len(more)} more like it)")]


def main_cause(attempt: Attempt, answered: Container[str] = ()) -> str | None:
    """What a failed attempt points to, in one clause; None where that is not known.

    What is certain explains more than what is not, and what stood against the training before it
    began more than what the training has shown: that is the order in which it was found.

    Args:
        attempt: the attempt.
        answered: the causes that the next remedy answers, which come before any other.
    """

    def place(finding: Finding) -> tuple[bool, bool]:
        return not (finding.cause in answered and _is_evidence(finding)), not finding.certain

    found = sorted(attempt.findings, key=place)
    return found[0].reason if found else None


def conclusion(attempts: Sequence[Attempt], reason: str) -> str:
    """How a run without success ended: the cause, then why nothing else was tried.

    Args:
        attempts: all of the run.
        reason: why there is no further attempt.
    """
    causes = dict.fromkeys(told for _, told in found_causes(attempts))
    told = [cause for cause in causes if cause not in reason]
    if told:
        cause = "; ".join(told)
    elif causes:  # the reason is the cause
        return reason
    else:
        cause = _last_failure([each.failure for each in attempts if each.failure is not None])
    return f"{cause}. {reason[:1].upper()}{reason[1:]}"


def _last_failure(failures: Sequence[Failure]) -> str:
    """Why attempts failed, in the words of the last."""
    last = failures[-1]
    how = "crashed" if last.check == "crashed" else f"failed {last.check}"
    if len(failures) == 1:
        who = "the attempt"
    elif len({each.check for each in failures}) > 1:
        who = f"the last of {len(failures)} attempts"
    else:
        who, how = f"all {len(failures)} attempts", f"{how}, the last one because"
        return f"{who} {how} {last.reason}"
    return f"{who} {how}: {last.reason}"
