"""What remedies make of the settings, from what the record of a failed attempt says."""

import math
from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.sections.rates import (
    ANNEAL,
    LowerLearningRate,
    RaiseLearningRate,
    at_sound_rate,
    is_capped,
    is_held,
)
from orchestrator.config.sections.remedies import ClipGradients, LeakyRelu, UsualSettings
from orchestrator.config.sections.scales import FixOutput, Standardize
from orchestrator.policy import rule
from orchestrator.record.records import INIT, Attempt, Cause, Failure, Finding, Fix, Settings
from tests import builders

SEED = Settings(seed=7)


def attempt(
    *causes: Cause, fix: Fix | None = None, certain: bool = False, **fields: Any
) -> Attempt:
    found = [Finding(cause=cause, reason=f"{cause}!", fix=fix, certain=certain) for cause in causes]
    return replace(builders.failed(1, "prediction_variance"), findings=tuple(found), **fields)


@pytest.mark.parametrize(
    ("causes", "before", "expected"),
    [
        (["unscaled_inputs"], None, "inputs"),
        (["distant_targets"], None, "targets"),
        (["distant_targets", "unscaled_inputs"], None, "inputs and targets"),
        (["distant_targets"], "inputs", "inputs and targets"),
    ],
)
def test_what_is_named_is_standardised(causes: list[Cause], before: Any, expected: str) -> None:
    settings = Standardize().apply(replace(SEED, standardize=before), [attempt(*causes)], None)
    assert settings == replace(SEED, standardize=expected)


def test_what_is_obstructed_is_passed_over_and_the_rest_is_not() -> None:
    failed = attempt("unscaled_inputs", "distant_targets", obstacles={"standardize inputs": "no!"})
    assert Standardize().apply(SEED, [failed], None) == replace(SEED, standardize="targets")
    only = attempt("unscaled_inputs", obstacles={"standardize inputs": "no!"})
    assert Standardize().apply(SEED, [only], None) == "no!"
    assert "no finding says" in str(Standardize().apply(SEED, [attempt("too_small")], None))


def test_an_output_gets_what_a_finding_asks_for() -> None:
    fix = Fix(activation="sigmoid", loss="binary_crossentropy")
    settings = FixOutput().apply(SEED, [attempt("loss_mismatch", fix=fix)], None)
    assert isinstance(settings, Settings)
    assert settings.output_activation == {"": "sigmoid"}
    assert settings.output_loss == {"": "binary_crossentropy"}
    assert "already" in str(FixOutput().apply(settings, [attempt("loss_mismatch", fix=fix)], None))
    assert "left to you" in str(FixOutput().apply(SEED, [attempt("unreachable_targets")], None))


@pytest.mark.parametrize(
    ("before", "expected"),
    [(None, "targets"), ("inputs", "inputs and targets"), ("targets", "targets")],
)
def test_targets_that_an_output_was_to_reach_scaled_are_scaled(before: Any, expected: str) -> None:
    fix = Fix(activation="linear", standardize=True)
    failed = attempt("unreachable_targets", fix=fix)
    settings = FixOutput().apply(replace(SEED, standardize=before), [failed], None)
    assert isinstance(settings, Settings)
    assert settings == replace(SEED, standardize=expected, output_activation={"": "linear"})


def test_a_bound_of_the_configs_stays_unless_nothing_moves_by_it() -> None:
    own = {"clipping": "the optimizer clips already"}
    assert ClipGradients().apply(SEED, [attempt(obstacles=own)], None) == own["clipping"]
    changed = ClipGradients().apply(SEED, [attempt("clipped", obstacles=own)], None)
    assert changed == replace(SEED, clip_norm=1.0)


