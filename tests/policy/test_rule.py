from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given
from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.config.sections.rates import ANNEAL, LowerLearningRate
from orchestrator.config.sections.remedies import AnyRemedy as Remedy
from orchestrator.config.sections.remedies import (
    ClipGradients,
    LeakyRelu,
    LowerDropout,
    LowerPenalty,
    NewSeed,
    Reinitialize,
)
from orchestrator.config.sections.restart import Restart
from orchestrator.config.sections.scales import FixOutput, Standardize
from orchestrator.policy import rule
from orchestrator.policy.rule import Step, derive_seed
from orchestrator.record.records import INIT, Attempt, Candidate, Finding, Fix, Settings
from tests import builders
from tests.builders import LAW

SEED = 7


def _config(rungs: Sequence[Remedy] | None) -> Config:
    restart = Restart() if rungs is None else Restart(policy=list(rungs))
    return builders.config(seed=SEED, restart=restart)


def _step(rung: Remedy, *attempts: Attempt) -> Step:
    return rule.step(_config([rung]), attempts)


def _walk(
    rungs: Sequence[Remedy] | None,
    failures: Sequence[str | tuple[str, str | None]],
    *,
    obstacles: dict[str, str] | None = None,
    rate: float = 0.01,
) -> tuple[list[Step], list[Attempt]]:
    """Answer failures one by one, training each attempt at min(rate, cap), until no rung is left.

    A failure is a check, after phase main, or a check and a phase.
    """
    config = _config(rungs)
    settings, record = Settings(seed=SEED), dict[str, Any]()
    steps: list[Step] = []
    attempts: list[Attempt] = []
    for number, failure in enumerate(failures, start=1):
        name, at = (failure, "main") if isinstance(failure, str) else failure
        highest = min(rate, settings.learning_rate_cap or math.inf)
        rates = {} if at in (INIT, None) else {"warmup": 3 * highest, "main": highest}
        failed = builders.failed(number, name, settings=settings, at=at, rates=rates)
        attempts.append(replace(failed, obstacles=obstacles or {}, **record))
        step = rule.step(config, attempts)
        steps.append(step)
        if step.taken is None:
            break
        settings = step.taken.settings
        record = {"remedy": step.taken.rung.remedy, "rung": step.taken.key}
    return steps, attempts


def _names(steps: Sequence[Step]) -> list[str | None]:
    return [None if step.taken is None else step.taken.rung.remedy for step in steps]


def _settings(step: Step) -> Settings:
    assert step.taken is not None
    return step.taken.settings


def test_rungs_are_taken_in_order_as_often_as_they_say() -> None:
    rungs: list[Remedy] = [NewSeed(times=2), LowerLearningRate(), LeakyRelu()]
    steps, _ = _walk(rungs, ["dead_neurons"] * 6)
    assert _names(steps) == ["new_seed", "new_seed", "lower_learning_rate", "leaky_relu", None]
    reason = "the policy has no rung left that answers this failure"
    assert steps[-1] == Step(taken=None, passed_over=(), reason=reason)


def test_two_rungs_with_the_same_remedy_count_their_own_uses() -> None:
    rungs: list[Remedy] = [NewSeed(when=["finite"]), NewSeed()]
    steps, _ = _walk(rungs, ["finite", "finite", "finite"])
    assert _names(steps) == ["new_seed", "new_seed", None]


def test_no_rung_at_all_answers_nothing() -> None:
    assert _names(_walk([], ["finite"])[0]) == [None]


def test_a_rung_whose_when_does_not_match_is_kept_for_later() -> None:
    rungs: list[Remedy] = [LowerLearningRate(when=["finite", "crashed"]), NewSeed()]
    steps, _ = _walk(rungs, ["metric", "crashed", "metric"])
    assert _names(steps) == ["new_seed", "lower_learning_rate", None]
    assert [step.passed_over for step in steps] == [(), (), ()]


