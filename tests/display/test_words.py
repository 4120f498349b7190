"""Sentences and tables about a run."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from orchestrator.diagnosis.health import Health, Verdicts
from orchestrator.diagnosis.skill.columns import OutputSkill, numbered
from orchestrator.display import results, words
from orchestrator.record.checks import (
    FindingsCheck,
    FindingsMeasured,
    OutputWorth,
    PredictionVarianceCheck,
    ValidationWorth,
    Verdict,
)
from orchestrator.record.records import Finding, Inputs, Run, Settings, UnitsLost
from tests.builders import failed
from tests.story import started, story, told


def finished(**options: bool) -> Run:
    *_, (_, run) = told(story(**options))  # type: ignore[arg-type]
    return run


def shown(renderable: object, *, width: int = 80, encoding: str = "utf-8") -> list[str]:
    binary = io.BytesIO()
    with io.TextIOWrapper(binary, encoding=encoding) as stream:
        Console(file=stream, width=width).print(renderable, highlight=False)
        stream.flush()
        return [line.rstrip() for line in binary.getvalue().decode(encoding).splitlines()]


def test_restart_sentence() -> None:
    change = "restarting by lower_learning_rate with learning rate at most 0.05, seed 2839049726."
    cause = "Attempt 1 failed dead_neurons after phase warmup"
    assert words.restart_sentence(started(2)) == f"{cause}: what dead_neurons says; {change}"
    assert words.restart_sentence(started(2), reason=False) == f"{cause}; {change}"
    assert words.restart_sentence(started(1)) == ""
    lost = UnitsLost(
        layer="dense_3", units=64, lost=41, alive=64, epoch=7, learning_rate=0.05, rate_before=0.01,
        first=True,
    )  # fmt: skip
    when = "layer dense_3 lost 41 of 64 units in epoch 7, right after the phase's learning rate"
    told = replace(started(2), cause=replace(started(2).cause, lost=lost))
    assert f"{cause} ({when} rose to 0.05); {change}" == words.restart_sentence(told, reason=False)
    known = replace(started(2), because="the inputs reach 1e6")
    because = "because the inputs reach 1e6"
    assert words.restart_sentence(known) == f"{cause}: what dead_neurons says, {because}; {change}"
    assert words.restart_sentence(known, reason=False) == f"{cause}, {because}; {change}"


def test_short_change() -> None:
    first, second = finished().attempts
    assert words.short_change(first) == "as configured"
    assert words.short_change(first, seed=True) == "as configured: seed 7"
    assert words.short_change(second) == "lower_learning_rate: rate ≤ 0.05"
    seed = {"seed": {"from": 7, "to": 8}}
    reseeded = replace(second, remedy="new_seed", changed=seed)
    assert words.short_change(reseeded) == "new_seed"
    assert words.short_change(reseeded, seed=True) == "new_seed: seed 8"
    back = {"negative_slope": {"from": None, "to": 0.2}} | {
        "learning_rate_cap": {"from": 0.05, "to": None}
    }
    leaky = replace(second, remedy="leaky_relu", changed=back)
    assert words.short_change(leaky) == "leaky_relu: learning_rate_cap taken back, slope 0.2"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.46, "9.5 s"), (94, "1:34"), (7391, "2:03:11"), (math.nan, "nan s"), (math.inf, "inf s")],
)
def test_a_length_of_time(seconds: float, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("check", "phase", "text"),
    [
        ("metric", "main", "failed metric at main"),
        ("crashed", "main", "failed at main"),
        ("crashed", None, "failed"),
    ],
)
def test_outcome(check: str, phase: str | None, text: str) -> None:
    assert words.outcome(failed(1, check, at=phase)) == text


def test_a_crash_is_not_told_twice() -> None:
    conclusion = "the worker was killed by SIGKILL"
    run = finished(passes=False)
    failure = replace(
        run.attempts[-1].failure,
        check="crashed",
        reason=conclusion,  # type: ignore[type-var]
    )
    crashed = replace(run.attempts[-1], status="crashed", failure=failure)
    run = replace(run, attempts=(crashed,), status="error", conclusion=conclusion)
    assert words.last_sentence(run) == f"Attempt 2 crashed: {conclusion}; error."


def test_the_conclusion_of_a_run_does_not_tell_the_last_reason_twice() -> None:
    run = finished(passes=False)
    assert run.attempts[-1].failure is not None
    reason = run.attempts[-1].failure.reason
    conclusion = f"all 2 attempts failed dead_neurons, the last one because {reason}. All is tried"
    run = replace(run, conclusion=conclusion)
    assert words.last_sentence(run).count(reason) == 1
    assert words.last_sentence(run).endswith(f"; exhausted: {conclusion}.")


def test_what_failed_attempts_point_to_is_told_of_a_run_that_passes() -> None:
    run = finished()
    finding = Finding(cause="unscaled_inputs", reason="the inputs reach 1e6", certain=False)
    first = replace(run.attempts[0], findings=(finding,))
    lines = shown(results.summarize_run(replace(run, attempts=(first, *run.attempts[1:])), Path()))
    assert "The evidence on attempt 1 points to: the inputs reach 1e6" in lines


def test_what_a_passed_attempt_shows_is_worth_knowing_and_told_once() -> None:
    run = finished()
    finding = Finding(cause="overfitting", reason="0.97 and -0.38", advice="take more rows")
    attempts = tuple(replace(each, findings=(finding, finding)) for each in run.attempts)
    lines = shown(results.summarize_run(replace(run, attempts=attempts), Path()))
    assert lines.count("Worth knowing: 0.97 and -0.38: take more rows") == 1
    assert not any("evidence" in line for line in lines)
    assert words.worth_knowing(finished(passes=False)) == []


@pytest.mark.parametrize(
    ("file", "scaled", "own", "taken"),
    [
        ("model.keras", True, False, "the raw columns a, b, in this order."),
        ("model.weights.h5", False, False, "the raw columns a, b, in this order."),
        (
            "model.weights.h5", True, False,
            "the columns a, b, in this order, standardised by the means and variances of the "
            "inputs in run.json.",
        ),
        (
            "model.weights.h5", False, True,
            "the columns a, b, in this order, standardised by the means and variances of attempt "
            "2 in run.json.",
        ),
    ],
)  # fmt: skip
def test_what_was_saved_takes_raw_columns_only_where_it_standardises_them(
    file: str, scaled: bool, own: bool, taken: str, tmp_path: Path
) -> None:
    (tmp_path / file).touch()
    scales = {"": {"mean": [0.0, 1.0], "variance": [4.0, 9.0]}}
    inputs = Inputs(columns=("a", "b"), standardization=scales if scaled else {})
    run = replace(finished(), inputs=inputs)
    last = replace(run.attempts[-1], standardization={"inputs": scales} if own else {})
    run = replace(run, attempts=(*run.attempts[:-1], last))
    assert f"It takes {taken}" in shown(results.summarize_run(run, tmp_path), width=200)


@pytest.mark.parametrize(
    ("file", "state"),
    [
        ("checkpoint.keras", ", its state is in attempts/002/checkpoint.keras"),
        ("checkpoint.weights.h5", ", its state is in attempts/002/checkpoint.weights.h5"),
        ("log.txt", ""),
    ],
)
def test_the_best_attempt_is_named_however_its_state_was_saved(
    file: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    attempt = tmp_path / "attempts" / "002"
    attempt.mkdir(parents=True)
    (attempt / file).touch()
    assert f"Best attempt: 2{state}" in shown(
        results.summarize_run(finished(passes=False), tmp_path)
    )


def test_a_cause_is_named_by_what_follows_from_it() -> None:
    finding = Finding(cause="no_effect", reason="the rate is 0", advice="raise it", line=3, key="a")
    assert words.finding_line(finding) == "worth knowing: the rate is 0: raise it (line 3, a)"
    failed = words.finding_line(finding, failed=True)
    assert failed.startswith("the evidence points to: the rate is 0")
    certain = replace(finding, certain=True)
    assert words.finding_line(certain).startswith("no training can succeed: the rate is 0")


def test_many_columns_of_an_output_are_one_row() -> None:
    skills = [0.1 * index for index in range(9)]
    columns = [OutputSkill(output=0, name="a", kind="regression", varies=True, skill=each)
               for each in skills]  # fmt: skip
    alone = OutputSkill(output=0, name="b", kind="regression", varies=True, skill=0.5)
    found = health(outputs=tuple(numbered([columns, [alone]])))
    lines = [line.split() for line in shown(results.describe_health(found))]
    assert ["a,", "9", "columns", "regression", "0", "to", "0.8"] in lines
    assert ["b", "regression", "0.5"] in lines


def health(**changes: Any) -> Health:
    """A healthy model's health, with changes."""
    found = Health(
        finite=True, layers=(), outputs=(), verdicts=Verdicts([]), rows=5, exact=True,
        responding_rows=None, notes=(),
    )  # fmt: skip
    return dataclasses.replace(found, **changes)