def test_a_schedule_that_has_ended_takes_the_whole_training_at_the_rates_that_it_has() -> None:
    ended = attempt("no_effect", fix=Fix(schedule_stretch=19.0), sound_rate=0.003)
    slow = attempt("rate_too_low", fix=Fix(learning_rate_factor=10.0, factor_with_momentum=3.0))
    failed = replace(ended, findings=ended.findings + slow.findings)
    raising = RaiseLearningRate(momentum=0.9)
    stretched = raising.apply(SEED, [failed], None)
    assert stretched == replace(SEED, schedule_stretch=19.0)
    assert raising.begin(stretched, [failed], None) == stretched
    usual = UsualSettings().apply(SEED, [failed, slow], None)
    assert isinstance(usual, Settings) and usual.schedule_stretch == 19.0
    by_number = RaiseLearningRate(factor=2).apply(SEED, [failed], None)
    assert by_number == replace(SEED, learning_rate_factor=2.0)


@pytest.mark.parametrize(
    ("hindered", "expected"),
    [
        ([], "inputs and targets"),
        (["standardize targets"], "inputs and targets"),  # as long as its activation is there
        (["standardize inputs"], "targets"),
    ],
)
def test_what_is_in_the_way_of_scaled_targets_goes_with_it(
    hindered: list[str], expected: str
) -> None:
    fix = Fix(activation="linear", standardize=True, standardize_inputs=True)
    failed = attempt("distant_targets", fix=fix, obstacles=dict.fromkeys(hindered, "no!"))
    settings = Standardize().apply(SEED, [failed], None)
    assert settings == replace(SEED, standardize=expected, output_activation={"": "linear"})
    failed = replace(failed, obstacles={"standardize targets": "no!", "fix_output": "no!"})
    assert Standardize().apply(SEED, [failed], None) == "no!"
    failed = attempt("unreachable_targets", fix=fix, obstacles=dict.fromkeys(hindered, "no!"))
    assert FixOutput().apply(SEED, [failed], None) == settings


FAR: list[Any] = [Finding(
    cause="unusual_rate", reason="50 times what SGD usually takes",
    fix=Fix(learning_rate_factor=0.02),
)]  # fmt: skip


def lowered(failed: Attempt, *before: Attempt, **rung: Any) -> Settings:
    policy = [{"remedy": "lower_learning_rate", "factor": "auto", "times": 3, **rung}]
    taken = rule.step(builders.config(seed=7, restart={"policy": policy}), [*before, failed]).taken
    assert taken is not None
    return taken.settings


def test_a_rate_far_above_the_usual_one_is_lowered_to_that_with_momentum() -> None:
    failed = replace(builders.failed(1, "finite"), learning_rates={"main": 0.5}, findings=FAR)
    settings = lowered(failed, momentum=0.9)
    assert settings.learning_rate_cap == pytest.approx(0.01)
    assert settings.momentum == 0.9
    # Else two thirds of the way, as an optimizer of another kind, or without a usual rate.
    for plain in (
        lowered(failed),
        lowered(replace(failed, obstacles={"momentum": "it is Adam"}), momentum=0.9),
    ):
        assert plain.momentum is None
        assert plain.learning_rate_cap == pytest.approx(0.5 * 0.02 ** (2 / 3))
    assert lowered(replace(failed, findings=()), momentum=0.9).momentum is None


def test_no_rate_is_lowered_for_a_loss_that_was_none_before_the_first_step() -> None:
    failed = replace(builders.failed(1, "finite"), learning_rates={"main": 0.5})
    nan = replace(builders.phase("main"), first_loss=math.nan)
    began = replace(failed, phases=(nan,))
    assert "the rate cannot be the cause" in str(LowerLearningRate().apply(SEED, [began], None))
    assert isinstance(LowerLearningRate().apply(SEED, [failed], None), Settings)


def test_a_cap_falls_where_the_policy_says_so_and_the_training_starts_again() -> None:
    failed = replace(builders.failed(1, "finite"), learning_rates={"main": 0.5}, findings=FAR)
    assert lowered(failed, anneal=0.1).anneal == 0.1
    assert lowered(failed, momentum=0.9, anneal=0.1).anneal == 0.1
    assert lowered(failed).anneal is None
    fallen = replace(failed.settings, learning_rate_cap=0.5, anneal=0.1)
    kept = replace(failed, settings=fallen, rung="restart.policy.0", remedy="lower_learning_rate")
    again = lowered(kept, failed, keep=True)
    assert again.learning_rate_cap != 0.5 and again.anneal is None
    lower = next(
        rung
        for entry in builders.config(seed=7).restart.policy
        for rung in getattr(entry, "rungs", [entry])
        if isinstance(rung, LowerLearningRate)
    )
    assert lower.anneal == ANNEAL