def test_a_rung_that_cannot_be_applied_is_passed_over_with_its_reason_and_stays_available() -> None:
    rungs: list[Remedy] = [LowerLearningRate(), NewSeed()]
    steps, _ = _walk(rungs, [("dead_neurons", INIT), "dead_neurons", "dead_neurons"])
    assert _names(steps) == ["new_seed", "lower_learning_rate", None]
    (reason,) = steps[0].passed_over
    assert reason == (
        "lower_learning_rate: the attempt failed before it trained, the rate cannot be the cause"
    )


@pytest.mark.parametrize("at", [INIT, None])
def test_the_rate_is_not_lowered_before_training(at: str | None) -> None:
    steps, _ = _walk([LowerLearningRate()], [("crashed", at)])
    assert _names(steps) == [None]


@pytest.mark.parametrize("rate", [0.0, math.inf])
def test_a_rate_that_no_cap_lowers_passes_the_rung_over(rate: float) -> None:
    attempt = builders.failed(1, rates={"main": rate})
    step = _step(LowerLearningRate(), attempt)
    assert step.taken is None
    assert f"the highest rate of phase main was {rate:g}" in step.passed_over[0]


def test_an_obstacle_passes_leaky_relu_over() -> None:
    steps, _ = _walk(
        [LeakyRelu(), NewSeed()], ["dead_neurons"], obstacles={"leaky_relu": "no relu to replace"}
    )
    assert _names(steps) == ["new_seed"]
    assert steps[0].passed_over == ("leaky_relu: no relu to replace",)


def test_leaky_relu_that_is_in_force_is_passed_over() -> None:
    rungs: list[Remedy] = [LeakyRelu(times=2), NewSeed()]
    # The second failure is another one, so that the slope stays.
    steps, _ = _walk(rungs, ["dead_neurons", "finite"])
    assert _names(steps) == ["leaky_relu", "new_seed"]
    assert steps[1].passed_over == ("leaky_relu: the slope is 0.2 already",)
    assert _settings(steps[1]).negative_slope == 0.2


def test_another_slope_is_another_change() -> None:
    rungs: list[Remedy] = [LeakyRelu(negative_slope=0.01, keep=True), LeakyRelu(negative_slope=0.2)]
    steps, _ = _walk(rungs, ["dead_neurons"] * 2)
    assert [_settings(step).negative_slope for step in steps] == [0.01, 0.2]


def test_the_same_check_takes_the_last_change_back() -> None:
    steps, _ = _walk([LeakyRelu(), LowerLearningRate()], ["dead_neurons", "dead_neurons"])
    last = _settings(steps[1])
    assert last.negative_slope is None
    assert last.learning_rate_cap == pytest.approx(0.001)


def test_the_same_check_in_another_phase_takes_the_last_change_back_too() -> None:
    steps, _ = _walk([LeakyRelu(), LowerLearningRate()], ["finite", ("finite", "warmup")])
    assert _settings(steps[1]).negative_slope is None


def test_keep_leaves_the_change_although_the_check_fails_again() -> None:
    steps, _ = _walk([LeakyRelu(keep=True), LowerLearningRate()], ["dead_neurons"] * 2)
    last = _settings(steps[1])
    assert last.negative_slope == 0.2
    assert last.learning_rate_cap == pytest.approx(0.001)


def test_a_change_that_made_its_failure_vanish_stays() -> None:
    rungs: list[Remedy] = [LeakyRelu(), LowerLearningRate(), NewSeed()]
    steps, _ = _walk(rungs, ["dead_neurons", "finite", "finite"])
    # The cap did not help against finite and is taken back, the slope helped and stays.
    last = _settings(steps[2])
    assert (last.negative_slope, last.learning_rate_cap) == (0.2, None)


def test_the_cap_is_a_fraction_of_the_highest_rate_of_the_phase_that_failed() -> None:
    attempt = builders.failed(1, at="warmup", rates={"warmup": 5.0, "main": 0.003})
    step = _step(LowerLearningRate(factor=0.01), attempt)
    assert _settings(step).learning_rate_cap == pytest.approx(0.05)


