"""The config: what a YAML file may say, checked without Keras.

`load` reads a file into a frozen `Config` or raises one `InvalidError` with every problem.
"""

from __future__ import annotations

import os
import re
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field

from orchestrator import document
from orchestrator.document import Document, Key
from orchestrator.errors import InvalidError, Problem, closest, suggestion
from orchestrator.records import INIT

FailureName = Literal["finite", "dead_neurons", "prediction_variance", "metric", "crashed"]
"""What a rung may answer: the checks, in the order in which they are taken, and a crash."""


class Section(BaseModel):
    """A mapping of the config: unknown keys are errors, types are not converted."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        # Built once, as part of the whole config, and not for each section by itself.
        defer_build=True,
    )


def _dig(value: Any, *path: int | str) -> Any:
    """What stands at a path in plain values, or None."""
    for part in path:
        try:
            value = value[part]
        except (LookupError, TypeError):
            return None
    return value


def _flag(value: Any) -> Any:
    """YAML 1.2 reads on, off, yes and no as text; where a boolean is expected they are one."""
    words = {"on": True, "yes": True, "off": False, "no": False}
    return words.get(value.casefold(), value) if isinstance(value, str) else value


def _null_is_empty(value: Any) -> Any:
    """`checks:` with nothing behind it means the defaults."""
    return {} if value is None else value


Flag = Annotated[bool, BeforeValidator(_flag)]
_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$"
FileName = Annotated[str, Field(pattern=_FILE_NAME)]
"""Text that can be part of a file name."""
_REFERENCE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
Reference = Annotated[str, Field(pattern=_REFERENCE, examples=["package.module:function"])]
"""`package.module:function`, looked up from the config's folder first."""
_DELIMITER = r"^[^\r\n\"\x00]$"
Delimiter = Annotated[str, Field(pattern=_DELIMITER)]
"""One character that separates the cells of a table."""
PositiveFloat = Annotated[float, Field(gt=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Named(Section):
    """A Keras object by its name and arguments: `mse`, or `{Adam: {learning_rate: 0.01}}`."""

    name: str
    """Keras's own name."""
    arguments: dict[str, Any] = {}
    """Keras's own arguments."""

    @pydantic.model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, arguments),) = value.items()
            if isinstance(name, str) and (arguments is None or isinstance(arguments, Mapping)):
                return {"name": name, "arguments": dict(arguments or {})}
        raise ValueError(
            "expected a name, or one name with its arguments as {Name: {argument: value}}, "
            f"received {_short(value)}"
        )

    @pydantic.model_serializer
    def _write(self) -> Any:
        return {self.name: self.arguments} if self.arguments else self.name


class CsvSource(Section):
    """A table in a text file; the first line names the columns."""

    csv: str
    """Path of the file."""
    target: str
    """Name of the column to predict."""
    delimiter: Delimiter = ","
    """What separates the columns."""


class NpzSource(Section):
    """Two arrays of a NumPy archive."""

    npz: str
    """Path of the file."""
    x: str = "x"
    """Name of the inputs' array, shape (rows, …)."""
    y: str = "y"
    """Name of the targets' array, shape (rows,) or (rows, columns)."""


class CallableSource(Section):
    """A function of the user's that returns `(x, y)`."""

    callable: Reference
    """The function."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""


class Split(Section):
    """Hold back a share of the training rows."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the rows, shuffled once from the run's seed."""


_ONE_OF = "expected a mapping with exactly one of the keys "


def _one_of(*keys: str) -> Discriminator:
    """Tell the classes of a union apart by which key is there."""

    def tag(value: Any) -> str | None:
        names = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
        found = [key for key in keys if key in names]
        return f"<{found[0]}>" if len(found) == 1 else None

    expected = f"{_ONE_OF}{', '.join(keys)}"
    return Discriminator(tag, custom_error_type="one_of", custom_error_message=expected)


_SourceTypes = (
    Annotated[CsvSource, pydantic.Tag("<csv>")]
    | Annotated[NpzSource, pydantic.Tag("<npz>")]
    | Annotated[CallableSource, pydantic.Tag("<callable>")]
)
Source = Annotated[_SourceTypes, _one_of("csv", "npz", "callable")]
Validation = Annotated[
    _SourceTypes | Annotated[Split, pydantic.Tag("<fraction>")],
    _one_of("fraction", "csv", "npz", "callable"),
]