def test_what_gathers_goes_on_to_at_a_still_lower_rate() -> None:
    first = replace(builders.failed(1, "finite"), learning_rates={"main": 0.5}, findings=FAR)
    settings = lowered(first, momentum=0.9)
    second = replace(
        builders.failed(2, "finite"), settings=settings, learning_rates={"main": 0.01},
        remedy="lower_learning_rate", rung="restart.policy.0",
    )  # fmt: skip
    again = lowered(second, first, momentum=0.9)
    assert again.momentum == 0.9
    assert again.learning_rate_cap == pytest.approx(0.001)


def test_by_default_what_is_known_is_answered_first() -> None:
    config = builders.config(seed=7)
    certain = attempt("one_unit_softmax", fix=Fix(activation="sigmoid"), certain=True)
    taken = rule.step(config, [certain]).taken
    assert taken is not None and taken.rung.remedy == "fix_output"
    obstructed = replace(certain, obstacles={"fix_output": "in your own code"})
    step = rule.step(config, [obstructed])
    assert step.taken is None and "passed over: fix_output: in your own code" in step.reason
    far = attempt("distant_targets", certain=True)
    taken = rule.step(config, [far]).taken
    assert taken is not None and taken.settings.standardize == "targets"


def test_a_suspicion_before_the_training_is_no_evidence() -> None:
    suspected = Finding(cause="unscaled_inputs", reason="far", found="before")
    failed = replace(builders.failed(1, "prediction_variance"), findings=(suspected,))
    taken = rule.step(builders.config(seed=7), [failed]).taken
    assert taken is not None and taken.rung.remedy != "standardize"


def test_a_lower_rate_is_no_answer_to_a_loss_that_was_still_falling() -> None:
    last = replace(builders.phase("main"), metrics={"loss": 0.6}, lowest_loss=0.61)
    failed = replace(builders.failed(1, "learned"), phases=(builders.phase("init"), last))
    settings = failed.settings
    found = LowerLearningRate().apply(settings, [failed], None)
    assert isinstance(found, str)
    assert found.startswith("the loss was lower at the end")
    shot = replace(last, first_loss=0.7, highest_loss=7.0)  # it has only come back to where it was
    again = replace(failed, phases=(failed.phases[0], shot))
    assert not isinstance(LowerLearningRate().apply(settings, [again], None), str)
    # Where the phase has passed, and learnt too little for a restart, its last epoch counts.
    at_its_end = replace(last, lowest_loss=0.6)
    passed = replace(failed, phases=(failed.phases[0], at_its_end))
    assert isinstance(LowerLearningRate().apply(settings, [passed], None), str)
    fell = builders.made("learned", verdict="fail")
    again = replace(passed, phases=(failed.phases[0], replace(at_its_end, checks=(fell,))))
    assert not isinstance(LowerLearningRate().apply(settings, [again], None), str)
    risen = replace(last, lowest_loss=0.3)
    failed = replace(failed, phases=(failed.phases[0], risen))
    assert not isinstance(LowerLearningRate().apply(settings, [failed], None), str)


