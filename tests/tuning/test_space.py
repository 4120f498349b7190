from __future__ import annotations

from typing import Any

import pytest

from orchestrator.config.schema import Config
from orchestrator.errors import InvalidError
from orchestrator.record.search import Parameter
from orchestrator.tuning import space
from tests.conftest import MakeConfig

POLICY = [
    {"remedy": "new_seed", "times": 2},
    {"remedy": "lower_learning_rate", "factor": 0.1},
    {"when": ["died"], "rungs": ["leaky_relu"]},
]


@pytest.fixture
def searching(make_config: MakeConfig) -> Any:
    """A config that searches this, with a policy of its own unless it is None."""

    def make(policy: Any = POLICY, /, **paths: Any) -> Config:
        named = {path.replace("__", "."): dimension for path, dimension in paths.items()}
        return make_config(restart={"policy": policy}, tune={"space": named})

    return make


def _problems(config: Config) -> list[str]:
    with pytest.raises(InvalidError, match=".") as caught:
        space.parameters(config)
    return [f"{each.key}: {each.message}; {each.hint}" for each in caught.value.problems]


def test_parameters_have_what_the_config_says_and_its_own_value(searching: Any) -> None:
    config = searching(
        restart__policy__1__factor={"float": [0.05, 0.7], "log": True},
        restart__screen_seeds={"int": [1, 64]},
        batch_size={"choice": [8, 32]},
    )
    factor, width, batch = space.parameters(config)
    assert factor == Parameter(
        path="restart.policy.1.factor", kind="float", low=0.05, high=0.7, log=True, default=0.1
    )
    assert (width.kind, width.low, width.high, width.default) == ("int", 1, 64, 64)
    assert batch.choices == (8, 32)
    assert space.base_values((factor, width, batch)) == {
        "restart.policy.1.factor": 0.1,
        "restart.screen_seeds": 64,
        "batch_size": 32,
    }


def test_values_are_laid_over_the_config_and_nothing_else_changes(searching: Any) -> None:
    config = searching(batch_size={"int": [1, 8]})
    changed = space.lay(config, {"compile.optimizer.Adam.learning_rate": 0.5, "batch_size": 3})
    assert changed.compile.optimizer.arguments == {"learning_rate": 0.5}
    assert changed.batch_size == 3
    back = changed.model_copy(update={"batch_size": 32, "compile": config.compile})
    assert back.model_dump() == config.model_dump()
    assert space.lay(config, {}) is config
    assert config.batch_size == 32


def test_a_remedy_by_its_name_is_every_rung_of_it_in_cases_too(searching: Any) -> None:
    config = searching()
    changed = space.lay(config, {"restart.policy.leaky_relu.negative_slope": 0.5})
    assert changed.restart.policy[2].rungs[0].negative_slope == 0.5
    kept = space.lay(config, {"restart.policy.leaky_relu.negative_slope": None})
    assert kept.restart == config.restart


def test_a_whole_policy_comes_before_what_its_rungs_take(searching: Any) -> None:
    changed = space.lay(
        searching(),
        {
            "restart.policy.new_seed.times": 4,
            "restart.policy": ["leaky_relu", {"when": ["died"], "rungs": ["new_seed"]}],
        },
    )
    leaky, case = changed.restart.policy
    assert leaky.remedy == "leaky_relu"
    assert case.rungs[0].times == 4


def test_a_key_below_another_one_fits_every_value_of_it(searching: Any) -> None:
    rate = {"float": [0.01, 0.1]}
    (problem,) = _problems(
        searching(
            compile__optimizer={"choice": [{"Adam": {"epsilon": 0.1}}, "SGD"]},
            compile__optimizer__Adam__learning_rate=rate,
        )
    )
    assert problem.startswith(
        "tune.space.compile.optimizer.Adam.learning_rate: compile.optimizer is searched too, and "
        "'SGD' there has no such key; search compile.optimizer alone, by choices with all that"
    )
    choices = [{"Adam": {"epsilon": 0.1}}, {"Adam": {"epsilon": 0.2}}]
    config = searching(
        compile__optimizer={"choice": choices}, compile__optimizer__Adam__learning_rate=rate
    )
    assert len(space.parameters(config)) == 2


def test_the_default_space_is_the_policy_with_the_config_as_it_is_in_it(searching: Any) -> None:
    for config in (searching(), searching(None)):
        found = space.parameters(config)
        base = space.base_values(found)
        assert base is not None
        assert space.lay(config, base).restart == config.restart
        assert all(path.startswith("restart.") for path in base)
    orders = next(each for each in found if each.path == "restart.policy").choices
    assert ["leaky_relu", "new_seed"] in orders
    assert ["new_seed"] in orders