class Data(Section):
    """Where the rows come from."""

    train: Source
    """The training data."""
    validation: Validation | None = None
    """Rows that are never trained on: a share of the training data, or a second source."""
    standardize: Flag = False
    """Shift and scale each input column to mean 0 and variance 1 over the training rows."""


class Factory(Section):
    """A function of the user's that returns a built `keras.Model`."""

    callable: Reference
    """The function; it is called for every attempt, after the seeds are set."""
    kwargs: dict[str, Any] = {}
    """Its keyword arguments."""


class LayersModel(Section):
    """A sequential model, layer by layer."""

    layers: Annotated[list[Named], Field(min_length=1)]
    """Keras layers in order, each by its name and arguments."""


class FactoryModel(Section):
    """A model that the user's own code builds."""

    factory: Factory
    """The function that builds it."""


Model = Annotated[
    Annotated[LayersModel, pydantic.Tag("<layers>")]
    | Annotated[FactoryModel, pydantic.Tag("<factory>")],
    _one_of("layers", "factory"),
]


class Compile(Section):
    """What `model.compile` gets."""

    optimizer: Named = Named.model_validate("adam")
    """Keras optimizer; its learning rate may be a schedule."""
    loss: Named
    """Keras loss."""
    metrics: list[Named] = []
    """Keras metrics."""


class PhasePlan(Section):
    """Consecutive epochs that end in checks."""

    name: FileName
    """Name in the records."""
    epochs: PositiveInt
    """How many."""
    learning_rate: PositiveFloat | None = None
    """Rate of this phase; null means the optimizer's own rate or schedule."""


class Finite(Section):
    """Weights, optimizer state, losses and predictions are finite. It has no limits."""


def _all_or_count(value: Any) -> Any:
    if value != "all" and (type(value) is not int or value < 1):
        raise ValueError(f"expected all, or a number of rows from 1, received {_short(value)}")
    return value


class DeadNeurons(Section):
    """Units whose activation has derivative zero on every training row."""

    warn_above: Fraction = 0.5
    """Dead share of a layer above which the check warns."""
    fail_above: Fraction = 0.9
    """Dead share above which it fails, if an output that the layer feeds has no skill."""
    rows: Annotated[Literal["all"] | int, BeforeValidator(_all_or_count)] = "all"
    """How many training rows to look at."""

    @pydantic.model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.warn_above > self.fail_above:
            raise ValueError(
                f"expected warn_above <= fail_above, received {self.warn_above} > {self.fail_above}"
            )
        return self


class PredictionVariance(Section):
    """The prediction varies with the input."""

    min_ratio: Annotated[float, Field(ge=0)] = 1e-4
    """Least variance of the prediction over variance of the target (regression)."""
    min_information: Annotated[float, Field(ge=0)] = 1e-4
    """Least information of the prediction over entropy of the classes (classification)."""
    min_skill: Annotated[float, Field(lt=1)] = -0.1
    """Least skill after the last phase; 0 is the best constant, 1 is perfect."""
    kind: Literal["regression", "classification"] | None = None
    """Kind of the outputs; null means by the loss, or else by the output activation."""


class Gate(Section):
    """A bound on a logged value."""

    name: str
    """Name of the value in Keras's logs, such as val_loss."""
    min: float | None = None
    """Least value that passes."""
    max: float | None = None
    """Greatest value that passes."""
    phases: Annotated[list[str], Field(min_length=1)] | None = None
    """Phases after which it is taken; null means the last."""

    @pydantic.model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("expected min or max, received neither")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"expected min <= max, received {self.min} > {self.max}")
        return self


def _switch(value: Any) -> Any:
    """`off` and false switch a check off; nothing behind the colon means its defaults."""
    if value is None:
        return {}
    return None if _flag(value) is False else value


def _write_switch(value: Any, handler: pydantic.SerializerFunctionWrapHandler) -> Any:
    return "off" if value is None else handler(value)