def test_a_rate_is_raised_by_what_the_finding_says() -> None:
    fix = Fix(learning_rate_factor=100.0)
    failed = attempt("rate_too_low", fix=fix)
    raised = RaiseLearningRate().apply(SEED, [failed], None)
    assert raised == replace(SEED, learning_rate_factor=100.0)
    # The next finding is one of the rates that were raised already.
    again = replace(failed, settings=raised)
    assert RaiseLearningRate().apply(SEED, [again], None) == replace(SEED, learning_rate_factor=1e4)
    # A change that was taken back, since it did not suffice, was part of what was on its way.
    leaky = replace(failed, settings=replace(SEED, negative_slope=0.2))
    raised = RaiseLearningRate().apply(SEED, [leaky], None)
    assert raised == replace(SEED, negative_slope=0.2, learning_rate_factor=100.0)
    own = RaiseLearningRate(factor=3.0).apply(SEED, [failed], None)
    assert own == replace(SEED, learning_rate_factor=3.0)


def test_sgd_is_given_momentum_where_it_is_slow_without() -> None:
    fix = Fix(learning_rate_factor=10.0, factor_with_momentum=3.0)
    failed = attempt("rate_too_low", fix=fix)

    def raised(failed: Attempt, **given: Any) -> Settings | str:
        rung = RaiseLearningRate(**given)
        applied = rung.apply(failed.settings, [failed], None)
        return applied if isinstance(applied, str) else rung.begin(applied, [failed], None)

    assert raised(failed, momentum=0.9) == replace(SEED, momentum=0.9, learning_rate_factor=3.0)
    faster = replace(failed, settings=replace(SEED, learning_rate_factor=2.0))
    assert raised(faster, momentum=0.9) == replace(SEED, momentum=0.9, learning_rate_factor=6.0)
    # As far as that goes alone, where the optimizer cannot have it, has it, or is not to have it.
    plain = replace(SEED, learning_rate_factor=10.0)
    assert raised(replace(failed, obstacles={"momentum": "it is Adam"}), momentum=0.9) == plain
    gathers = replace(failed, settings=replace(SEED, momentum=0.9))
    assert raised(gathers, momentum=0.9) == replace(plain, momentum=0.9)
    assert raised(failed) == plain
    both = replace(plain, momentum=0.9, learning_rate_factor=20.0)
    assert raised(failed, momentum=0.9, factor=20.0) == both
    # What was lowered to spare another phase was so without momentum.
    capped = replace(SEED, learning_rate_cap=0.5)
    assert raised(replace(failed, settings=capped), momentum=0.9) == replace(
        capped, learning_rate_factor=10.0
    )
    # At the highest usual rate it is momentum alone that is wanting.
    only = attempt("rate_too_low", fix=Fix(factor_with_momentum=1.0))
    assert raised(only, momentum=0.9) == replace(SEED, momentum=0.9)
    assert isinstance(raised(only), str)
    # A snapshot goes on without, as it was trained.
    assert isinstance(raised(only, momentum=0.9, rewind=True), str)


def test_a_cap_on_another_phase_leaves_room_for_raising_the_rate() -> None:
    capped = replace(SEED, learning_rate_cap=0.06)
    failed = attempt("undertrained", fix=Fix(learning_rate_factor=10.0), settings=capped)
    for rate, raises in ((0.02, True), (0.06, False)):
        found = RaiseLearningRate().apply(
            SEED, [replace(failed, learning_rates={"main": rate})], None
        )
        assert isinstance(found, Settings) is raises


def test_a_rate_that_was_raised_over_a_sound_one_is_not_held() -> None:
    raised = replace(
        attempt("undertrained", fix=Fix(learning_rate_factor=3.0)),
        settings=replace(SEED, learning_rate_cap=0.03, learning_rate_factor=30.0),
        learning_rates={"main": 0.03},
        sound_rate=0.01,
        planned_rate=0.001,
    )
    assert is_held([raised])
    raised = replace(raised, remedy="raise_learning_rate")
    assert not is_held([raised])
    found = RaiseLearningRate().apply(SEED, [raised], None)
    assert isinstance(found, Settings) and found.learning_rate_factor == pytest.approx(90.0)