@pytest.mark.parametrize(
    ("path", "dimension", "complaint"),
    [
        (
            "restart.policy.1.factr", {"float": [0.1, 0.2]},
            "unknown key 'factr'; did you mean 'restart.policy.1.factor'?",
        ),
        (
            "restart.policy.7.factor", {"float": [0.1, 0.2]},
            "there is no restart.policy.7: expected an index from 0 to 2",
        ),
        ("restart.policy.1.factor", {"float": [0.1, 1.2]}, "more than 0 and less than 1"),
        ("batch_sise", {"int": [1, 2]}, "unknown key 'batch_sise'; did you mean 'batch_size'?"),
        ("batch_size", {"int": [8, 2]}, "expected a smaller and a greater value, received [8, 2]"),
        ("batch_size", {"choice": [8.5]}, "expected a whole number, received 8.5"),
        ("batch_size", {"choice": [8, "x"]}, "expected a whole number, received 'x'"),
        ("batch_size", {"int": [0, 2], "log": True}, "expected values above 0 for log"),
        ("batch_size", {"int": [1, 9], "log": True, "step": 1}, "expected more than 1, received 1"),
        ("batch_size", {"int": [1, 3], "step": 5}, "the step 5 is wider than the range"),
        ("seed", {"int": [1, 3]}, "seed may not be searched: every trial has the same base seeds"),
        ("checks.dead_neurons.fail_above", {"float": [0.1, 1]}, "by the config's own checks"),
        ("phases.0.epochs", {"int": [1, 9]}, "phases may not be searched"),
        ("compile.loss", {"choice": ["mse", "mae"]}, "compile.loss may not be searched"),
        (
            "compile",
            {"choice": [{"loss": "mse"}]},
            "compile may not be searched as a whole, for compile.loss is in it",
        ),
        (
            "restart",
            {"choice": [{"max_seconds": 1}]},
            "restart may not be searched as a whole, for restart.max_seconds is in it",
        ),
        ("restart.policy.leaky.x", {"float": [0, 1]}, "a remedy, received 'leaky'; did you mean"),
        ("restart.policy.leaky_relu.timess", {"int": [1, 2]}, "did you mean 'times'?"),
        ("restart.policy.clip_gradients.norm", {"float": [1, 2]}, "no rung of the policy is clip"),
        ("a..b", {"float": [0, 1]}, "expected a dotted path of keys"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_said_at_its_path(
    searching: Any, path: str, dimension: Any, complaint: str
) -> None:
    (problem,) = _problems(searching(**{path: dimension}))
    assert problem.startswith(f"tune.space.{path}: ")
    assert complaint in problem


def test_every_problem_has_its_line(config_file: Any) -> None:
    from orchestrator.config import load as configs

    path = config_file()
    text = path.read_text() + (
        "tune:\n  space:\n    batch_size: {int: [0, 2]}\n    batch_sise: {int: [1, 2]}\n"
    )
    path.write_text(text)
    with pytest.raises(InvalidError, match=".") as caught:
        space.parameters(configs.load(path))
    lines = text.splitlines()
    assert [lines[(each.line or 0) - 1].strip()[:10] for each in caught.value.problems] == [
        "batch_size",
        "batch_sise",
    ]


def test_validate_looks_at_the_space_too(
    config_file: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from orchestrator.cli.app import execute as orchestrate

    path = config_file(tune={"space": {"batch_sise": {"int": [1, 2]}}})
    assert orchestrate(["validate", str(path)]) == 2
    assert "unknown key 'batch_sise'; did you mean 'batch_size'?" in capsys.readouterr().err


def test_a_rung_of_the_default_policy_is_meant_by_its_remedy(searching: Any) -> None:
    (problem,) = _problems(searching(None, restart__policy__1__factor={"float": [0.1, 0.5]}))
    assert "the config has no policy of its own, and the default one is a list of cases" in problem
    assert "restart.policy.lower_learning_rate.factor" in problem
    (factor,) = space.parameters(
        searching(None, restart__policy__lower_learning_rate__factor={"float": [0.1, 0.5]})
    )
    assert factor.default == "auto"
    assert space.base_values((factor,)) is None  # no number of the range


def test_a_value_outside_of_the_space_makes_the_base_no_point_of_it() -> None:
    step = Parameter(path="a", kind="int", low=1, high=9, step=4, default=5)
    assert space.base_values((step,)) == {"a": 5}
    assert space.base_values((Parameter(path="a", kind="int", low=1, high=9, step=4),)) is None
    log = Parameter(path="a", kind="float", low=0.01, high=10, step=10, log=True, default=0.1)
    assert space.base_values((log,)) == {"a": 0.1}
    assert space.same(1, 1)
    assert not space.same(1, True)


def test_no_path_is_proposed_that_would_be_refused(searching: Any) -> None:
    slope = {"restart.polcy.leaky_relu.negative_slope": {"float": [0.1, 0.5]}}
    (problem,) = _problems(searching(None, **slope))
    assert "did you mean 'restart.policy.leaky_relu.negative_slope'?" in problem
    (problem,) = _problems(searching(None, **{"restart.polcy.0.factor": {"float": [0.1, 0.5]}}))
    assert "rungs" not in problem