_Switch = (BeforeValidator(_switch), pydantic.WrapSerializer(_write_switch))


def _as_list(value: Any) -> Any:
    value = _switch(value)
    return [] if value is None or value == {} else [value] if isinstance(value, Mapping) else value


class Checks(Section):
    """The checks after every phase; each is merged into its defaults, `off` switches it off."""

    finite: Annotated[Finite | None, *_Switch] = Finite()
    """Everything is finite."""
    dead_neurons: Annotated[DeadNeurons | None, *_Switch] = DeadNeurons()
    """Units are alive."""
    prediction_variance: Annotated[PredictionVariance | None, *_Switch] = PredictionVariance()
    """The prediction is not constant."""
    metric: Annotated[list[Gate], BeforeValidator(_as_list)] = []
    """Bounds on logged values: one gate or a list."""


class Rung(Section):
    """One line of the policy."""

    times: PositiveInt = 1
    """How often it may be used."""
    when: Annotated[list[FailureName], Field(min_length=1)] | None = None
    """Failures that it answers; null means any."""
    keep: Flag = False
    """Keep its change when the next attempt fails by the same check."""
    keep_seed: Flag = False
    """Do not draw a new seed for the next attempt."""


class NewSeed(Rung):
    """Train again from another seed."""

    remedy: Literal["new_seed"] = "new_seed"
    """The remedy."""
    keep_seed: Annotated[Literal[False], BeforeValidator(_flag)] = False
    """Always false: the new seed is the remedy."""


class LowerLearningRate(Rung):
    """Cap every learning rate at a fraction of the highest rate of the phase that failed."""

    remedy: Literal["lower_learning_rate"] = "lower_learning_rate"
    """The remedy."""
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """The fraction."""