def test_rates_that_a_remedy_has_lowered_or_of_which_nothing_is_known_are_not_raised() -> None:
    fix = Fix(learning_rate_factor=100.0)
    lowered = attempt("rate_too_low", fix=fix, settings=replace(SEED, learning_rate_cap=1e-5))
    assert RaiseLearningRate().apply(SEED, [lowered], None) == "a remedy has lowered the rates"
    found = RaiseLearningRate().apply(SEED, [attempt("rate_too_low")], None)
    assert found == "nothing says how far below the right one the rate is"
    # Nor is an output fixed by what says something of the rate.
    assert isinstance(FixOutput().apply(SEED, [attempt("rate_too_low", fix=fix)], None), str)


def test_a_rate_that_is_far_below_the_usual_one_is_not_lowered() -> None:
    low = attempt("unusual_rate", fix=Fix(learning_rate_factor=1000.0))
    for failed in (low, attempt("unusual_rate")):
        found = LowerLearningRate().apply(SEED, [failed], None)
        assert found == "the rate is far below the usual one"


def test_steps_that_were_too_small_are_not_made_smaller() -> None:
    failed = attempt("rate_too_low", learning_rates={"main": 0.001})
    found = LowerLearningRate().apply(SEED, [failed], None)
    assert found == "the weights got too little far, and get less far at a lower rate"
    # By the usual rate a step can be too large all the same.
    far = Finding(cause="unusual_rate", reason="far", fix=Fix(usual_rate=1e-4))
    both = replace(failed, findings=(*failed.findings, far))
    assert isinstance(LowerLearningRate().apply(SEED, [both], None), Settings)


@pytest.mark.parametrize(
    ("rate", "usual", "cap"),
    [(1.0, 0.001, 0.01), (5.0, 0.01, 0.0794), (1e4, 0.01, 10.0)],
)
def test_the_first_cap_is_on_the_way_to_the_usual_rate(
    rate: float, usual: float, cap: float
) -> None:
    fix = Fix(learning_rate_factor=usual / rate)
    failed = attempt("unusual_rate", fix=fix, learning_rates={"main": rate})
    found = LowerLearningRate(factor="auto").apply(SEED, [failed], None)
    assert isinstance(found, Settings)
    assert found.learning_rate_cap == pytest.approx(cap, rel=0.01)
    # A phase that has survived says what does, too, and the cap is near the higher of the two.
    phases = tuple(builders.phase(name) for name in ("init", "warmup", "main"))
    rates = {"warmup": usual * 5, "main": rate}
    shock = replace(failed, phases=phases, learning_rates=rates)
    shock = replace(shock, failure=builders.failed(1).failure)
    found = LowerLearningRate(factor="auto").apply(SEED, [shock], None)
    assert isinstance(found, Settings)
    towards = rate * (usual * 5 / rate) ** (2 / 3)
    assert found.learning_rate_cap == pytest.approx(min(towards, 15 * usual))
    raised = RaiseLearningRate(factor="auto").apply(SEED, [failed], None)
    assert raised == "the rate is far above the usual one"


