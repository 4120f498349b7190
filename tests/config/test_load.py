"""The config's schema: defaults, what is refused, in which words, at which line."""
# ruff: noqa: E501 - messages are quoted whole

import copy
import math
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.config import document, schema, yaml12
from orchestrator.config import load as config
from orchestrator.config.sections import remedies
from orchestrator.config.sections.checks import Finite, Gate, PredictionVariance
from orchestrator.errors import InvalidError

BASE = """\
data:
  train: {callable: "rows:make"}
model:
  layers:
    - Dense: {units: 1}
compile: {loss: mse}
phases:
  - {name: main, epochs: 1}
"""


@pytest.fixture
def load(tmp_path):
    def run(text=BASE, *assignments, name="airfoil.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return config.load(path, assignments)

    return run


@pytest.fixture
def complain(load, tmp_path):
    """What is wrong with a config, one text per problem, the file called `f`."""

    def run(text, *assignments):
        with pytest.raises(InvalidError, match=".") as caught:
            load(text, *assignments)
        return [
            str(problem).replace(f"{tmp_path}/airfoil.yaml", "f").replace(str(tmp_path), "DIR")
            for problem in caught.value.problems
        ]

    return run


def test_only_data_model_and_phases_are_required(load):
    found = load(BASE.replace("compile: {loss: mse}\n", "").replace("layers:", "factory:").replace(
        "    - Dense: {units: 1}", '    {callable: "m:build"}'))  # fmt: skip
    assert found.compile is None
    assert found.model.factory.callable == "m:build"


def test_the_defaults_are_those_of_the_contract(load, tmp_path):
    found = load().model_dump()
    policy = found["restart"].pop("policy")
    assert [entry["remedy"] for entry in policy[:2]] == ["fix_output", "standardize"]
    assert policy[2] == {"when": {"certain": True}, "rungs": []}
    assert found == {
        "version": 1,
        "name": "airfoil",
        "base": str(tmp_path),
        "seed": 0,
        "data": {
            "train": {"callable": "rows:make", "kwargs": {}, "steps_per_epoch": None},
            "validation": None,
            "standardize": "auto",
        },
        "model": {"layers": [{"Dense": {"units": 1}}]},
        "compile": {
            "optimizer": "adam",
            "loss": "mse",
            "loss_weights": None,
            "metrics": [],
            "weighted_metrics": [],
            "jit_compile": "auto",
            "run_eagerly": False,
            "steps_per_execution": 1,
            "auto_scale_loss": True,
        },
        "batch_size": 32,
        "phases": [{"name": "main", "epochs": 1, "learning_rate": None}],
        "checks": {
            "finite": {},
            "findings": {"ignore": []},
            "dead_neurons": {"warn_above": 0.5, "fail_above": 0.9, "rows": "all"},
            "prediction_variance": {
                "min_ratio": 1e-4,
                "min_information": 1e-4,
                "min_skill": -0.1,
                "kind": None,
            },
            "learned": {"fail_below": 0.5, "warn_below": 0.8},
            "metric": [],
        },
        "restart": {
            "max_attempts": 8,
            "max_seconds": None,
            "screen_seeds": 64,
            "rewind": True,
            "race": True,
        },
        "deterministic": "auto",
        "tensorboard": False,
        "keep": "accepted",
        "stall_timeout": 600.0,
        "checkpoint_seconds": 30.0,
        "fit": {"class_weight": None, "callbacks": []},
        "tune": {
            "tuner": "random",
            "objective": [{"measure": "cost", "weight": 1.0}],
            "max_trials": 20,
            "seeds": 5,
            "fresh_seeds": 10,
            "penalty": None,
            "cut": True,
            "space": {},
        },
    }


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("model.yaml", "model"),
        ("my model (2).yaml", "my-model-2-"),
        (".hidden.yaml", "hidden"),
        ("模型.yaml", "run"),
        ("x" * 150 + ".yaml", "x" * 100),
    ],
)
def test_the_name_comes_from_the_file_unless_it_is_given(load, file, name):
    assert load(name=file).name == name
    assert load(BASE, "name=other", name=file).name == "other"