def test_a_repeated_lower_learning_rate_goes_on_from_its_own_last_cap() -> None:
    steps, _ = _walk([LowerLearningRate(times=3)], ["finite"] * 3, rate=1.0)
    caps = [_settings(step).learning_rate_cap for step in steps]
    assert caps == pytest.approx([0.1, 0.01, 0.001])


def test_the_own_last_cap_counts_after_it_was_taken_back() -> None:
    rungs: list[Remedy] = [
        LowerLearningRate(times=2, when=["dead_neurons", "metric"]),
        NewSeed(when=["dead_neurons"]),
    ]
    config = _config(rungs)
    first = builders.failed(1, "dead_neurons", rates={"main": 1.0})
    capped = rule.step(config, [first]).taken
    assert capped is not None
    assert capped.settings.learning_rate_cap == pytest.approx(0.1)
    # The cap is gone when the rung comes round again, and the phase runs at 1.0.
    again = replace(
        builders.failed(2, "dead_neurons", settings=capped.settings, rates={"main": 1.0}),
        rung=capped.key,
    )
    step = rule.step(config, [first, again])
    assert _settings(step).learning_rate_cap == pytest.approx(0.01)


def test_every_restart_draws_a_new_seed() -> None:
    rungs: list[Remedy] = [LeakyRelu(), LowerLearningRate(times=2), NewSeed(times=3)]
    _, attempts = _walk(rungs, ["dead_neurons"] * 7)
    seeds = [attempt.settings.seed for attempt in attempts]
    assert seeds == [SEED, *(derive_seed(SEED, count) for count in range(1, 7))]
    assert len(set(seeds)) == 7


def test_keep_seed_keeps_the_seed_and_the_next_one_is_fresh() -> None:
    rungs: list[Remedy] = [LowerLearningRate(keep_seed=True), NewSeed()]
    steps, _ = _walk(rungs, ["finite", "finite"])
    assert _settings(steps[0]).seed == SEED
    assert _settings(steps[1]).seed == derive_seed(SEED, 1)


def test_a_derived_seed_that_was_used_is_not_drawn_again() -> None:
    used = [
        builders.failed(1, settings=Settings(seed=derive_seed(SEED, 2))),
        replace(
            builders.failed(2, settings=Settings(seed=SEED)),
            screened=(Candidate(seed=derive_seed(SEED, 1), reason="dead"),),
        ),
    ]
    step = _step(NewSeed(), *used)
    assert _settings(step).seed == derive_seed(SEED, 3)


def test_an_attempt_that_did_not_fail_has_no_answer() -> None:
    passed = Attempt(attempt=1, status="passed", settings=Settings(seed=1))
    with pytest.raises(ValueError, match="expected a failed attempt, received status='passed'"):
        _step(NewSeed(), passed)


@pytest.mark.parametrize(
    ("rung", "field", "value"),
    [
        (NewSeed(), "seed", derive_seed(SEED, 1)),
        (LowerLearningRate(factor=0.5), "learning_rate_cap", 0.005),
        (LeakyRelu(negative_slope=0.1), "negative_slope", 0.1),
        (Reinitialize(initializer="he_uniform"), "initializer", "he_uniform"),
        (ClipGradients(norm=2.0), "clip_norm", 2.0),
        (LowerDropout(when=None, rate=0.1), "dropout_cap", 0.1),
        (LowerPenalty(when=None, strength=0.01), "penalty_cap", 0.01),
    ],
)
def test_a_remedy_changes_one_thing(rung: Remedy, field: str, value: float) -> None:
    before = Settings(seed=SEED)
    step = _step(rung, builders.failed(1, settings=before))
    changes = _settings(step).changes(before)
    assert changes.pop(field) == {"from": getattr(before, field), "to": value}
    assert changes.keys() <= {"seed"}