def test_usual_settings_change_all_that_the_model_can_carry() -> None:
    first = attempt("few_steps", planned_rate=0.0002, sound_rate=0.01)
    fixed = replace(
        SEED,
        output_activation={"": "linear"},
        clip_norm=1.0,
        learning_rate_cap=1e-5,
        dropout_cap=0.0,
        penalty_cap=1e-4,
    )
    second = replace(first, settings=fixed)
    usual = replace(
        SEED, learning_rate_factor=50.0, learning_rate_cap=0.01, momentum=0.9, negative_slope=0.3,
        initializer="he_normal", standardize="inputs and targets", output_activation={"": "linear"},
        dropout_cap=0.0, penalty_cap=1e-4,
    )  # fmt: skip
    assert UsualSettings().apply(SEED, [first, second], None) == usual
    clipped = replace(first, findings=(*first.findings, *attempt("clipped").findings))
    lifted = replace(usual, clip_norm=1.0)
    assert UsualSettings().apply(SEED, [clipped, second], None) == lifted
    again = replace(second, settings=usual)
    assert UsualSettings().apply(SEED, [first, second, again], usual) == usual
    assert "as far as it can" in str(UsualSettings().apply(SEED, [first, second, again], None))
    short = Finding(cause="undertrained", reason="still falling", found="after")
    again = replace(again, findings=(short,))
    assert "on its way" in str(UsualSettings().apply(SEED, [first, second, again], usual))
    enough = builders.failed(2, "learned")
    passed = builders.phase("main", builders.made("learned", verdict="warn"))
    again = replace(again, findings=(), failure=enough.failure, phases=(passed,))
    assert "seldom" in str(UsualSettings().apply(SEED, [first, second, again], usual))
    poor = builders.phase("main", builders.made("learned", verdict="fail"))
    assert UsualSettings().apply(SEED, [first, replace(again, phases=(poor,))], usual) == usual
    crashed = Failure(check="crashed", phase=None, reason="killed")
    again = replace(again, failure=crashed, phases=())
    assert UsualSettings().apply(SEED, [first, again], usual) == usual
    short_before = replace(second, findings=(short,))
    assert UsualSettings().apply(SEED, [first, short_before], None) == usual
    hindered = {each: "no" for each in ("leaky_relu", "momentum", "standardize targets")}
    found = UsualSettings().apply(SEED, [replace(first, obstacles=hindered), second], None)
    assert found == replace(usual, momentum=None, negative_slope=None, standardize="inputs")


@pytest.mark.parametrize(
    ("units", "initializer"),
    [
        ([2] * 9, "orthogonal"),
        ([32] * 12, "orthogonal"),
        ([32] * 13, "he_normal"),
        ([2, 33, 2], "he_normal"),
        ([], "he_normal"),
    ],
)
def test_usual_weights_of_narrow_layers_are_orthogonal(units: list[int], initializer: str) -> None:
    layers = [{"layer": "a", "activation": "relu", "units": each, "dead": 0} for each in units]
    init = builders.phase(INIT, builders.made("dead_neurons", measured={"layers": layers}))
    failed = replace(attempt("few_steps"), phases=(init,))
    found = UsualSettings().apply(SEED, [failed], None)
    assert isinstance(found, Settings) and found.initializer == initializer


def test_a_slope_that_is_steep_enough_is_left() -> None:
    steep = replace(SEED, negative_slope=0.3)
    assert LeakyRelu().apply(steep, [attempt("few_steps")], None) == "the slope is 0.3 already"
    flat = replace(SEED, negative_slope=0.1)
    assert LeakyRelu().apply(flat, [attempt("few_steps")], None) == replace(
        flat, negative_slope=0.2
    )


@pytest.mark.parametrize(
    ("count", "share", "again"),
    [(9, 0.35, True), (9, 0.6, False), (2, 0.35, False)],  # two layers of two are seldom dead
)
def test_a_seed_that_was_unlucky_with_usual_settings_is_not_the_last(
    count: int, share: float, *, again: bool
) -> None:
    layer = {"layer": "a", "activation": "relu", "units": 2, "dead": 0, "rows": None}
    init = builders.made("dead_neurons", measured={"layers": [layer] * count})
    learnt = builders.made(
        "learned",
        verdict="warn",
        measured={"outputs": [{"output": 0, "share": share}]},
        limits={"fail_below": 0.5, "warn_below": 0.8},
    )
    first = replace(
        attempt("rate_too_low", fix=Fix(learning_rate_factor=10.0), sound_rate=0.01),
        phases=(replace(builders.phase("init"), checks=(init,)),),
    )
    settings = UsualSettings().apply(SEED, [first], None)
    assert isinstance(settings, Settings)
    second = replace(
        attempt("undertrained"),
        settings=settings,
        phases=(builders.phase("init"), replace(builders.phase("main"), checks=(learnt,))),
    )
    found = UsualSettings().apply(SEED, [first, second], settings)
    if again:
        assert found == settings
    else:
        assert found == "it was on its way with them, and no seed brings it much further"