class LeakyRelu(Rung):
    """Replace every hidden relu by leaky relu."""

    remedy: Literal["leaky_relu"] = "leaky_relu"
    """The remedy."""
    negative_slope: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Slope below zero. At 0.01 a deep narrow net can still collapse; at 0.2 none did."""


REMEDIES = ("new_seed", "lower_learning_rate", "leaky_relu")
"""The remedies, in no order."""


def _rung_tag(value: Any) -> str | None:
    remedy = value.get("remedy") if isinstance(value, Mapping) else getattr(value, "remedy", None)
    return f"<{remedy}>" if remedy in REMEDIES else None


def _rung_by_name(value: Any) -> Any:
    """`- new_seed` is short for `- {remedy: new_seed}`."""
    value = {"remedy": value} if isinstance(value, str) else value
    if isinstance(value, Mapping) and "remedy" in value and value["remedy"] not in REMEDIES:
        raise ValueError(
            f"unknown remedy {value['remedy']!r}; {suggestion(str(value['remedy']), REMEDIES)}"
        )
    return value


AnyRung = Annotated[
    Annotated[NewSeed, pydantic.Tag("<new_seed>")]
    | Annotated[LowerLearningRate, pydantic.Tag("<lower_learning_rate>")]
    | Annotated[LeakyRelu, pydantic.Tag("<leaky_relu>")],
    Discriminator(
        _rung_tag,
        custom_error_type="rung",
        custom_error_message=f"expected {{remedy: NAME}} with one of {', '.join(REMEDIES)}",
    ),
    BeforeValidator(_rung_by_name),
]


class Restart(Section):
    """What to do when an attempt fails."""

    max_attempts: PositiveInt = 8
    """Attempts in all, the first one included."""
    max_seconds: PositiveFloat | None = None
    """No attempt is started after this time; null means no limit."""
    screen_seeds: Annotated[int, Field(ge=0)] = 0
    """Candidate seeds to probe before an attempt. This version does not screen yet."""
    policy: list[AnyRung] | None = None
    """The rungs in order; null means chosen by how the attempt failed."""


class Fit(Section):
    """What else `model.fit` gets."""

    class_weight: Annotated[dict[int, PositiveFloat] | None, BeforeValidator(_whole_keys)] = None
    """Weight of each class in the loss."""
    callbacks: list[Reference] = []
    """Functions that return a Keras callback."""


def _auto_or_flag(value: Any) -> Any:
    value = _flag(value)
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"expected auto, true or false, received {_short(value)}")
    return value


def _only_version(value: Any) -> Any:
    if type(value) is not int or value != 1:
        raise ValueError(f"expected 1, the only version there is, received {_short(value)}")
    return value


def _whole_keys(value: Any) -> Any:
    """Take the classes 0, 1, … also as text, which is how `--set` and JSON write keys."""
    if not isinstance(value, Mapping):
        return value
    return {
        int(key) if isinstance(key, str) and re.fullmatch("[0-9]{1,9}", key) else key: weight
        for key, weight in value.items()
    }


class Config(Section):
    """A whole config, with every default filled in."""

    version: Annotated[Literal[1], BeforeValidator(_only_version)] = 1
    """Version of the config's shape."""
    name: FileName
    """Name of the run; default the file's stem."""
    base: str
    """Folder that relative paths and callables start from; default the config's own."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Seed of attempt 1; later seeds derive from it."""
    data: Data
    """The data."""
    model: Model
    """The model: exactly one of layers and factory."""
    compile: Compile | None = None
    """What `model.compile` gets; null where a factory returns a compiled model."""
    batch_size: PositiveInt = 32
    """Rows of a training step."""
    phases: Annotated[list[PhasePlan], Field(min_length=1)]
    """The phases, in order; together they are one training."""
    checks: Annotated[Checks, BeforeValidator(_null_is_empty)] = Checks()
    """The checks after every phase."""
    restart: Annotated[Restart, BeforeValidator(_null_is_empty)] = Restart()
    """What to do when an attempt fails."""
    deterministic: Annotated[Literal["auto"] | bool, BeforeValidator(_auto_or_flag)] = "auto"
    """Make TensorFlow's operations deterministic; auto means on a machine without GPU."""
    tensorboard: Flag = False
    """Write TensorBoard files with each attempt."""
    keep: Literal["accepted", "all"] = "accepted"
    """Which attempts' checkpoints stay after the run."""
    stall_timeout: PositiveFloat = 600.0
    """Seconds without progress after which a worker counts as hung."""
    fit: Annotated[Fit, BeforeValidator(_null_is_empty)] = Fit()
    """What else `model.fit` gets."""

    _written: Document | None = pydantic.PrivateAttr(default=None)

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key of this config, with its file and line where they are known."""
        if self._written is not None:
            return self._written.problem(key, message, hint)
        name = ".".join(map(str, key))
        return Problem(file=self.name, key=name, message=message, hint=hint)

    @property
    def source(self) -> bytes:
        """The file as given; what `dump` writes for a config that came from no file."""
        return self.dump().encode() if self._written is None else self._written.source

    def path(self, written: str) -> Path:
        """A path of the config, seen from its base folder."""
        return _path(self.base, written)

    def dump(self) -> str:
        """The config as YAML that `load` reads back to a config of the same values."""
        return document.dump(self.model_dump())


def load(path: Path | str, overrides: Iterable[str] = ()) -> Config:
    """Read and check a config.

    Args:
        path: the YAML file.
        overrides: `a.b=c` assignments laid over it.

    Returns:
        The config, with every default filled in.

    Raises:
        InvalidError: with every problem that needs neither Keras nor the data.
    """
    path = Path(path)
    return check(document.override(document.read(path), overrides), path)


def check(written: Document, path: Path) -> Config:
    """Check a document against the schema, across its keys and against the file system.

    Args:
        written: the document.
        path: its file; `name` and `base` default from it.

    Returns:
        The config.

    Raises:
        InvalidError: with every problem.
    """
    value = dict(written.value)
    value.setdefault("name", _file_name(path.stem))
    folder = path.resolve().parent
    base = value.get("base")
    value["base"] = str(_path(folder, base)) if isinstance(base, str) else base or str(folder)
    problems = [
        *written.problems,
        *_check_compile(written),
        *_check_phases(written),
        *_check_files(value["base"], written),
    ]
    try:
        config = Config.model_validate(value)
    except pydantic.ValidationError as error:
        problems += _problems(error, written)
    if problems:
        unique = {(problem.line, problem.key, problem.message): problem for problem in problems}
        raise InvalidError(sorted(unique.values(), key=lambda problem: problem.line or 0))
    config._written = written
    return config


def _file_name(stem: str) -> str:
    """The nearest name to a file's stem that can be a run's name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).lstrip(".-")[:100] or "run"


