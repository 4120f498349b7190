"""The JSON schema: what it takes is what the loader takes."""

import copy
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest
from hypothesis import given, settings

from orchestrator.cli.app import execute as orchestrate
from orchestrator.config import document, json_schema, schema, yaml12
from orchestrator.config import load as config
from orchestrator.config.sections.base import Section
from orchestrator.config.sections.data import GivenSource
from orchestrator.config.sections.model import GivenModel
from orchestrator.errors import InvalidError
from tests import readme
from tests.config.test_load import mutated

FILES = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))
SCHEMA = json_schema.json_schema()
VALIDATE = fastjsonschema.compile(SCHEMA)

BEYOND = (
    # Files.
    "there is no (file|folder) ",
    # Several keys.
    "a model given as layers has no loss yet",
    "is the phase before training",
    r"the name '.*' is taken",
    "there is no phase ",
    r"expected (warn_above|min) <= (fail_above|max)",
    "expected min or max, received neither",
    # YAML tells these apart, JSON does not.
    r"expected a whole number, received -?\d+\.0$",
    r"received (nan|-?inf)$",
    "expected a text as key, received ",
)
"""Problems that only the loader finds."""


def takes(value: Any) -> bool:
    """The schema's verdict; an editor knows keys as texts only."""
    try:
        VALIDATE(json.loads(json.dumps(value)))
    except fastjsonschema.JsonSchemaValueException:
        return False
    return True


def problems(value: Any) -> list[str]:
    """What the loader complains of."""
    written = document.Document(file="f", value=value, lines={}, overrides={}, source=b"")
    try:
        config.check(written, Path("f"))
    except InvalidError as error:
        return [problem.message for problem in error.problems]
    return []