def test_usual_settings_leave_weights_that_were_trained_before_and_their_rate() -> None:
    hindered = {"fresh_weights": "trained", "standardize inputs": "trained on others"}
    failed = attempt("few_steps", planned_rate=1e-5, sound_rate=0.01, obstacles=hindered)
    found = UsualSettings().apply(SEED, [failed], None)
    assert found == replace(SEED, standardize="targets")
    hindered |= {"standardize targets": "classes", "new_seed": "only the order would change"}
    failed = replace(failed, obstacles=hindered)
    assert UsualSettings().apply(SEED, [failed], None) == "only the order would change"


def test_usual_settings_are_not_what_has_failed_before_a_rate_was_lowered() -> None:
    kept = ("fresh_weights", "standardize inputs", "standardize targets")
    first = attempt("undertrained", obstacles=dict.fromkeys(kept, "trained"))
    lowered = replace(first, attempt=2, settings=replace(SEED, seed=8, learning_rate_cap=1e-4))
    told = UsualSettings().apply(replace(SEED, seed=9), [first, lowered], None)
    assert told == "the model is at usual settings, as far as it can carry them"


@pytest.mark.parametrize(
    ("rate", "factor"), [(0.001, 10.0), (0.009, None), (0.01, None), (5.0, None), (None, None)]
)
def test_usual_settings_are_at_the_sound_rate(rate: float | None, factor: float | None) -> None:
    failed = attempt("few_steps", planned_rate=rate, sound_rate=0.01)
    found = UsualSettings().apply(SEED, [failed], None)
    assert isinstance(found, Settings)
    assert (found.learning_rate_factor, found.learning_rate_cap) == (factor, 0.01)
    assert found.anneal == (ANNEAL if rate == 5.0 else None)


def test_usual_settings_leave_the_rate_of_an_optimizer_that_nothing_is_known_of() -> None:
    failed = attempt("few_steps", planned_rate=7.0)
    found = UsualSettings().apply(SEED, [failed], None)
    assert isinstance(found, Settings)
    assert (found.learning_rate_factor, found.learning_rate_cap) == (None, None)


def test_without_a_sound_rate_usual_settings_are_at_that_which_a_finding_asks_for() -> None:
    slow = Finding(
        cause="undertrained", reason="falling", found="after", fix=Fix(learning_rate_factor=10.0)
    )
    first = replace(attempt("undertrained"), findings=(slow,), planned_rate=0.001)
    found = UsualSettings().apply(SEED, [first], None)
    assert isinstance(found, Settings) and found.learning_rate_factor == 10.0
    raised = replace(first, settings=replace(SEED, learning_rate_factor=3.0))
    found = UsualSettings().apply(SEED, [raised], None)
    assert isinstance(found, Settings) and found.learning_rate_factor == 30.0
    lowered = replace(
        first,
        settings=replace(SEED, learning_rate_cap=0.001),
        learning_rates={"main": 0.001},
    )
    found = UsualSettings().apply(SEED, [lowered], None)
    assert isinstance(found, Settings) and found.learning_rate_factor is None


def test_a_rate_that_was_lowered_is_held_also_to_a_sound_one() -> None:
    settings = replace(SEED, learning_rate_cap=0.0026)
    rates = {"warm": 0.001, "shock": 0.0026}
    raised = replace(
        attempt("non_finite"),
        settings=settings,
        learning_rates=rates,
        sound_rate=0.0026,
        planned_rate=0.001,
    )
    assert not is_held([raised])
    assert is_held([replace(raised, remedy="lower_learning_rate")])


def test_a_rate_is_lowered_from_where_it_was_last() -> None:
    def thrown(number: int, cap: float | None, rate: float) -> Attempt:
        settings = replace(SEED, learning_rate_cap=cap)
        return builders.failed(number, "finite", settings=settings, rates={"main": rate})

    first, usual = thrown(1, None, 0.5), thrown(3, 0.03, 0.03)
    last = replace(SEED, learning_rate_cap=0.0005)
    found = LowerLearningRate().apply(SEED, [first, usual], last)
    assert isinstance(found, Settings) and found.learning_rate_cap == pytest.approx(0.003)
    found = LowerLearningRate().apply(SEED, [first], last)  # that cap was taken back
    assert isinstance(found, Settings) and found.learning_rate_cap == pytest.approx(0.00005)