@pytest.mark.parametrize(
    ("rung", "settings", "reason"),
    [
        (Reinitialize(), {"initializer": "he_normal"}, "the initializer is he_normal already"),
        (ClipGradients(), {"clip_norm": 0.5}, "the norm is clipped to 0.5 already"),
        (LowerDropout(when=None), {"dropout_cap": 0.0}, "dropout is at most 0 already"),
        (LowerPenalty(when=None), {"penalty_cap": 1e-5}, "penalties are at most 1e-05 already"),
    ],
)
def test_what_is_in_force_is_passed_over(
    rung: Remedy, settings: dict[str, Any], reason: str
) -> None:
    failed = builders.failed(1, settings=Settings(seed=SEED, **settings))
    step = _step(rung, failed)
    assert step.passed_over == (f"{rung.remedy}: {reason}",)


def test_without_a_policy_uses_are_counted_over_all_failures() -> None:
    # Three new seeds were spent on networks born dead; one that died later gets none.
    failures: list[Any] = [("dead_neurons", INIT)] * 3 + ["metric"] * 4
    steps, _ = _walk(None, failures)
    assert _names(steps) == ["new_seed"] * 3 + ["lower_learning_rate"] * 3 + [None]


CASES: list[dict[str, Any]] = [
    {"when": ["finite"], "rungs": ["new_seed", {"remedy": "leaky_relu", "when": ["crashed"]}]},
    {"when": ["finite", "metric"], "rungs": [{"remedy": "new_seed", "times": 2}, "leaky_relu"]},
    "clip_gradients",
    {"when": ["dead_neurons"], "rungs": []},
    "new_seed",
]  # type: ignore[list-item]


def _cases(*failures: str) -> tuple[list[Step], list[Attempt]]:
    config = builders.config(seed=SEED, restart={"policy": CASES})
    return _walk(config.restart.policy, failures)  # type: ignore[arg-type]


def test_of_the_cases_that_match_the_first_answers_alone() -> None:
    assert _names(_cases("finite", "finite")[0]) == ["new_seed", None]


def test_cases_share_their_uses_and_other_rungs_do_not() -> None:
    steps, attempts = _cases("finite", "metric", "metric", "crashed", "crashed", "crashed")
    assert _names(steps) == [
        "new_seed",
        "new_seed",
        "leaky_relu",
        "clip_gradients",
        "new_seed",
        None,
    ]
    assert [attempt.rung for attempt in attempts] == [
        None,
        "restart.policy.0.rungs.0",
        "restart.policy.1.rungs.0",
        "restart.policy.1.rungs.1",
        "restart.policy.2",
        "restart.policy.4",
    ]


def test_a_case_without_rungs_ends_the_run() -> None:
    steps, _ = _cases("dead_neurons", "dead_neurons")
    # The rung above it is tried first, where it answers.
    assert _names(steps) == ["clip_gradients", None]
    assert steps[1].reason == "no remedy can help: as the test wants it"


@pytest.mark.parametrize(
    ("rates", "factor"),
    [
        ({"warmup": 0.001, "main": 5.0}, (0.001 / 5.0) ** (2 / 3)),
        ({"warmup": 5.0, "main": 5.0}, 0.1),
        ({"warmup": 4.0, "main": 5.0}, 0.1),
        ({"warmup": 1e-9, "main": 5.0}, 1e-3),
        ({"warmup": 0.0, "main": 5.0}, 0.1),
    ],
)
def test_the_rate_goes_towards_one_that_the_attempt_survived(
    rates: dict[str, float], factor: float
) -> None:
    phases = tuple(builders.phase(name) for name in (INIT, "warmup", "main"))
    failed = replace(builders.failed(1, rates=rates), phases=phases)
    step = _step(LowerLearningRate(factor="auto"), failed)
    assert _settings(step).learning_rate_cap == pytest.approx(5.0 * factor)