def _path(base: Path | str, written: str) -> Path:
    # Not Path.expanduser, which raises for an unknown user and only looks at the first part.
    return Path(base, os.path.expanduser(written))


def _check_compile(written: Document) -> Iterable[Problem]:
    if _dig(written.value, "model", "layers") and written.value.get("compile") is None:
        message = "missing: a model given as layers has no loss yet"
        yield written.problem(("compile",), message, "add compile: {loss: mse}")


def _check_phases(written: Document) -> Iterable[Problem]:
    plans = written.value.get("phases")
    names = [_dig(plan, "name") for plan in plans] if isinstance(plans, list) else []
    for index, name in enumerate(names):
        key = ("phases", index, "name")
        if name == INIT:
            message = f"{INIT!r} is the phase before training"
            yield written.problem(key, message, "choose another name")
        if isinstance(name, str) and name in names[:index]:
            yield written.problem(key, f"the name {name!r} is taken", "choose another name")
    found = _dig(written.value, "checks", "metric")
    gates = found if isinstance(found, list) else [found]
    for index, gate in enumerate(gates):
        wanted = _dig(gate, "phases")
        for name in wanted if isinstance(wanted, list) else ():
            if isinstance(name, str) and name not in names:
                place = (index,) if isinstance(found, list) else ()
                key_of_gate: Key = ("checks", "metric", *place, "phases")
                hint = suggestion(name, [known for known in names if isinstance(known, str)])
                yield written.problem(key_of_gate, f"there is no phase {name!r}", hint)


def _check_files(base: Any, written: Document) -> Iterable[Problem]:
    if not isinstance(base, str):
        return
    if not os.path.isdir(base):
        yield written.problem(("base",), f"there is no folder {base}", "correct the path")
        return
    for part in ("train", "validation"):
        for kind in ("csv", "npz"):
            file = _dig(written.value, "data", part, kind)
            # Not Path.is_file, which raises for a name that is too long.
            if isinstance(file, str) and not os.path.isfile(_path(base, file)):
                message = f"there is no file {_short(file)}"
                yield written.problem(("data", part, kind), message, f"paths start from {base}")


def _problems(error: pydantic.ValidationError, written: Document) -> Iterable[Problem]:
    """Pydantic's errors in our words."""
    for item in error.errors(include_url=False):
        location = tuple(part for part in item["loc"] if str(part) not in {*_TAGGED, "[key]"})
        yield written.problem(_as_written(location, written), *_explain(item))


def _as_written(location: tuple[int | str, ...], written: Document) -> Key:
    """The path as the user wrote it: `Dense.units`, not `arguments.units`; one gate, not gate 0."""
    value = written.value
    key: list[int | str] = []
    for part in location:
        if isinstance(value, Mapping) and part == "arguments" and len(value) == 1:
            part = next(iter(value))
        elif isinstance(value, Mapping) and isinstance(part, int) and part not in value:
            continue
        key.append(part)
        value = _dig(value, part)
    return tuple(key)


_EXPECTED = {
    "model_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "list_type": "a list",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "invalid_key": "a text",
    "too_short": "at least {min_length} item",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
}
"""What was expected, by the type of pydantic's error."""

_PATTERNS = {
    _REFERENCE: "package.module:function",
    _DELIMITER: "one character",
    _FILE_NAME: "at most 100 letters, digits, '_', '-' and '.'",
}
"""What was expected, by the pattern that a text does not match."""

_EXAMPLES = {
    "data": "add data: {train: {csv: FILE, target: COLUMN}}",
    "model": "add model: {layers: [{Dense: {units: 1}}]}",
    "phases": "add phases: [{name: main, epochs: 10}]",
    "target": "name the column to predict",
    "loss": "add loss: mse, or another Keras loss",
}
"""What to add for a required key."""