def test_the_way_to_a_rate_that_was_survived_begins_where_the_last_cap_left_off() -> None:
    phases = tuple(builders.phase(name) for name in ("init", "warmup", "main"))
    rates = {"warmup": 1e-6, "main": 0.5}
    failed = replace(builders.failed(3, "finite", rates=rates), phases=phases)
    last = replace(SEED, learning_rate_cap=0.001)
    found = LowerLearningRate(factor="auto").apply(SEED, [failed], last)
    assert isinstance(found, Settings)
    assert found.learning_rate_cap == pytest.approx(0.001 * (1e-6 / 0.001) ** (2 / 3))


@pytest.mark.parametrize(("sound", "cap"), [(0.03, 0.01), (0.0026, 0.0026), (None, 0.01)])
def test_with_momentum_a_rate_is_lowered_to_a_sound_one(sound: float | None, cap: float) -> None:
    fast = Finding(
        cause="unusual_rate", reason="it is 0.8", found="after", fix=Fix(usual_rate=0.01)
    )
    failed = replace(attempt("non_finite"), findings=(fast,), sound_rate=sound)
    lowered = replace(SEED, learning_rate_cap=0.04)
    begun = LowerLearningRate(momentum=0.9).begin(lowered, [failed], None)
    assert (begun.momentum, begun.learning_rate_cap) == (0.9, cap)
    # With one of its own it goes as far, but a bound that is no matter of size is not meant.
    own = replace(failed, obstacles={"momentum": "SGD has its own"})
    begun = LowerLearningRate(momentum=0.9).begin(lowered, [own], None)
    assert begun.learning_rate_cap == (cap if sound == 0.0026 else 0.04)


def test_a_rate_is_raised_to_a_sound_one_at_least_by_the_highest_that_ran() -> None:
    short = Finding(cause="undertrained", reason="falling", fix=Fix(learning_rate_factor=2.0))
    failed = replace(
        attempt("undertrained"), findings=(short,), sound_rate=0.003, planned_rate=1e-4
    )
    rung = RaiseLearningRate(when=None)

    def factor(rates: dict[str, float], **told: Any) -> float | None:
        raised = rung.apply(SEED, [replace(failed, learning_rates=rates, **told)], None)
        assert isinstance(raised, Settings)
        return raised.learning_rate_factor

    assert factor({"main": 1e-4}) == pytest.approx(30.0)
    assert factor({"warmup": 0.001, "main": 1e-4}) == pytest.approx(3.0)
    assert factor({"main": 0.004}) == 2.0
    assert factor({"main": 1e-4}, obstacles={"fresh_weights": "loaded"}) == 2.0


def test_a_sound_rate_comes_with_the_momentum_that_was_given_before() -> None:
    failed = attempt("undertrained", sound_rate=0.03, planned_rate=0.001)
    for given, expected in ((None, 0.9), (0.5, 0.5)):
        settings = at_sound_rate(replace(SEED, momentum=given), [failed])
        assert settings.momentum == expected
        assert (settings.learning_rate_factor, settings.learning_rate_cap) == (30.0, 0.03)


@pytest.mark.parametrize(
    ("cap", "factor", "planned", "capped"),
    [
        (None, None, 0.01, False),
        (0.001, None, 0.01, True),
        (0.003, 30.0, 1e-4, False),  # a sound rate, to which it was raised
        (0.003, 100.0, 1e-4, True),
        (0.03, None, 0.001, False),  # another phase is held
        (0.03, None, None, True),
    ],
)
def test_the_longest_phase_is_capped_where_it_would_have_a_higher_rate(
    cap: float | None, factor: float | None, planned: float | None, capped: bool
) -> None:
    settings = replace(SEED, learning_rate_cap=cap, learning_rate_factor=factor)
    assert is_capped(settings, planned) is capped
