from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import InvalidError
from orchestrator.record.search import Trial, TrialRun
from orchestrator.record.storage import archive
from orchestrator.tuning.trials import objective as objectives
from orchestrator.tuning.trials.objective import Scale
from tests import builders
from tests.story import record, story

COST = [{"measure": "cost"}]
SCALE = Scale(plain_seconds=4.0, worst_metric=7.0)


def _objective(*terms: dict[str, Any], **tune: Any) -> Any:
    return objectives.objective(
        builders.config(tune={"objective": list(terms), **tune}, restart={"max_attempts": 6})
    )


def _run(**fields: Any) -> TrialRun:
    return TrialRun(**({"seed": 1, "status": "passed", "cost": 1.5, "seconds": 6.0} | fields))


def _score(run: TrialRun, *terms: dict[str, Any], **tune: Any) -> float | None:
    return objectives.score(run, _objective(*terms, **tune), SCALE)


def test_the_cost_of_a_run_is_what_it_trained() -> None:
    assert _score(_run(), *COST) == 1.5


def test_a_run_without_a_model_that_passes_has_a_penalty_beside_its_cost() -> None:
    failed = _run(status="exhausted", cost=3.0)
    assert _score(failed, *COST) == 3 + 6  # all that one run may train
    assert _score(failed, *COST, penalty=0.5) == 3.5
    assert _score(failed, {"measure": "seconds"}) == 6 + 6 * 4


def test_a_model_that_does_not_pass_has_no_skill_above_a_constant() -> None:
    assert _score(_run(skill=0.8), {"measure": "skill"}) == 0.8
    assert _score(_run(skill=0.8, status="exhausted"), {"measure": "skill"}) == 0
    assert _score(_run(skill=-2.0, status="exhausted"), {"measure": "skill"}) == -2


def test_a_metric_that_is_missing_is_the_worst_of_the_base_configs() -> None:
    term = {"metric": "val_loss", "direction": "min"}
    assert _score(_run(metric=0.3), term) == 0.3
    assert _score(_run(metric=None, status="exhausted"), term) == 7
    assert _score(_run(metric=float("nan")), term) is None


def test_a_metric_of_a_model_that_does_not_pass_is_no_better_than_that() -> None:
    down, up = ({"metric": "m", "direction": each} for each in ("min", "max"))
    assert _score(_run(metric=0.3, status="exhausted"), down) == 7
    assert _score(_run(metric=9.0, status="exhausted"), down) == 9
    assert _score(_run(metric=9.0, status="exhausted"), up) == 7
    assert _score(_run(metric=0.3, status="exhausted"), up) == 0.3


def test_of_several_the_weighted_sum_is_minimised() -> None:
    terms = [{"measure": "cost", "weight": 2.0}, {"measure": "skill", "weight": 10.0}]
    found = _objective(*terms)
    assert (found.name, found.direction) == ("2 × cost - 10 × skill", "min")
    assert _score(_run(skill=0.5), *terms) == 2 * 1.5 - 10 * 0.5
    assert objectives.least(found) == 2 - 10


def test_one_measure_goes_its_own_way() -> None:
    assert _objective({"measure": "skill"}).direction == "max"
    assert _objective({"metric": "val_accuracy", "direction": "max"}).direction == "max"
    assert objectives.least(_objective({"metric": "val_loss", "direction": "min"})) is None
    assert objectives.least(_objective(*COST)) == 1
    assert objectives.least(_objective(*COST, penalty=0.25)) == 0.25
    # With a callback such as EarlyStopping a training may cost less than one.
    assert objectives.least(_objective(*COST), may_stop=True) == 0


def test_two_metrics_are_refused() -> None:
    with pytest.raises(InvalidError, match="one metric at most"):
        _objective({"metric": "a", "direction": "min"}, {"metric": "b", "direction": "min"})


def test_a_run_that_has_no_result_has_no_score() -> None:
    assert _score(_run(status="error", cost=None), *COST) is None
    assert objectives.mean([_run(score=1.0), _run(score=None)]) is None
    assert objectives.mean([_run(score=1.0), _run(score=2.0)]) == 1.5


def test_what_was_trained_is_counted_from_the_runs_own_epochs(tmp_path: Path) -> None:
    record(tmp_path, story())
    (directory,) = tmp_path.iterdir()
    run = archive.read(directory)
    epochs = sum(len(each) for each in archive.epochs(directory).values())
    found = objectives.measured(run, directory, builders.config(), rows=10, metric="loss")
    assert found.epochs_rows == 10 * epochs
    assert found.cost == epochs / 3
    assert found.skill == run.attempts[-1].skill()
    assert found.metric == run.attempts[-1].phases[-1].metrics["loss"]
    assert found.status == "passed"


def test_the_best_trial_is_completed_and_the_earliest_of_equals() -> None:
    trials = [
        Trial(trial=1, status="completed", score=2.0),
        Trial(trial=2, status="cut", score=1.0),
        Trial(trial=3, status="completed", score=1.5),
        Trial(trial=4, status="completed", score=1.5),
    ]
    found = objectives.best(trials, _objective(*COST))
    assert found is not None
    assert found.trial == 3
    assert objectives.best([], _objective(*COST)) is None


def _trial(number: int, *scores: float, status: Any = "completed") -> Trial:
    runs = tuple(_run(seed=seed, score=score) for seed, score in enumerate(scores))
    return Trial(trial=number, status=status, runs=runs, score=objectives.mean(runs))


def test_a_trial_on_a_few_easy_seeds_is_not_the_best() -> None:
    trials = [_trial(1, 1.0, 1.0, 4.0, 4.0), _trial(2, 1.2, 1.2)]
    found = objectives.best(trials, _objective(*COST))
    assert found is not None
    assert found.trial == 1


def test_what_was_tried_on_fewer_seeds_is_compared_on_the_same() -> None:
    cost, skill = _objective(*COST), _objective({"measure": "skill"})
    base, easy = _trial(1, 1.0, 1.0, 4.0, 4.0), _trial(2, 1.25, 1.25)
    assert objectives.estimate(base, [base], cost) == 2.5
    assert objectives.estimate(easy, [base, easy], cost) == 2.75
    better = _trial(3, 1.0, 1.0, 1.0, 1.0)
    assert objectives.estimate(better, [base, easy, better], cost) == 1.0
    # What can no longer win is no better than the best, whatever its seeds were.
    lost = _trial(2, 0.5, 0.5, status="cut")
    assert objectives.estimate(lost, [base, lost], cost) == 2.5
    worse = _trial(2, 2.0, 2.0, status="cut")
    assert objectives.estimate(worse, [base, worse], skill) == 2.5
    failed = Trial(trial=2, status="failed")
    assert objectives.estimate(failed, [base, failed], cost) is None


def test_the_scale_is_that_of_the_base_config() -> None:
    runs = [_run(cost=2.0, seconds=8.0, metric=1.0), _run(cost=1.0, seconds=7.0, metric=3.0)]
    assert Scale.of(runs, _objective({"metric": "val_loss", "direction": "min"})) == Scale(
        plain_seconds=5.0, worst_metric=3.0
    )
    assert Scale.of(
        runs, _objective({"metric": "accuracy", "direction": "max"})
    ).worst_metric == pytest.approx(1.0)