def test_paths_start_from_the_configs_folder_or_from_base(load, tmp_path):
    (tmp_path / "sub").mkdir()
    assert load().path("a.csv") == tmp_path / "a.csv"
    assert load(BASE, "base=sub").path("a.csv") == tmp_path / "sub" / "a.csv"
    assert load().path("/x/a.csv") == Path("/x/a.csv")
    assert load().path("~/a.csv") == Path.home() / "a.csv"
    assert load().path("~nobody-by-this-name/a.csv") == tmp_path / "~nobody-by-this-name/a.csv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [("on", True), ("yes", True), ("true", True), ("off", False), ("no", False), ("No", False)],
)
def test_on_off_yes_no_are_booleans_where_one_is_expected(load, text, expected):
    switches = (f"compile.{name}={text}" for name in ("run_eagerly", "auto_scale_loss"))
    found = load(BASE, f"data.standardize={text}", f"deterministic={text}", "name=on", *switches)
    assert found.data.standardize is expected
    assert found.deterministic is expected
    assert (found.compile.run_eagerly, found.compile.auto_scale_loss) == (expected, expected)
    assert found.name == "on"


def test_a_check_is_merged_into_its_defaults(load):
    checks = load(BASE, "checks={dead_neurons: {fail_above: 0.95}, finite: }").checks
    assert checks.dead_neurons.fail_above == 0.95
    assert checks.dead_neurons.warn_above == 0.5
    assert checks.finite == Finite()
    assert checks.prediction_variance == PredictionVariance()


@pytest.mark.parametrize("off", ["off", "false", "no"])
def test_off_switches_checks_off_one_by_one(load, off):
    checks = load(BASE, f"checks.dead_neurons={off}", f"checks.metric={off}").checks
    assert checks.dead_neurons is None
    assert checks.metric == []
    assert checks.finite is not None


def test_a_single_metric_gate_is_a_list_of_one(load):
    gates = load(BASE, "checks.metric={name: val_loss, max: 20}").checks.metric
    assert gates == [Gate(name="val_loss", max=20.0)]


def test_empty_sections_mean_their_defaults(load):
    assert load(BASE + "checks:\nrestart:\nfit:\n").model_dump() == load().model_dump()


def test_keras_objects_are_names_with_or_without_arguments(load):
    found = load(BASE, "compile.metrics=[mae, {AUC: {curve: PR}}, Precision: ]").compile.metrics
    assert [(one.name, one.arguments) for one in found] == [
        ("mae", {}),
        ("AUC", {"curve": "PR"}),
        ("Precision", {}),
    ]


def test_rungs_have_their_defaults_and_a_short_form(load):
    policy = "[new_seed, {remedy: lower_learning_rate, times: 2}, {remedy: leaky_relu, keep: yes}]"
    seed, rate, leaky = load(BASE, f"restart.policy={policy}").restart.policy
    assert seed == remedies.NewSeed()
    assert (rate.factor, rate.times, rate.when) == (0.1, 2, None)
    assert (leaky.negative_slope, leaky.keep) == (0.2, True)


def test_the_default_policy_written_out_is_the_same_policy(load, tmp_path):
    default = load().restart
    assert default == load(BASE, "restart.policy=").restart  # what older runs have recorded
    written = document.parse(load().dump(), name="f").value["restart"]["policy"]
    assert len(written) == len(default.policy)
    assert load(BASE, f"restart.policy={yaml12.dump(written)}").restart == default
    assert (
        "  - when: [non_finite]\n    rungs:\n    - {remedy: lower_learning_rate, times: 1, when: null"
        in load().dump()
    )


def test_a_rung_may_answer_what_all_of_several_keys_say(load):
    when = "{kind: [constant, died], cause: [distant_targets], certain: yes, count: 2}"
    (case,) = load(BASE, f"restart.policy=[{{when: {when}, rungs: [new_seed]}}]").restart.policy
    assert case.rungs == [remedies.NewSeed()]
    assert case.model_dump()["when"] == {
        "kind": ["constant", "died"],
        "cause": ["distant_targets"],
        "certain": True,
        "count": 2,
    }