JUDGED = OutputSkill(output=0, kind="regression", varies=True, skill=0.9)


@pytest.mark.parametrize(
    ("verdict", "outputs", "summary"),
    [
        ("pass", [JUDGED], "The model works."),
        ("warn", [JUDGED], "No check fails, but there are warnings: worse than the best constant."),
        (
            "pass",
            [dataclasses.replace(JUDGED, skill=None)],
            "No check fails; what the predictions are worth was not judged: worse than the best "
            "constant.",
        ),
    ],
)
def test_a_model_works_only_where_its_predictions_are_judged_and_nothing_warns(
    verdict: Verdict, outputs: list[OutputSkill], summary: str
) -> None:
    check = PredictionVarianceCheck(verdict=verdict, reason="worse than the best constant")
    found = health(outputs=tuple(outputs), verdicts=Verdicts([check]))
    assert found.summary() == [summary]


def test_the_result_is_legible_everywhere() -> None:
    for encoding in ("utf-8", "ascii"):
        lines = shown(results.summarize_run(finished(), Path("runs", "case")), encoding=encoding)
        assert any("failed at warmup:" in line for line in lines)
        assert max(map(len, lines)) <= 80


def test_a_loss_is_told_by_its_name_beside_the_best_constant() -> None:
    one = OutputWorth(
        output=0, kind="classification", function="binary_focal_crossentropy", loss=0.0214,
        constant_loss=0.0431, skill=0.5034,
    )  # fmt: skip
    ((name, columns),) = words.by_output([one], [one]).items()
    told = "binary focal crossentropy 0.0214, the best constant has 0.0431 (skill 0.503)"
    assert words.worth(name, columns) == told
    held = ValidationWorth(output=0, loss=0.03, skill=0.4)
    without = "binary focal crossentropy 0.03 without the class weights (skill 0.4 with them)"
    assert words.worth("", [(one, held)]) == without
    unjudged = OutputWorth(output=0, function="triplet", loss=0.3, unjudged="it compares rows")
    told = "triplet 0.3; skill is not judged: it compares rows"
    assert words.worth("", [(unjudged, unjudged)]) == told
    assert words.worth("", [(OutputWorth(output=0), OutputWorth(output=0))]) == ""
    own = OutputWorth(output=0, unjudged="the model has a train_step of its own")
    told = "skill of output price is not judged: the model has a train_step of its own"
    assert words.worth("price", [(own, own)]) == told
    assert words.worth("price", [(own, ValidationWorth(output=0))]) == ""