@pytest.mark.parametrize("rungs", [None, [NewSeed(when=["metric"]), LeakyRelu(), NewSeed(times=2)]])
def test_a_record_without_rungs_is_read_as_if_it_had_them(rungs: list[Remedy] | None) -> None:
    _, attempts = _walk(rungs, ["dead_neurons", "metric", "dead_neurons", "finite", "dead_neurons"])
    config = _config(rungs)
    old = [replace(attempt, rung=None) for attempt in attempts]
    for count in range(1, len(attempts) + 1):
        assert rule.step(config, old[:count]) == rule.step(config, attempts[:count])


CHECKS = st.sampled_from(["finite", "dead_neurons", "prediction_variance", "metric", "crashed"])
FAILURES = st.lists(st.tuples(CHECKS, st.sampled_from([INIT, "warmup", "main", None])), min_size=1)


@st.composite
def _rungs(draw: st.DrawFn) -> list[Remedy]:
    made: list[Remedy] = []
    for kind in draw(
        st.lists(st.sampled_from([NewSeed, LowerLearningRate, LeakyRelu, Reinitialize]), max_size=4)
    ):
        options: dict[str, Any] = {"times": draw(st.integers(1, 3)), "keep": draw(st.booleans())}
        if draw(st.booleans()):
            options["when"] = draw(st.lists(CHECKS, min_size=1))
        if kind is not NewSeed:
            options["keep_seed"] = draw(st.booleans())
        made.append(kind(**options))
    return made


@LAW
@given(st.none() | _rungs(), FAILURES)
def test_there_are_never_more_steps_than_uses(
    rungs: list[Remedy] | None, failures: list[tuple[str, str | None]]
) -> None:
    steps, _ = _walk(rungs, failures)
    taken = sum(step.taken is not None for step in steps)
    # By default three new seeds, three caps, a slope, an initializer and a norm.
    assert taken <= (9 if rungs is None else sum(rung.times for rung in rungs))


@LAW
@given(st.none() | _rungs(), FAILURES)
def test_the_walk_follows_from_seed_and_failures(
    rungs: list[Remedy] | None, failures: list[tuple[str, str | None]]
) -> None:
    assert _walk(rungs, failures) == _walk(rungs, failures)


@LAW
@given(_rungs(), FAILURES)
def test_a_seed_repeats_only_where_a_rung_says_so(
    rungs: list[Remedy], failures: list[tuple[str, str | None]]
) -> None:
    steps, attempts = _walk(rungs, failures)
    seen = {attempts[0].settings.seed}
    for attempt, step in zip(attempts, steps, strict=True):
        if step.taken is None:
            continue
        seed = step.taken.settings.seed
        if step.taken.rung.keep_seed:
            assert seed == attempt.settings.seed
        else:
            assert seed not in seen
        seen.add(seed)


@LAW
@given(_rungs(), FAILURES)
def test_a_lower_rate_is_lower_than_the_one_that_failed(
    rungs: list[Remedy], failures: list[tuple[str, str | None]]
) -> None:
    steps, attempts = _walk(rungs, failures)
    for attempt, step in zip(attempts, steps, strict=True):
        if step.taken is not None and isinstance(step.taken.rung, LowerLearningRate):
            assert attempt.failure is not None
            assert attempt.failure.phase is not None
            cap = _settings(step).learning_rate_cap
            assert cap is not None
            assert 0 < cap < attempt.learning_rates[attempt.failure.phase]