def test_class_weights_may_be_set_one_by_one(load):
    found = load(BASE, "fit.class_weight.0=1", "fit.class_weight.1=2.5").fit.class_weight
    assert found == {0: 1.0, 1: 2.5}


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("seed=99999999999999999999", "seed: expected less than 4294967296, received 99999999999999999999"),
        ("seed=-1", "seed: expected at least 0, received -1"),
        ("seed=true", "seed: expected a whole number, received true"),
        ("seed=1.0", "seed: expected a whole number, received 1.0"),
        ("seed=.nan", "seed: expected a whole number, received nan"),
        ("seed=1_000", "seed: expected a whole number, received '1_000'"),
        ("seed=", "seed: expected a whole number, received nothing"),
        ("seed.x=1", "seed: expected a whole number, received the keys x"),
        ("version=2", "version: expected 1, the only version there is, received 2"),
        ("version=true", "version: expected 1, the only version there is, received true"),
        ("batch_size=0", "batch_size: expected at least 1, received 0"),
        ("batch_size=true", "batch_size: expected a whole number, received true"),
        ("phases=[]", "phases: expected at least 1 item, received []"),
        ("phases.0.epochs=-1", "phases.0.epochs: expected at least 1, received -1"),
        ("phases.0.epochs=true", "phases.0.epochs: expected a whole number, received true"),
        ("phases.0.learning_rate=.nan", "phases.0.learning_rate: expected a finite number, received nan"),
        ("phases.0.learning_rate=1e400", "phases.0.learning_rate: expected a finite number, received inf"),
        ("phases.0.learning_rate=0", "phases.0.learning_rate: expected more than 0.0, received 0"),
        ("phases.0.learning_rate=true", "phases.0.learning_rate: expected a number, received true"),
        ("phases.0.name=a/b", "phases.0.name: expected at most 100 letters, digits, '_', '-' and '.', received 'a/b'"),
        ("phases.0.name=3", "phases.0.name: expected a text, received 3; put it in quotes to make it a text"),
        ("phases.0.name=init", "phases.0.name: 'init' is the phase before training; choose another name"),
        ("phases.0=3", "phases.0: expected a mapping of keys, received 3"),
        ("stall_timeout=0", "stall_timeout: expected more than 0.0, received 0"),
        ("tensorboard=1", "tensorboard: expected true or false, received 1"),
        ("deterministic=maybe", "deterministic: expected auto, true or false, received 'maybe'"),
        ("deterministic=1", "deterministic: expected auto, true or false, received 1"),
        ("keep=al", "keep: expected 'accepted' or 'all', received 'al'; did you mean 'all'?"),
        ("base=/none", "base: there is no folder /none; correct the path"),
        ("base=", "base: expected a text, received nothing"),
        ("base=3", "base: expected a text, received 3; put it in quotes to make it a text"),
        ("data=", "data: expected a mapping of keys, received nothing"),
        ("data.train={}", "data.train: expected a mapping with exactly one of the keys csv, parquet, feather, npz, npy, callable, received an empty mapping"),
        ("data.train={cvs: a, target: y}", "data.train: expected a mapping with exactly one of the keys csv, parquet, feather, npz, npy, callable, received the keys cvs, target; did you mean 'csv'?"),
        ("data.train={csv: none.csv, target: y}", "data.train.csv: there is no file 'none.csv'; paths start from DIR"),
        ("data.train={npz: '\\0'}", "data.train.npz: there is no file '\\\\0'; paths start from DIR"),
        ("data.train={callable: build}", "data.train.callable: expected package.module:function, received 'build'"),
        ("data.train={callable: 'm.:f'}", "data.train.callable: expected package.module:function, received 'm.:f'"),
        ("data.train.kwargs={1: 2}", "data.train.kwargs.1: expected a text as key, received 1"),
        ("data.validation={fraction: 1}", "data.validation.fraction: expected less than 1.0, received 1"),
        ("data.validation=0.2", "data.validation: expected a mapping with exactly one of the keys fraction, csv, parquet, feather, npz, npy, callable, received 0.2"),
        ("model=", "model: expected a mapping with exactly one of the keys layers, factory, file, received nothing"),
        ("model.layers=[]", "model.layers: expected at least 1 item, received []"),
        ("model.layers.0={Dense: 3}", "model.layers.0: expected a name, or one name with its arguments as {Name: {argument: value}}, received the keys Dense"),
        ("model.layers.0={Dense: , units: 1}", "model.layers.0: expected a name, or one name with its arguments as {Name: {argument: value}}, received the keys Dense, units"),
        ("model.layers.0={Dense: {1: 2}}", "model.layers.0.Dense.1: expected a text as key, received 1"),
        ("compile=", "compile: missing: a model given as layers has no loss yet; add compile: {loss: mse}"),
        ("compile={}", "compile.loss: missing: a model given as layers has no loss yet; add loss: mse, or another Keras loss"),
        ("compile.metrics=mae", "compile.metrics: expected a list, received 'mae'; write it as a list: [mae]"),
        ("checks=off", "checks: expected a mapping of keys, received 'off'"),
        ("checks.finite=on", "checks.finite: expected a mapping of keys, received 'on'"),
        ("checks.dead_neurons={warn_above: 0.95}", "checks.dead_neurons: expected warn_above <= fail_above, received 0.95 > 0.9"),
        ("checks.dead_neurons.fail_above=1.1", "checks.dead_neurons.fail_above: expected at most 1.0, received 1.1"),
        ("checks.dead_neurons.rows=0", "checks.dead_neurons.rows: expected all, or a number of rows from 1, received 0"),
        ("checks.dead_neurons.rows=some", "checks.dead_neurons.rows: expected all, or a number of rows from 1, received 'some'"),
        ("checks.dead_neurons.rows=true", "checks.dead_neurons.rows: expected all, or a number of rows from 1, received true"),
        ("checks.metric={name: loss}", "checks.metric: expected min or max, received neither"),
        ("checks.metric=[{name: loss, min: 2, max: 1}]", "checks.metric.0: expected min <= max, received 2.0 > 1.0"),
        ("checks.metric={name: loss, max: 1, phases: [mian]}", "checks.metric.phases: there is no phase 'mian'; did you mean 'main'?"),
        ("checks.metric=[{name: loss, max: 1, phases: [x]}]", "checks.metric.0.phases: there is no phase 'x'; expected one of main"),
        ("restart.policy=[new_sed]", "restart.policy.0: unknown remedy 'new_sed'; did you mean 'new_seed'?"),
        ("restart.policy=[{remedy: [x]}]", "restart.policy.0: unknown remedy ['x']; expected one of clip_gradients, fix_output, leaky_relu, lower_dropout, lower_learning_rate, lower_penalty, new_seed, raise_learning_rate, reinitialize, revive, standardize, train_longer, usual_settings"),
        ("restart.policy=[{times: 2}]", "restart.policy.0: expected {remedy: NAME} with one of new_seed, lower_learning_rate, leaky_relu, reinitialize, clip_gradients, lower_dropout, lower_penalty, standardize, fix_output, raise_learning_rate, train_longer, revive, usual_settings, or {when: …, rungs: […]}, received the keys times"),
        ("restart.policy=[{remedy: new_seed, keep_seed: on}]", "restart.policy.0.keep_seed: expected false, received true"),
        ("restart.policy=[{remedy: lower_dropout, rate: 1}]", "restart.policy.0.rate: expected less than 1.0, received 1"),
        ("restart.policy=[{remedy: lower_learning_rate, anneal: 1}]", "restart.policy.0.anneal: expected less than 1.0, received 1"),
        ("restart.policy=[{remedy: clip_gradients, norm: -1}]", "restart.policy.0.norm: expected more than 0.0, received -1"),
        ("restart.policy=[{remedy: reinitialize, initialiser: zeros}]", "restart.policy.0.initialiser: unknown key 'initialiser'; did you mean 'initializer'?"),
        ("restart.policy=[{remedy: leaky_relu, when: [dead]}]", "restart.policy.0.when.0: unknown name 'dead'; did you mean 'died'?"),
        ("restart.policy=[{remedy: leaky_relu, when: died}]", "restart.policy.0.when: expected a list, received 'died'; write it as a list: [died]"),
        ("restart.policy=[{remedy: leaky_relu, when: {kind: [metrics]}}]", "restart.policy.0.when.kind.0: unknown name 'metrics'; did you mean 'metric'?"),
        ("restart.policy=[{remedy: leaky_relu, when: {cause: [died]}}]", "restart.policy.0.when.cause.0: unknown name 'died'; expected one of broadcast_shapes, clipped, constant_columns, constant_reconstruction, dead_branch, distant_targets, few_steps, fixed_seed, heavy_dropout, held_at_zero, initialization, lagging_statistics, loss_mismatch, lost_signal, missing_values, no_effect, one_unit_softmax, oscillating, over_regularised, overfitting, rate_too_low, slow_statistics, small_batches, too_small, undefined_loss, undertrained, unreachable_targets, unrelated_targets, unscaled_inputs, unusual_rate, unusual_start, vanishing_gradient, wrong_labels"),
        ("restart.policy=[{remedy: leaky_relu, when: {kinds: [died]}}]", "restart.policy.0.when.kinds: unknown key 'kinds'; did you mean 'kind'?"),
        ("restart.policy=[{when: [died], rungs: [new_sed]}]", "restart.policy.0.rungs.0: unknown remedy 'new_sed'; did you mean 'new_seed'?"),
        ("restart.policy=[{when: [died], rungs: [{times: 2}]}]", "restart.policy.0.rungs.0: expected {remedy: NAME} with one of new_seed, lower_learning_rate, leaky_relu, reinitialize, clip_gradients, lower_dropout, lower_penalty, standardize, fix_output, raise_learning_rate, train_longer, revive, usual_settings, received the keys times"),
        ("restart.policy=[{rungs: [{remedy: clip_gradients, norms: 1}]}]", "restart.policy.0.rungs.0.norms: unknown key 'norms'; did you mean 'norm'?"),
        ("restart.policy=[{when: [died], rungs: }]", "restart.policy.0.rungs: expected a list, received nothing"),
        ("restart.policy=[{remedy: lower_learning_rate, factor: 1}]", "restart.policy.0.factor: expected auto, or more than 0 and less than 1, received 1"),
        ("restart.policy=[{remedy: lower_learning_rate, factor: aut}]", "restart.policy.0.factor: expected auto, or more than 0 and less than 1, received 'aut'"),
        ("restart.policy=[{remedy: leaky_relu, when: []}]", "restart.policy.0.when: expected at least 1 item, received []"),
        ("restart.max_attempts=0", "restart.max_attempts: expected at least 1, received 0"),
        ("fit.class_weight={a: 1}", "fit.class_weight.a: expected a whole number as key, received 'a'"),
        ("fit.callbacks=[3]", "fit.callbacks.0: expected a name, or one name with its arguments as {Name: {argument: value}}, received 3"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_refused_in_plain_words(complain, assignment, problem):
    shown = assignment if len(assignment) <= 80 else f"{assignment[:79]}…"
    assert complain(BASE, assignment) == [f"--set {shown}: {problem}"]


@pytest.mark.parametrize(
    ("assignment", "hint"),
    [
        ("sede=1", "did you mean 'seed'?"),
        ("optimizer=adam", "it belongs in compile"),
        ("loss=mse", "it belongs in compile"),
        ("epochs=3", "it belongs in phases"),
        ("learning_rate=0.1", "it belongs in phases or compile.optimizer"),
        ("policy=[]", "it belongs in restart"),
        ("layers=[]", "it belongs in model"),
        ("target=y", "it belongs in data.train or data.validation"),
        ("fraction=0.2", "it belongs in data.validation"),
        ("dead_neurons=off", "it belongs in checks"),
        ("remedy=new_seed", "it belongs in restart.policy or restart.policy.rungs"),
        ("compile.batch_size=3", "it belongs in the top level"),
        ("compile.learning_rate=3", "it belongs in compile.optimizer"),
        ("data.csv=a", "it belongs in data.train or data.validation"),
        ("checks.warn_above=0.5", "it belongs in checks.dead_neurons"),
        ("checks.metrics=[]", "did you mean 'metric'?"),
        ("phases.0.epoch=3", "did you mean 'epochs'?"),
        ("phases.0.foo=3", "expected one of epochs, learning_rate, name"),
        ("data.train.target=y", "expected one of callable, kwargs, steps_per_epoch"),
        ("restart.policy=[{remedy: new_seed, factor: 1}]", "expected one of cap_rate, keep, keep_seed, raise_rate, remedy, rewind, times, when"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_told_where_it_belongs(complain, assignment, hint):
    (problem,) = complain(BASE, assignment)
    assert ": unknown key '" in problem
    assert problem.endswith(f"; {hint}")


def test_exactly_one_way_to_give_the_model_and_the_data(complain):
    text = BASE.replace("compile:", "  factory: {}\ncompile:")
    assert complain(text) == [
        "f:3: model: expected a mapping with exactly one of the keys layers, factory, file, "
        "received the keys layers, factory"
    ]
    assert complain(BASE, "data.train.npz=a.npz")[1:] == [
        "f:2: data.train: expected a mapping with exactly one of the keys csv, parquet, feather, npz, npy, callable, "
        "received the keys callable, npz; changed by --set data.train.npz=a.npz"
    ]


def test_every_problem_is_reported_at_once_in_the_order_of_the_lines(complain):
    text = """\
nmae: x
data:
  trian: {csv: a.csv}
  validation: {csv: none.csv, target: y}
seed: 1
seed: 2
compiel: {loss: mse}
phases:
  - {name: init, epochs: -1}
  - {nme: main, epochs: true}
  - {name: init, epochs: 1}
checks:
  dead_nuerons: off
  metric: {name: loss, max: 1, phases: [warmup]}
restart:
  policy:
    - {remedy: new_sede}
"""
    found = complain(text, "oops", "batch_size=0")
    assert sorted(found[:2]) == [
        "--set batch_size=0: batch_size: expected at least 1, received 0",
        "--set oops: expected KEY=VALUE, with dots between the keys; as in batch_size=64",
    ]
    lines = [int(text.split(":")[1]) for text in found[2:]]
    assert lines == sorted(lines)
    assert sorted(found[2:]) == sorted(
        [
            "f:1: model: missing, it is required; add model: {layers: [{Dense: {units: 1}}]}",
            "f:1: nmae: unknown key 'nmae'; did you mean 'name'?",
            "f:2: data.train: missing, it is required",
            "f:3: data.trian: unknown key 'trian'; did you mean 'train'?",
            "f:4: data.validation.csv: there is no file 'none.csv'; paths start from DIR",
            "f:6: seed: the key is given twice, first on line 5; keep one",
            "f:7: compiel: unknown key 'compiel'; did you mean 'compile'?",
            "f:9: phases.0.epochs: expected at least 1, received -1",
            "f:9: phases.0.name: 'init' is the phase before training; choose another name",
            "f:10: phases.1.epochs: expected a whole number, received true",
            "f:10: phases.1.name: missing, it is required",
            "f:10: phases.1.nme: unknown key 'nme'; did you mean 'name'?",
            "f:11: phases.2.name: 'init' is the phase before training; choose another name",
            "f:11: phases.2.name: the name 'init' is taken; choose another name",
            "f:13: checks.dead_nuerons: unknown key 'dead_nuerons'; did you mean 'dead_neurons'?",
            "f:14: checks.metric.phases: there is no phase 'warmup'; expected one of init",
            "f:17: restart.policy.0: unknown remedy 'new_sede'; did you mean 'new_seed'?",
        ]
    )


def test_a_path_that_is_too_long_is_a_missing_file(complain):
    (problem,) = complain(BASE.replace('callable: "rows:make"', f"npz: {'a' * 5000}"))
    assert problem.startswith("f:2: data.train.npz: there is no file 'aaa")
    assert len(problem) < 300


def test_the_dump_of_a_config_loads_back_to_the_same_values(load, tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    first = load(
        BASE,
        "data.train={csv: a.csv, target: y, delimiter: ';'}",
        "data.validation={callable: 'm:f', kwargs: {a: .inf, b: ['on', null, 1e-7, 0o7]}}",
        "checks={finite: off, metric: {name: loss, max: 1, phases: [main]}}",
        "restart.policy=[new_seed, {remedy: leaky_relu, when: [crashed]}]",
        "fit.class_weight={0: 1, 1: 2}",
        "deterministic=off",
    )
    (tmp_path / "elsewhere").mkdir()
    copy_path = tmp_path / "elsewhere" / "resolved.yaml"
    copy_path.write_text(first.dump())
    assert config.load(copy_path).model_dump() == first.model_dump()


def test_a_config_keeps_its_lines_across_processes(load, tmp_path):
    found = pickle.loads(pickle.dumps(load()))
    problem = found.problem(("phases", 0, "epochs"), "too few")
    assert str(problem) == f"{tmp_path}/airfoil.yaml:8: phases.0.epochs: too few"
    assert found.source == BASE.encode()


def test_a_config_without_a_file_names_itself(tmp_path):
    found = schema.Config.model_validate({"name": "n", "base": str(tmp_path), **document.parse(BASE, name="f").value})  # fmt: skip
    assert str(found.problem(("seed",), "wrong")) == "n: seed: wrong"
    said = found.model_dump(exclude={"tune"})  # which says nothing
    assert document.parse(found.source.decode(), name="f").value == said


ODD_VALUES = st.sampled_from(
    [None, True, 0, -1, 2**70, 1.5, math.nan, math.inf, "", "off", "x", "\0", "a" * 300, [], {}]
    + [[None], [{}], {"x": None}, {1: 2}, {"csv": "a"}, {"name": "main"}, ["new_seed"], "layers"]
)


@st.composite
def mutated(draw):
    """A valid config in which up to four places were replaced, removed or added to."""
    value = {
        **yaml.safe_load(BASE),
        "checks": {"dead_neurons": {"rows": "all"}, "metric": [{"name": "loss", "max": 1}]},
        "restart": {
            "policy": [
                {"remedy": "leaky_relu", "when": ["finite"]},
                {"when": {"kind": ["died"]}, "rungs": ["new_seed"]},
            ]
        },
        "fit": {"class_weight": {0: 1.0}},
    }
    value = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys)) if keys else None
            if key is None or not isinstance(place[key], dict | list) or draw(st.booleans()):
                break
            place = place[key]
        if isinstance(place, dict):
            new = draw(st.sampled_from(["", "x", "csv", "epochs", 3]))
            place[key if key is not None and draw(st.booleans()) else new] = copy.deepcopy(
                draw(ODD_VALUES)
            )
        elif key is not None and draw(st.booleans()):
            del place[key]
        else:
            place.append(copy.deepcopy(draw(ODD_VALUES)))
    return value


@settings(deadline=None, max_examples=40)
@given(mutated())
def test_mutated_configs_load_or_name_their_problems(value):
    written = document.parse(yaml12.dump(value), name="f")
    try:
        found = config.check(written, Path("f"))
    except InvalidError as error:
        assert all(problem.file == "f" and problem.line for problem in error.problems)
    else:
        again = config.check(document.parse(found.dump(), name="g"), Path("g"))
        assert again.dump() == found.dump()