def test_columns_of_one_output_are_told_in_one_line_with_the_mean_that_keras_logs() -> None:
    price = OutputWorth(
        output=0, name="price", kind="regression", function="mean_squared_error", loss=0.5,
        constant_loss=1.0, skill=0.5,
    )  # fmt: skip
    other = replace(price, output=1, loss=0.1, skill=0.9)
    kind = replace(price, output=2, name="kind", function="sparse_categorical_crossentropy")
    found = words.by_output([price, other, kind], [price, other, kind])
    assert [words.worth(name, columns) for name, columns in found.items()] == [
        "mean squared error of output price 0.3, the best constant has 1 (skill of its 2 columns 0.5 to 0.9)",  # noqa: E501
        "sparse categorical crossentropy of output kind 0.5, the best constant has 1 (skill 0.5)",
    ]


def test_records_from_before_losses_had_names_are_told_column_by_column() -> None:
    old = OutputWorth(output=0, kind="classification", loss=0.5, constant_loss=1.0, skill=0.5)
    found = words.by_output([old, old], [old, old])
    assert [words.worth(name, columns) for name, columns in found.items()] == [
        f"cross-entropy of output {index} 0.5, the best constant has 1 (skill 0.5)"
        for index in range(2)
    ]


@pytest.mark.parametrize(
    ("metrics", "told"),
    [
        ({"mae": 1.0, "loss": 0.5, "val_loss": 0.25}, "loss 0.5 · val_loss 0.25"),
        ({"d_loss": 0.5, "g_loss": 2.0}, "d_loss 0.5 · g_loss 2"),
        (dict.fromkeys("abcdef", 1.0), "a 1 · b 1 · c 1 · d 1"),
        ({}, "nothing is logged"),
    ],
)
def test_an_epoch_is_told_by_its_losses_or_else_by_what_it_logs(
    metrics: dict[str, float], told: str
) -> None:
    assert words.losses(metrics) == told


def test_a_finding_is_told_in_full_once() -> None:
    told = "the output is a softmax over one unit: write sigmoid"
    measured = FindingsMeasured(causes=("one_unit_softmax",))
    check = FindingsCheck(verdict="fail", reason=told, measured=measured)
    assert words.verdict_reason(check) == "one_unit_softmax"
    passed = FindingsCheck(verdict="pass", reason="nothing stands against the training")
    assert words.verdict_reason(passed) == "nothing stands against the training"


@pytest.mark.parametrize("narrow", [False, True])
def test_every_setting_has_words_for_its_change(narrow: bool) -> None:
    values: dict[str, Any] = {
        "negative_slope": 0.2, "initializer": "he_normal", "standardize": "inputs",
        "output_activation": {"": "linear"}, "output_loss": {"a": "mse"}, "more_epochs": 3,
        "seed": 9,
    }  # fmt: skip
    names = set(Settings.__struct_fields__)
    assert names == set(Settings.WORDS)
    for name in names:
        value = values.get(name, 0.5)
        told = words._changed({name: {"from": None, "to": value}}, narrow=narrow)
        shown = next(iter(value.values())) if isinstance(value, dict) else value
        assert f"{shown}" in told
        assert "taken back" in words._changed({name: {"from": value, "to": None}}, narrow=narrow)