def agree(value: Any) -> bool:
    """Whether the verdicts are the same; the loader may refuse more for what is beyond a schema."""
    found = problems(value)
    if found and all(re.search("|".join(BEYOND), message) for message in found):
        return True
    if not found and value.get("checks") and value["checks"].get("metric") == {}:
        return True  # a gate without a name is none to the loader
    return takes(value) is not bool(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_shipped_configs_are_taken_as_written_and_as_resolved(path: Path) -> None:
    assert takes(document.read(path).value)
    assert takes(document.parse(config.load(path).dump(), name="f").value)


def test_the_examples_of_the_readme_are_taken() -> None:
    example, tune = (document.parse(each, name="README").value for each in readme.blocks("yaml"))
    assert takes(example)
    assert takes({**example, "tune": tune})


LAYERS: dict[str, Any] = {
    "data": {"train": {"callable": "rows:make"}},
    "model": {"layers": [{"Dense": {"units": 1}}]},
    "compile": {"loss": "mse"},
    "phases": [{"name": "main", "epochs": 1}],
}

EVERYTHING: dict[str, Any] = {
    "version": 1,
    "name": "all",
    "base": ".",
    "seed": 3,
    "data": {
        "train": {
            "csv": "a.csv", "target": ["y", "z"], "features": ["a"], "text": ["a"],
            "sample_weight": "w", "delimiter": ";",
        },
        "validation": {"fraction": 0.2},
        "standardize": "on",
    },
    "model": {"layers": ["Flatten", {"Dense": {"units": 1}}, {"ReLU": None}]},
    "compile": {
        "optimizer": {"Adam": {"learning_rate": 0.1}},
        "loss": {"Huber": {"reduction": None}},
        "loss_weights": [1, 0.5],
        "metrics": ["mae", {"AUC": {"curve": "PR"}}],
        "weighted_metrics": {"out": ["mae"]},
        "run_eagerly": "off",
        "auto_scale_loss": "yes",
    },
    "batch_size": 8,
    "phases": [{"name": "main", "epochs": 1, "learning_rate": 0.1}, {"name": "b", "epochs": 2}],
    "checks": {
        "finite": "off",
        "dead_neurons": {"warn_above": 0.2, "fail_above": 1, "rows": 9},
        "prediction_variance": {
            "min_ratio": 0, "min_information": 0.1, "min_skill": -1, "kind": "regression",
        },
        "metric": [{"name": "loss", "min": 0, "max": 1, "phases": ["main"]}],
    },
    "restart": {
        "max_attempts": 3,
        "max_seconds": 1.5,
        "screen_seeds": 0,
        "policy": [
            "leaky_relu",
            {"remedy": "new_seed", "times": 2, "when": ["finite"], "keep": True, "keep_seed": "no"},
            {"remedy": "lower_learning_rate", "factor": 0.5},
            {"remedy": "lower_learning_rate", "factor": "auto", "when": {"check": ["metric"]}},
            {"remedy": "leaky_relu", "negative_slope": 0.1, "keep_seed": "yes"},
            {"when": ["died"], "rungs": ["new_seed", {"remedy": "clip_gradients", "norm": 1}]},
            {"when": {"kind": ["died"], "cause": ["fixed_seed"], "certain": "no"}, "rungs": []},
            {"when": {"certain": True, "count": 2}, "rungs": []},
        ],
    },
    "deterministic": "off",
    "tensorboard": False,
    "keep": "all",
    "stall_timeout": 60,
    "fit": {"class_weight": {0: 1.5, 1: 1}, "callbacks": ["m:f"]},
}  # fmt: skip

OTHERS: list[dict[str, Any]] = [
    {**LAYERS, "data": {"train": {"parquet": "a", "target": {"o": "y"}}, "validation": None}},
    {**LAYERS, "data": {"train": {"npz": "a", "x": "x", "y": "y", "sample_weight": None}}},
    {**LAYERS, "data": {"train": {"npy": "a", "y": "b"}, "validation": {"npy": "a", "y": "b"}}},
    {**LAYERS, "model": {"factory": {"callable": "m:f", "kwargs": {"w": 1}}}, "compile": None},
    {**LAYERS, "model": {"file": "a.keras", "initial_weights": "fresh", "modules": ["a.b"]}},
    {**LAYERS, "compile": {"loss": ["mse", {"Huber": {"delta": 2}}], "metrics": []}},
    {**LAYERS, "compile": {"loss": {"a": "mse", "b": {"Huber": None}}, "loss_weights": {"a": 1}}},
    {**LAYERS, "compile": {"loss": {"a": {"Huber": {"delta": 2}}}}},
    {**LAYERS, "compile": {"loss": {"a": {"mine:Own": None}}}},
    {**LAYERS, "checks": None, "restart": None, "fit": None},
    {**LAYERS, "checks": {"finite": None, "metric": {"name": "loss", "max": 1}}},
]

VALID = [LAYERS, EVERYTHING, *OTHERS]

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**33, 0.5, 7.5, "", "off", "On", "x", "m:f", "a/b", "all",
    [], {}, [1], ["x"], ["x", "x"], [None], [[]], [{}], {"x": None}, {"x": 1}, {"x": {}}, {"7": 1},
    {"x": "y", "z": "y"}, {"csv": "a"}, {"csv": "a", "target": "y", "npz": "b"}, {"fraction": 0.5},
    {"remedy": "new_seed"}, {"remedy": "new_sed"}, {"times": 2}, {"factor": 0.5}, {"name": "n"},
]  # fmt: skip


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value inside."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def changed(value: Any, path: tuple[str | int, ...]) -> Iterator[Any]:
    """The config with the value at a path removed, replaced, and put beside an unknown key."""
    for change in ("remove", "add", *VALUES):
        again = copy.deepcopy(value)
        *parents, key = path
        inside = again
        for parent in parents:
            inside = inside[parent]
        if isinstance(change, str) and change == "remove":
            del inside[key]
        elif isinstance(change, str) and change == "add":
            if isinstance(inside, dict):
                inside["unknown"] = 1
        else:
            inside[key] = copy.deepcopy(change)
        yield again


@pytest.mark.parametrize("value", VALID, ids=range(len(VALID)))
def test_schema_and_loader_agree_on_every_change_of_one_value(value: dict[str, Any]) -> None:
    assert takes(value)
    assert agree(value)
    wrong = [new for path in places(value) for new in changed(value, path) if not agree(new)]
    assert [(new, takes(new), problems(new)) for new in wrong] == []


@settings(deadline=None, max_examples=60)
@given(mutated())
def test_schema_and_loader_agree_on_several_changes(value: dict[str, Any]) -> None:
    assert agree(value), problems(value)