@LAW
@given(st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_derived_seeds_are_in_the_range_of_keras(seed: int, count: int) -> None:
    assert 0 <= derive_seed(seed, count) < 2**32


FAR = Finding(cause="distant_targets", reason="far", found="after")
SLOW = Finding(cause="undertrained", reason="still falling", found="after")
LOW = Finding(cause="unusual_rate", reason="low", found="before", fix=Fix(learning_rate_factor=500))
HIGH = Finding(cause="unusual_rate", reason="high", found="after", fix=Fix(usual_rate=0.001))


def _planned(check: str, planned: float, sound: float | None, *findings: Finding) -> Attempt:
    failed = builders.failed(1, check, rates={"main": planned})
    failed = replace(failed, findings=findings)
    return replace(failed, planned_rate=planned, sound_rate=sound)


@pytest.mark.parametrize(
    ("planned", "sound", "hindered", "findings", "factor"),
    [
        (1e-4, 0.003, True, (FAR, SLOW), 30.0),
        (1e-4, 0.003, True, (FAR, LOW), 30.0),
        (1e-4, 0.003, True, (FAR,), None),  # nothing says that it was slow
        (1e-4, 0.003, True, (FAR, SLOW, HIGH), None),
        (1e-4, None, True, (FAR, SLOW), None),
        (0.002, 0.003, True, (FAR, SLOW), None),  # near enough
        (0.015, 0.03, False, (FAR, SLOW), 2.0),  # without momentum it goes a tenth as far
        (0.015, 0.03, True, (FAR, SLOW), None),
    ],
)
def test_what_was_slow_at_its_rate_is_mended_together_with_it(
    planned: float,
    sound: float | None,
    hindered: bool,
    findings: tuple[Finding, ...],
    factor: float | None,
) -> None:
    failed = _planned("prediction_variance", planned, sound, *findings)
    if hindered:
        failed = replace(failed, obstacles={"momentum": "Adam has its own"})
    for raises in (True, False):
        taken = _step(Standardize(raise_rate=raises), failed).taken
        assert taken is not None and taken.settings.standardize == "targets"
        raised = factor if raises else None
        assert taken.settings.learning_rate_factor == raised
        assert taken.settings.learning_rate_cap == (sound if raised else None)
        assert taken.settings.momentum == (0.9 if raised and not hindered else None)


def test_of_a_network_that_never_trained_the_rate_alone_tells_whether_it_is_slow() -> None:
    output = Finding(
        cause="unreachable_targets", reason="out", certain=True, fix=Fix(activation="linear")
    )
    scale = Finding(cause="unscaled_inputs", reason="in millions")
    for planned, factor in ((1e-4, 30.0), (0.002, None)):
        failed = _planned("findings", planned, 0.003, output, scale)
        failed = replace(failed, obstacles={"momentum": "Adam has its own"})
        taken = _step(FixOutput(raise_rate=True), failed).taken
        assert taken is not None and taken.settings.output_activation == {"": "linear"}
        assert taken.settings.learning_rate_factor == factor
        # What is found of the rows before the training is answered at once, where it can be.
        assert taken.settings.standardize == "inputs"
    rooted = replace(failed, obstacles={"standardize inputs": "a pretrained base is behind it"})
    taken = _step(FixOutput(raise_rate=True), rooted).taken
    assert taken is not None and taken.settings.standardize is None


def test_what_was_raised_to_a_sound_rate_is_not_lowered_and_goes_on_up() -> None:
    config = builders.config(seed=7)
    output = Finding(
        cause="unreachable_targets", reason="out", certain=True, fix=Fix(activation="linear")
    )
    hindered = {"momentum": "Adam has its own"}
    first = replace(_planned("findings", 1e-4, 0.003, output), obstacles=hindered)
    taken = rule.step(config, [first]).taken
    assert taken is not None and taken.settings.learning_rate_cap == 0.003
    again = builders.failed(2, "learned", settings=taken.settings, rates={"main": 0.003})
    still = replace(SLOW, cause="rate_too_low", fix=Fix(learning_rate_factor=3.0))
    again = replace(again, findings=(still,), rung=taken.key, remedy="fix_output")
    step = rule.step(config, [first, replace(again, obstacles=hindered)])
    assert step.taken is not None and step.taken.rung.remedy == "raise_learning_rate"
    assert step.taken.settings.learning_rate_factor == pytest.approx(90.0)
    assert step.taken.settings.learning_rate_cap == pytest.approx(0.009)
    # What a cap does hold is not raised.
    held = replace(taken.settings, learning_rate_cap=0.001)
    lowered = replace(again, settings=held, learning_rates={"main": 0.001})
    step = rule.step(config, [first, replace(lowered, obstacles=hindered)])
    assert step.taken is None or step.taken.rung.remedy != "raise_learning_rate"


def test_a_network_too_narrow_with_trained_weights_still_gets_leaky_relu() -> None:
    layers = {"layers": [{"layer": "a", "activation": "relu", "units": 2, "dead": 0}] * 9}
    init = builders.phase(INIT, builders.made("dead_neurons", measured=layers))
    failed = builders.failed(1, "dead_neurons")
    failed = replace(failed, phases=(init, *failed.phases), sound_rate=0.01, planned_rate=0.001)
    taken = rule.step(builders.config(seed=7), [failed]).taken
    assert taken is not None and taken.rung.remedy == "usual_settings"
    kept = dict.fromkeys(("fresh_weights", "standardize inputs", "standardize targets"), "trained")
    taken = rule.step(builders.config(seed=7), [replace(failed, obstacles=kept)]).taken
    assert taken is not None and taken.rung.remedy == "leaky_relu"


def test_what_was_only_suspected_of_the_rows_is_left_with_another_output() -> None:
    mismatch = Finding(
        cause="loss_mismatch", reason="relu", found="before", fix=Fix(activation="sigmoid")
    )
    for found, standardized in (("before", None), ("after", "inputs")):
        scale = Finding(cause="unscaled_inputs", reason="in thousands", found=found)
        failed = replace(builders.failed(1, "learned"), findings=(mismatch, scale))
        taken = _step(FixOutput(), failed).taken
        assert taken is not None and taken.settings.standardize == standardized


def test_weights_that_are_trained_keep_their_rate_whatever_else_is_mended() -> None:
    failed = _planned("prediction_variance", 1e-5, 0.003, FAR, SLOW)
    kept = replace(failed, obstacles={"fresh_weights": "they are loaded"})
    for attempt, factor in ((failed, 300.0), (kept, None)):
        taken = _step(Standardize(raise_rate=True), attempt).taken
        assert taken is not None and taken.settings.learning_rate_factor == factor


def test_what_a_line_of_the_policy_asks_for_is_known_by_its_key() -> None:
    policy: list[Any] = [
        {"remedy": "standardize"},
        {"when": {"kind": ["crippled"], "cause": ["rate_too_low"]}, "rungs": [
            {"remedy": "new_seed"}, {"remedy": "leaky_relu", "when": ["few_steps"]}
        ]},
        {"when": ["died"], "rungs": [{"remedy": "new_seed"}]},
    ]  # fmt: skip
    config = builders.config(restart={"policy": policy})
    asked = [
        rule.asked(config, f"restart.policy.{key}") for key in ("0", "1.rungs.0", "1.rungs.1", "2")
    ]
    assert asked == [
        {"unscaled_inputs", "distant_targets"},
        {"rate_too_low"},
        {"rate_too_low", "few_steps"},
        {"died"},
    ]


@pytest.mark.parametrize(
    ("usual", "before", "cap"),
    [(None, None, None), (0.01, None, 0.03), (0.01, 0.02, 0.02), (0.01, 0.5, 0.03)],
)
def test_a_rate_far_above_the_usual_one_is_capped_with_another_change(
    usual: float | None, before: float | None, cap: float | None
) -> None:
    far = Finding(cause="unscaled_inputs", reason="in millions")
    high = Finding(cause="unusual_rate", reason="high", fix=Fix(usual_rate=usual))
    settings = Settings(seed=SEED, learning_rate_cap=before)
    failed = builders.failed(1, "finite", settings=settings, rates={"main": 5.0})
    failed = replace(failed, findings=(far,) if usual is None else (far, high))
    taken = _step(Standardize(cap_rate=True), failed).taken
    assert taken is not None and taken.settings.standardize == "inputs"
    assert taken.settings.learning_rate_cap == cap
    assert taken.settings.anneal == (ANNEAL if usual and cap != before else None)
    taken = _step(Standardize(), failed).taken
    assert taken is not None and taken.settings.learning_rate_cap == before