def _explain(item: Any) -> tuple[str, str | None]:
    """What was expected and received, and what to do, for one of pydantic's errors."""
    kind, location, received = item["type"], item["loc"], item["input"]
    context = item.get("ctx", {})
    hint = None
    if kind == "extra_forbidden":
        return f"unknown key {_short(location[-1])}", _home(str(location[-1]), location[:-1])
    if kind == "missing":
        return "missing, it is required", _EXAMPLES.get(location[-1])
    if kind == "value_error":
        return str(context["error"]), None
    if kind in {"one_of", "rung"}:
        expected = item["msg"].removeprefix("expected ")
        if kind == "one_of":
            hint = _misspelt(received, item["msg"].removeprefix(_ONE_OF).split(", "))
    elif kind == "string_pattern_mismatch":
        expected = _PATTERNS[context["pattern"]]
    elif kind == "literal_error":
        expected = context["expected"].replace("False", "false")
        match = closest(str(received), re.findall(r"'([^']*)'", expected))
        hint = match and f"did you mean {match!r}?"
    else:
        expected = _EXPECTED.get(kind, item["msg"]).format(**context)
    if location[-1] == "[key]":
        return f"expected {expected} as key, received {_short(received)}", None
    if kind == "list_type" and isinstance(received, str | int | float):
        hint = f"write it as a list: [{received}]"
    if kind == "string_type" and isinstance(received, int | float):
        hint = "put it in quotes to make it a text"
    return f"expected {expected}, received {_short(received)}", hint


def _misspelt(received: Any, keys: Sequence[str]) -> str | None:
    """The key that was meant, where a mapping that is told apart by its keys has none of them."""
    if not isinstance(received, Mapping) or any(key in received for key in keys):
        return None
    matches = (closest(str(name), keys) for name in received)
    return next((f"did you mean {match!r}?" for match in matches if match), None)


def _short(value: Any) -> str:
    """A value as YAML would write it, cut to a length that a message can carry."""
    if isinstance(value, Mapping):
        text = f"the keys {', '.join(map(str, value))}" if value else "an empty mapping"
    elif value is None:
        text = "nothing"
    else:
        text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 100 else f"{text[:99]}…"


_TAGGED: dict[str, type[Section]] = {
    "<csv>": CsvSource,
    "<npz>": NpzSource,
    "<callable>": CallableSource,
    "<fraction>": Split,
    "<layers>": LayersModel,
    "<factory>": FactoryModel,
    "<new_seed>": NewSeed,
    "<lower_learning_rate>": LowerLearningRate,
    "<leaky_relu>": LeakyRelu,
}
"""The members of the unions by the tags that pydantic puts into locations."""


def _sections_in(annotation: Any) -> Iterable[type[Section]]:
    """The sections in an annotation, inside unions and lists too."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for inner in typing.get_args(annotation):
        yield from _sections_in(inner)


def _home(name: str, location: tuple[int | str, ...]) -> str:
    """Where an unknown key belongs: a misspelling here, a key of another section, or neither."""
    section: type[Section] = Config
    path: list[str] = []
    for part in location:
        if part in _TAGGED:
            section = _TAGGED[str(part)]
        elif isinstance(part, str):
            section = next(iter(_sections_in(section.model_fields[part].annotation)))
            path.append(part)
    valid = list(section.model_fields)
    if closest(name, valid, cutoff=0.8) is None:
        every = dict.fromkeys(place for key, place in _keys(Config, ()) if key == name)
        if name == "learning_rate":  # Keras's own name in the optimizer's arguments
            every[("compile", "optimizer")] = None
        inside = [place for place in every if place[: len(path)] == tuple(path)] or list(every)
        if 0 < len(inside) <= 3 and tuple(path) not in every:
            places = (".".join(place) if place else "the top level" for place in inside)
            return f"it belongs in {' or '.join(places)}"
    return suggestion(name, valid)


def _keys(section: type[Section], path: tuple[str, ...]) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Every key of the schema with the path of the section that it belongs in."""
    for key, field in section.model_fields.items():
        yield key, path
        for inner in _sections_in(field.annotation):
            if inner is not Named:
                yield from _keys(inner, (*path, key))