@pytest.mark.parametrize(
    "assignment",
    [
        "sede=1", "optimizer=adam", "phases.0.foo=3", "data.train.target=y",
        "seed=-1", "seed=true", "seed=x", "version=2", "batch_size=0", "name=a/b", "base=",
        "phases=[]", "phases={}", "phases.0.epochs=-1", "phases.0.name=3", "phases.0=main",
        "data=", "data.train={}", "data.train={csv: a, npz: b, target: y}",
        "data.train={fraction: 0.2}", "data.train={csv: a}", "data.train.callable=build",
        "data.validation=0.2", "data.validation={fraction: 1}",
        "model=", "model={}", "model.file=a.keras", "model.layers=[]", "model.layers.0={Dense: 3}",
        "model.layers.0={Dense: , Flatten: }", "compile={loss: 3}", "compile.metrics=mae",
        "checks=off", "checks.finite=on", "checks.finite=true", "checks.dead_neurons.rows=0",
        "checks.dead_neurons.fail_above=1.1", "checks.metrics=[]", "checks.metric={max: 1}",
        "restart.policy=[new_sed]", "restart.policy=[{remedy: new_sed}]",
        "restart.policy=[{times: 2}]", "restart.policy=[{factor: 0.5}]",
        "restart.policy=[{remedy: new_seed, factor: 0.5}]",
        "restart.policy=[{remedy: new_seed, keep_seed: on}]",
        "restart.policy=[{remedy: reinitialize, rewind: true}]",
        "restart.policy=[{remedy: leaky_relu, when: [dead]}]",
        "restart.policy=[{remedy: leaky_relu, when: {kind: [metrics]}}]",
        "restart.policy=[{remedy: leaky_relu, when: {cause: [died]}}]",
        "restart.policy=[{remedy: lower_learning_rate, factor: aut}]",
        "restart.policy=[{rungs: [new_sed]}]", "restart.policy=[{when: [died]}]",
        "tensorboard=1", "tensorboard=maybe", "tensorboard=", "deterministic=maybe", "keep=al",
        "stall_timeout=0", "fit.class_weight={a: 1}", "fit.class_weight={0: 0}",
        "fit.callbacks=[3]",
    ],
)  # fmt: skip
def test_what_the_loader_refuses_the_schema_refuses(assignment: str) -> None:
    found = document.parse(yaml12.dump(LAYERS), name="f")
    value = document.override(found, [assignment]).value
    assert problems(value)
    assert not takes(value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("compile=", "a model given as layers has no loss yet"),
        ("seed=1.0", "expected a whole number, received 1.0"),
        ("stall_timeout=.inf", "expected a finite number, received inf"),
        ("phases.0.name=init", "'init' is the phase before training"),
        ("data.train={csv: none.csv, target: y}", "there is no file 'none.csv'"),
        ("checks.dead_neurons={warn_above: 0.95}", "expected warn_above <= fail_above"),
        ("checks.metric={name: loss}", "expected min or max"),
    ],
)
def test_some_problems_are_the_loaders_alone(assignment: str, message: str) -> None:
    found = document.parse(yaml12.dump(LAYERS), name="f")
    value = document.override(found, [assignment]).value
    assert message in problems(value)[0]
    assert takes(value)


def sections(section: Any = schema.Config) -> Iterator[type[Section]]:
    """Every section that a config may hold, itself included; `retrain` alone makes the others."""
    for inner in typing.get_args(section):
        yield from sections(inner)
    given = (GivenSource, GivenModel)
    if isinstance(section, type) and issubclass(section, Section) and section not in given:
        yield section
        for field in section.model_fields.values():
            yield from sections(field.annotation)


def test_every_key_is_there_with_its_description_and_default() -> None:
    found = {section.__name__: section for section in sections()}
    definitions = {**SCHEMA["$defs"], "Config": SCHEMA}
    assert found.keys() == definitions.keys()
    for name in found.keys() - {"Named"}:
        keys = definitions[name]["properties"]
        assert keys.keys() == found[name].model_fields.keys()
        assert definitions[name]["description"]
        assert definitions[name]["additionalProperties"] is False
        for key, field in found[name].model_fields.items():
            assert "\n" not in keys[key]["description"]
            assert ("default" in keys[key]) is not field.is_required()
    assert definitions["Config"]["required"] == ["data", "model", "phases"]


def schemas(value: Any) -> Iterator[dict[str, Any]]:
    """The schema and every schema inside."""
    yield value
    for key in ("properties", "patternProperties", "$defs"):
        for inner in value.get(key, {}).values():
            yield from schemas(inner)
    for inner in value.get("anyOf", ()):
        yield from schemas(inner)
    for key in ("items", "additionalProperties"):
        if isinstance(value.get(key), dict):
            yield from schemas(value[key])


def test_editors_that_stopped_at_draft_7_understand_it() -> None:
    known = set(
        "$schema $defs $ref title description default examples type enum const anyOf properties "
        "patternProperties additionalProperties required minProperties maxProperties items "
        "minItems maxItems uniqueItems minLength pattern minimum maximum exclusiveMinimum "
        "exclusiveMaximum".split()
    )
    for one in schemas(SCHEMA):
        assert one.keys() <= known
        # What JavaScript does not know in a pattern makes it refuse the schema.
        assert not re.sub(r"\\([wrn.]|x00)", "", one.get("pattern", "")).count("\\")


def test_the_command_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert orchestrate(["schema"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == SCHEMA
    assert next(iter(SCHEMA.items())) == (
        "$schema",
        "https://json-schema.org/draft/2020-12/schema",
    )
    assert not err
