"""What races for the next attempt, and which of them goes on: functions of the record."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from orchestrator.config.schema import Config
from orchestrator.policy import race, rule
from orchestrator.record.records import INIT, Attempt, Failure, Finding, Racer, Settings
from tests import builders

POLICY: list[Any] = [
    {"remedy": "new_seed", "times": 2},
    {"remedy": "lower_learning_rate"},
    "leaky_relu",
]


def _config(epochs: int = 40, policy: list[Any] | None = None, **restart: Any) -> Config:
    return builders.config(
        phases=[{"name": "main", "epochs": epochs}],
        restart={"policy": POLICY if policy is None else policy, **restart},
    )


def _failed(name: str = "learned", *, number: int = 1, epochs: int = 40, **told: Any) -> Attempt:
    failed = builders.failed(number, name, **told)
    return replace(failed, phases=(replace(builders.phase("main"), epochs=epochs),))


def _racer(**told: Any) -> Racer:
    return Racer(remedy="new_seed", rung="restart.policy.0", settings=Settings(seed=1), **told)


def test_each_rung_races_with_the_first_seed_then_with_the_next() -> None:
    config, attempts = _config(), [_failed()]
    found = race.entrants(config, attempts)
    first, second, *_ = [lane[0] for lane in rule.lanes(config, attempts)]
    assert [(each.remedy, each.settings.seed) for each in found[:4]] == [
        ("new_seed", first),
        ("leaky_relu", first),
        ("new_seed", second),
        ("leaky_relu", second),
    ]
    assert len(found) == 2 * rule.LANES  # a lower rate, which is behind at first, is not among them
    assert found[1].rung == "restart.policy.2"
    assert found[1].settings.negative_slope == 0.2


def test_a_rung_that_keeps_its_seed_races_once() -> None:
    policy: list[Any] = [{"remedy": "leaky_relu", "keep_seed": True}, "new_seed"]
    found = race.entrants(_config(policy=policy), [_failed()])
    assert [each.remedy for each in found] == ["leaky_relu", *["new_seed"] * rule.LANES]
    assert found[0].settings.seed == 7


@pytest.mark.parametrize(
    ("config", "failed"),
    [
        (_config(race=False), _failed()),
        (_config(7), _failed(epochs=7)),  # two epochs are more than a quarter
        (_config(), _failed(epochs=10)),  # it has cost little
        (_config(), _failed(at=INIT)),
        (_config(), _failed("metric")),
        (_config(), _failed("crashed")),
        (_config(policy=["leaky_relu"]), replace(_failed(), obstacles={"leaky_relu": "no relu"})),
        (_config(), replace(_failed(), obstacles={"rewind": "rows are read as they come"})),
        (_config(policy=["lower_learning_rate", "new_seed"]), _failed()),
        (_config(policy=["lower_learning_rate"]), _failed()),
    ],
)
def test_no_race_is_held(config: Config, failed: Attempt) -> None:
    assert race.entrants(config, [failed]) == ()


def test_a_collapse_after_healthy_epochs_is_left_to_rungs_that_rewind() -> None:
    failed = _failed("dead_neurons")
    (phase,) = failed.phases
    lost = replace(phase, first_loss=1.0, lowest_loss=0.1, lowest_epoch=20, metrics={"loss": 0.9})
    collapsed = replace(failed, phases=(lost,))
    policy: list[Any] = [{"remedy": "new_seed", "rewind": True}, "leaky_relu"]
    assert race.entrants(_config(policy=policy), [failed])
    assert race.entrants(_config(policy=policy), [collapsed]) == ()
    # Where the user has another answer first, that is taken.
    assert race.entrants(_config(), [collapsed])


DEEP = {"layers": [{"layer": "a", "activation": "relu", "units": 2, "dead": 0}] * 9}


def _deep(*findings: Finding, epochs: int = 40) -> Attempt:
    """A network of nine layers of two that has learnt little."""
    init = builders.phase(INIT, builders.made("dead_neurons", measured=DEEP))
    failed = _failed(epochs=epochs)
    return replace(failed, phases=(init, *failed.phases), findings=findings)


def test_usual_settings_are_taken_without_a_race() -> None:
    config = builders.config(phases=[{"name": "main", "epochs": 40}])
    failed = replace(_deep(), sound_rate=0.01, planned_rate=0.001)
    assert race.entrants(config, [failed]) == ()
    policy = [{"remedy": "usual_settings"}, {"remedy": "new_seed"}, {"remedy": "leaky_relu"}]
    assert race.entrants(_config(policy=policy), [_failed()]) == ()
    after = [{"remedy": "new_seed"}, {"remedy": "usual_settings"}, {"remedy": "leaky_relu"}]
    found = race.entrants(_config(policy=after), [_failed()])
    assert {each.remedy for each in found} == {"new_seed", "leaky_relu"}


def test_what_all_failures_have_cost_counts() -> None:
    cheap = _failed(epochs=6)
    assert race.entrants(_config(), [cheap]) == ()
    again = replace(_failed(number=2, epochs=6), remedy="new_seed", rung="restart.policy.0")
    assert race.entrants(_config(), [cheap, again])


def test_no_seed_is_in_two_lanes_or_was_used_before() -> None:
    config = _config(screen_seeds=5)
    loser = _racer(seed=derived(3), reason="was no better")
    attempts = [replace(_failed(), raced=(loser,))]
    lanes = rule.lanes(config, attempts)
    seeds = [seed for lane in lanes for seed in lane]
    assert [len(lane) for lane in lanes] == [5] * rule.LANES
    assert len({*seeds}) == len(seeds)
    assert not {7, derived(3)} & {*seeds}


def derived(count: int) -> int:
    return rule.derive_seed(7, count)


def test_an_attempt_that_raced_chooses_from_its_own_lane() -> None:
    config, before = _config(screen_seeds=3), [_failed()]
    lane = rule.lanes(config, before)[2]
    attempt = replace(_failed(number=2), settings=Settings(seed=lane[0]), raced=(_racer(),))
    assert rule.candidates(config, [*before, attempt]) == lane
    plain = replace(attempt, settings=Settings(seed=derived(1)), raced=())
    assert rule.candidates(config, [*before, plain]) == (derived(1), derived(2), derived(3))


def test_all_of_a_race_costs_at_most_a_quarter() -> None:
    config = _config(40)  # of which each trains two
    assert race.epochs(config) == 2
    assert race.has_room(config, [_racer(epochs=2)] * 4)
    assert not race.has_room(config, [_racer(epochs=2)] * 5)
    assert race.has_room(config, [_racer(epochs=2)] * 4 + [_racer(epochs=0)] * 9)
    assert race.epochs(_config(8)) == 1


DEAD = Failure(check="dead_neurons", phase=None, reason="layer dense is entirely dead")


@pytest.mark.parametrize(
    ("racers", "best"),
    [
        ([_racer(loss=0.2), _racer(loss=0.1)], 1),
        ([_racer(loss=0.1), _racer(loss=0.1)], 0),
        ([_racer(share=0.4, loss=0.1), _racer(share=0.5, loss=0.2)], 1),
        ([_racer(share=-0.4, loss=0.2), _racer(share=-0.5, loss=0.1)], 1),
        ([_racer(loss=0.1, failure=DEAD), _racer(loss=0.2)], 1),
        ([_racer(loss=float("nan")), _racer(loss=9.0)], 1),
        ([_racer(failure=DEAD), _racer(failure=DEAD)], 0),
    ],
)
def test_the_best_is_that_by_checks_by_what_was_learnt_and_by_the_loss(
    racers: list[Racer], best: int
) -> None:
    assert race.best(racers) == best
    judged = race.judged(racers)
    assert [each.reason is None for each in judged] == [place == best for place in range(2)]


def test_the_others_are_told_why_they_do_not_go_on() -> None:
    racers = [
        _racer(share=0.41, loss=0.1),
        _racer(share=0.3, loss=0.2),
        _racer(share=0.41, loss=0.3),
        _racer(loss=0.1),
        _racer(failure=DEAD),
    ]
    assert [each.reason for each in race.judged(racers)] == [
        None,
        "had learnt 0.3 of the reference, not 0.41",
        "had a loss of 0.3, not 0.1",
        "was no better",
        DEAD.reason,
    ]


def test_what_lost_a_race_counts_as_trained() -> None:
    raced = (_racer(epochs=2), _racer(epochs=3, reason="was no better"))
    assert replace(_failed(epochs=40), raced=raced).trained == 43


def test_steps_that_are_too_large_are_no_matter_of_the_network() -> None:
    failed = _failed()
    (phase,) = failed.phases
    shot = replace(failed, phases=(replace(phase, first_loss=1.0, highest_loss=1000.0),))
    assert race.entrants(_config(), [failed])
    assert race.entrants(_config(), [shot]) == ()
