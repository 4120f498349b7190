"""Where a rewind goes: a function of the record."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from orchestrator.config.sections.rates import LowerLearningRate
from orchestrator.config.sections.remedies import LeakyRelu, Revive, TrainLonger
from orchestrator.config.sections.restart import Restart
from orchestrator.policy import rewind, rule
from orchestrator.record.records import (
    INIT,
    Attempt,
    Finding,
    Fix,
    Phase,
    Settings,
    Start,
    UnitsLost,
)
from tests import builders


def _phase(name: str, epochs: int, **told: object) -> Phase:
    known = {"seconds": 1.0, "metrics": {}, "checks": ()}
    return Phase(phase=name, epochs=epochs, **{**known, **told})  # type: ignore[arg-type]


def _failed(
    name: str = "dead_neurons",
    *,
    number: int = 1,
    loss: float = 5.0,
    lowest: tuple[float, int] | None = (0.1, 9),
    first: float = 1.0,
) -> Attempt:
    """An attempt that was healthy for ten epochs and fails in the next ones."""
    best, epoch = (None, None) if lowest is None else lowest
    return replace(
        builders.failed(number, name, rates={"warmup": 0.01, "main": 5.0}),
        phases=(
            _phase(INIT, 0),
            _phase("warmup", 10, first_loss=first, lowest_loss=best, lowest_epoch=epoch),
            _phase("main", 3, metrics={"loss": loss}, lowest_loss=best, lowest_epoch=epoch),
        ),
    )


def test_it_goes_to_the_newest_epoch_with_the_lowest_loss() -> None:
    assert rewind.start([_failed()]) == Start(attempt=1, epoch=9)


def _died(epoch: int, *, loss_before: float, lost: int = 30) -> Attempt:
    """The same, with the epoch in which most units of a layer got their last gradient."""
    failed = _failed()
    when = UnitsLost(
        layer="dense", units=32, lost=lost, alive=32, epoch=epoch, learning_rate=5.0,
        loss_before=loss_before,
    )  # fmt: skip
    last = replace(failed.phases[-1], lost=when, checks=(builders.check("fail"),))
    return replace(failed, phases=(*failed.phases[:-1], last))


def test_it_goes_to_the_epoch_before_the_units_died_where_the_loss_had_not_risen() -> None:
    assert rewind.start([_died(12, loss_before=0.105)]) == Start(attempt=1, epoch=11)
    assert rewind.start([_died(12, loss_before=0.3)]) == Start(attempt=1, epoch=9)
    assert rewind.start([_died(12, loss_before=float("nan"))]) == Start(attempt=1, epoch=9)
    assert rewind.start([_died(5, loss_before=0.105)]) == Start(attempt=1, epoch=9)
    assert rewind.start([_died(12, loss_before=0.105, lost=10)]) == Start(attempt=1, epoch=9)


@pytest.mark.parametrize(("constants", "healthy"), [([0.05, 0.25], True), ([0.05, 0.15], False)])
def test_what_had_learnt_nothing_is_nothing_to_go_back_to(
    constants: list[float], healthy: bool
) -> None:
    failed = _failed()
    outputs = [{"output": at, "constant_loss": each} for at, each in enumerate(constants)]
    check = builders.made("prediction_variance", verdict="fail", measured={"outputs": outputs})
    last = replace(failed.phases[-1], checks=(check,))
    found = rewind.start([replace(failed, phases=(*failed.phases[:-1], last))])
    assert found == (Start(attempt=1, epoch=9) if healthy else None)
    apart = [{**each, "name": f"head_{each['output']}"} for each in outputs]  # the sum is the loss
    check = builders.made("prediction_variance", verdict="fail", measured={"outputs": apart})
    last = replace(failed.phases[-1], checks=(check,))
    assert rewind.start([replace(failed, phases=(*failed.phases[:-1], last))]) is not None


@pytest.mark.parametrize("name", ["metric", "crashed", "findings"])
def test_a_failure_that_is_no_collapse_begins_anew(name: str) -> None:
    assert rewind.start([_failed(name)]) is None


def test_a_network_that_was_not_better_before_begins_anew() -> None:
    assert rewind.start([_failed(loss=0.105)]) is None  # it has not collapsed since
    assert rewind.start([_failed(lowest=(1.0, 9))]) is None  # it never learnt anything
    assert rewind.start([_failed(lowest=None)]) is None
    assert rewind.start([builders.failed(1)]) is None  # it had no phase


def test_a_loss_says_nothing_where_weights_are_not_finite() -> None:
    assert rewind.start([_failed("finite", loss=0.05)]) == Start(attempt=1, epoch=9)
    assert rewind.start([_failed(loss=float("nan"))]) == Start(attempt=1, epoch=9)


def test_what_cannot_be_gone_on_from_begins_anew() -> None:
    opaque = replace(_failed(), obstacles={"rewind": "no snapshot can be kept"})
    assert rewind.start([opaque]) is None


def test_a_rewind_that_fails_by_the_same_check_begins_anew() -> None:
    first = _failed()
    second = replace(_failed(number=2), start=Start(attempt=1, epoch=9), cause=first.failure)
    assert rewind.start([first, second]) is None
    other = replace(_failed("finite", number=2), start=second.start, cause=first.failure)
    assert rewind.start([first, other]) == Start(attempt=1, epoch=9)


def test_the_attempt_is_named_that_has_trained_the_epoch() -> None:
    first = _failed()
    second = replace(
        _failed("finite", number=2, lowest=(0.05, 12)),
        start=Start(attempt=1, epoch=9),
        cause=first.failure,
    )
    third = replace(
        _failed(number=3, lowest=(0.05, 9)),
        start=Start(attempt=2, epoch=12),
        cause=second.failure,
    )
    assert rewind.start([first, second]) == Start(attempt=2, epoch=12)
    assert rewind.start([first, second, third]) == Start(attempt=1, epoch=9)


def test_a_rung_goes_back_where_it_says_so_and_the_config_allows_it() -> None:
    lower = LowerLearningRate(rewind=True)
    for rung, allowed, start in (
        (lower, True, Start(attempt=1, epoch=9)),
        (lower, False, None),
        (LowerLearningRate(), True, None),
    ):
        config = builders.config(restart=Restart(policy=[rung], rewind=allowed))
        taken = rule.step(config, [_failed()]).taken
        assert taken is not None
        assert taken.start == start


def test_it_keeps_the_settings_that_led_there() -> None:
    first, settings = _failed(), Settings(seed=8, negative_slope=0.2)
    second = replace(_failed(number=2), settings=settings, rung="restart.policy.0")
    policy = [LeakyRelu(), LowerLearningRate(rewind=True)]
    config = builders.config(restart=Restart(policy=policy))
    taken = rule.step(config, [first, second]).taken
    assert taken is not None
    assert taken.start == Start(attempt=2, epoch=9)
    assert taken.settings.negative_slope == 0.2  # although it did not help


def test_phases_that_a_cap_held_back_are_named() -> None:
    config = builders.config()
    (name,) = (plan.name for plan in config.phases[-1:])
    free = replace(_failed(), learning_rates={name: 5.0})
    settings = Settings(seed=8, learning_rate_cap=0.01)
    capped = replace(_failed(number=2), settings=settings, learning_rates={name: 0.01})
    (found,) = rule.capped(config, [free, capped], capped)
    assert (found.phase, found.cap, found.rate) == (name, 0.01, 5.0)
    assert not [*rule.capped(config, [free, capped], free)]
    # A rate that a remedy has raised is not the config's.
    raised = replace(free, settings=Settings(seed=9, learning_rate_factor=10.0))
    assert not [*rule.capped(config, [raised, capped], capped)]
    # Nor is one known of a phase that no free attempt came to, but for the optimizer's own.
    early = replace(free, learning_rates={})
    assert not [*rule.capped(config, [early, capped], capped)]
    early = replace(early, planned_rate=1.0)
    assert [each.rate for each in rule.capped(config, [early, capped], capped)] == [1.0]
    own = config.phases[-1].model_copy(update={"learning_rate": 0.005, "epochs": 1000})
    planned = config.model_copy(update={"phases": [config.phases[-1], own]})
    assert not [*rule.capped(planned, [early, capped], capped)]
    # A rate below the cap ran as configured, in single precision.
    plan = config.phases[-1].model_copy(update={"learning_rate": 0.005})
    config = config.model_copy(update={"phases": [plan]})
    low = replace(capped, learning_rates={name: float(np.float32(0.005))})
    assert not [*rule.capped(config, [free, low], low)]
    # A cap that falls comes below such a rate, where the phase has epochs enough.
    assert found.end is None
    falling = replace(low, settings=replace(settings, anneal=0.1))
    for epochs, ends in ((8, [0.001]), (1, [])):
        plan = plan.model_copy(update={"epochs": epochs})
        config = config.model_copy(update={"phases": [plan]})
        told = [*rule.capped(config, [free, falling], falling)]
        assert [each.end for each in told] == pytest.approx(ends)


def _short(number: int = 1, *, more: int | None = None, **told: Any) -> Attempt:
    """An attempt that went through its last phase, of ten epochs, and has learnt too little."""
    phases = (_phase(INIT, 0), _phase("warmup", 5), _phase("main", 10 + (more or 0)))
    settings = Settings(seed=7, more_epochs=more)
    return replace(builders.failed(number, "learned"), phases=phases, settings=settings, **told)


PLANS = [{"name": "warmup", "epochs": 5}, {"name": "main", "epochs": 10}]


def _longer(*attempts: Attempt, rewind: bool = True, **told: Any) -> rule.Step:
    policy = [TrainLonger(when=None, times=3, **told)]
    restart = Restart(policy=policy, rewind=rewind)
    return rule.step(builders.config(phases=PLANS, restart=restart), attempts)


def test_training_longer_goes_on_from_the_end_with_the_same_seed() -> None:
    taken = _longer(_short()).taken
    assert taken is not None
    assert taken.start == Start(attempt=1, epoch=15)
    assert taken.settings == Settings(seed=7, more_epochs=10)
    again = _short(2, more=10, start=taken.start, rung="restart.policy.0", cause=_short().failure)
    taken = _longer(_short(), again, more_epochs=4).taken
    assert taken is not None
    assert (taken.start, taken.settings.more_epochs) == (Start(attempt=2, epoch=25), 14)


@pytest.mark.parametrize("rewind", [True, False])
def test_where_no_state_can_be_gone_on_from_the_longer_training_begins_anew(rewind: bool) -> None:
    streamed = {"rewind": "the rows are read as they come"} if rewind else {}
    taken = _longer(_short(obstacles=streamed), rewind=rewind, factor=1.5).taken
    assert taken is not None
    assert (taken.start, taken.settings.more_epochs) == (None, 5)
    more = {"obstacles": streamed, "rung": "restart.policy.0", "cause": _short().failure}
    again = _short(2, more=5, **more)
    taken = _longer(_short(obstacles=streamed), again, rewind=rewind, factor=1.5).taken
    assert taken is not None and taken.settings.more_epochs == 5 + 8  # half of 15, rounded


def test_what_did_not_come_to_its_end_is_not_trained_longer() -> None:
    before = replace(_short(), phases=_short().phases[:2])
    assert "failed before phase main, the last one" in _longer(before).reason
    early = replace(_short(), phases=(*_short().phases[:2], _phase("main", 7)))
    assert "phase main ended early, after 7 of 10 epochs" in _longer(early).reason
    lost = replace(_failed("finite"), phases=_short().phases)
    assert "more epochs do not answer a failure of finite" in _longer(lost).reason


def _with_dead(dead: int) -> Attempt:
    """One that went through its last phase with so many of eight units dead."""
    layer = {"layer": "dense", "units": 8, "dead": dead}
    check = builders.made("dead_neurons", verdict="warn", measured={"layers": [layer]})
    *before, last = _short().phases
    return replace(_short(), phases=(*before, replace(last, checks=(check,))))


def _revived(attempt: Attempt, *, rewind: bool = True) -> rule.Step:
    restart = Restart(policy=[Revive(when=None)], rewind=rewind)
    return rule.step(builders.config(phases=PLANS, restart=restart), [attempt])


def test_reviving_goes_on_from_the_end_with_another_order_of_the_rows() -> None:
    taken = _revived(_with_dead(2)).taken
    assert taken is not None
    assert taken.start == Start(attempt=1, epoch=15, revive=True)
    assert taken.settings.more_epochs == 10
    assert taken.settings.seed != 7


def test_few_dead_units_and_states_that_cannot_be_gone_on_from_are_not_revived() -> None:
    assert "1 of 8 units are dead, too few to be the cause" in _revived(_with_dead(1)).reason
    assert "0 of 0 units are dead" in _revived(_short()).reason
    assert "restart.rewind is false" in _revived(_with_dead(8), rewind=False).reason
    streamed = replace(_with_dead(8), obstacles={"rewind": "the rows are read as they come"})
    assert "the rows are read as they come" in _revived(streamed).reason
    lost = replace(_failed("dead_neurons"), phases=_with_dead(8).phases)
    assert "more epochs do not answer a failure of dead_neurons" in _revived(lost).reason


def test_no_epoch_at_a_rate_far_above_the_usual_one_is_gone_on_from() -> None:
    fix = Fix(learning_rate_factor=0.001)
    found = Finding(cause="unusual_rate", reason="the rate is 5", fix=fix)
    failed = replace(_failed(lowest=(0.1, 12)), findings=(found,))
    assert rewind.start([failed]) == Start(attempt=1, epoch=10)
    init, _, main = failed.phases
    assert rewind.start([replace(failed, phases=(init, replace(main, first_loss=1.0)))]) is None
    low = replace(failed, findings=(replace(found, fix=None),))
    assert rewind.start([low]) == Start(attempt=1, epoch=12)


def test_a_line_that_only_rewinds_is_left_out_where_there_is_nothing_to_go_back_to() -> None:
    rungs = [LowerLearningRate(rewind="only"), LeakyRelu()]
    config = builders.config(restart=Restart(policy=rungs))
    taken = rule.step(config, [_failed()]).taken
    assert taken is not None and taken.start == Start(attempt=1, epoch=9)
    step = rule.step(config, [_failed(lowest=None)])
    assert step.taken is not None and step.taken.rung.remedy == "leaky_relu"
    assert step.passed_over == ()
