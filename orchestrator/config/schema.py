"""The config's schema: what each key means, its type, its default and its bounds.

`config.load` makes a `Config` of a file; everything else gets it from there. The sections that have
much to say stand in `sections/`. Where a file may hold more than a `Config` does,
`json_schema_input_type` and `json_schema_extra` tell `json_schema`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field

from orchestrator.config import yaml12
from orchestrator.config.document import Document
from orchestrator.config.sections.base import (
    AutoFlag,
    FileName,
    Flag,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Section,
)
from orchestrator.config.sections.checks import Checks
from orchestrator.config.sections.data import Data
from orchestrator.config.sections.model import Compile, Model, Named
from orchestrator.config.sections.restart import Restart
from orchestrator.config.sections.tune import Tune
from orchestrator.config.yaml12 import Key
from orchestrator.errors import Problem, short
from orchestrator.record.records import Settings

if TYPE_CHECKING:
    from orchestrator.config.given import Given, Sent


def _or_null(section: type[Section]) -> BeforeValidator:
    """`checks:` with nothing behind it means the defaults."""
    return BeforeValidator(
        lambda value: {} if value is None else value, json_schema_input_type=section | None
    )


class PhasePlan(Section):
    """Consecutive epochs that end in checks."""

    name: FileName
    """Name in the records."""
    epochs: PositiveInt
    """How many."""
    learning_rate: PositiveFloat | None = None
    """Rate of this phase; null means the optimizer's own rate or schedule."""


CLASS = "^[0-9]{1,9}$"
_ByClass = Annotated[
    dict[Annotated[str, Field(pattern=CLASS)], PositiveFloat],
    Field(json_schema_extra={"additionalProperties": False}),
]


class Fit(Section):
    """What else `model.fit` gets."""

    class_weight: Annotated[
        dict[int, PositiveFloat] | None,
        BeforeValidator(_whole_keys, json_schema_input_type=_ByClass | None),
    ] = None
    """Weight of each class in the loss."""
    callbacks: list[Named] = []
    """Keras callbacks, or functions of the user's that return one."""


def _only_version(value: Any) -> Any:
    if type(value) is not int or value != 1:
        raise ValueError(f"expected 1, the only version there is, received {short(value)}")
    return value


def _whole_keys(value: Any) -> Any:
    """Take the classes 0, 1, … also as text, which is how `--set` and JSON write keys."""
    if not isinstance(value, Mapping):
        return value
    return {
        int(key) if isinstance(key, str) and re.fullmatch(CLASS, key) else key: weight
        for key, weight in value.items()
    }


class Config(Section):
    """A whole config, with every default filled in."""

    # `config.check` fills in the others.
    model_config = ConfigDict(json_schema_extra={"required": ["data", "model", "phases"]})

    version: Annotated[
        Literal[1], BeforeValidator(_only_version, json_schema_input_type=Literal[1])
    ] = 1
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
    """The model: exactly one of layers, factory and file."""
    compile: Compile | None = None
    """What `model.compile` gets; null where the factory or file gives a compiled model."""
    batch_size: PositiveInt = 32
    """Rows of a training step."""
    phases: Annotated[list[PhasePlan], Field(min_length=1)]
    """The phases, in order; together they are one training."""
    checks: Annotated[Checks, _or_null(Checks)] = Checks()
    """The checks after every phase."""
    restart: Annotated[Restart, _or_null(Restart)] = Restart()
    """What to do when an attempt fails."""
    deterministic: AutoFlag = "auto"
    """Make TensorFlow's operations deterministic; auto means on a machine without GPU, unless
    compile.jit_compile asks for XLA."""
    tensorboard: Flag = False
    """Write TensorBoard files with each attempt."""
    keep: Literal["accepted", "all"] = "accepted"
    """Which attempts' checkpoints stay after the run."""
    stall_timeout: PositiveFloat = 600.0
    """Seconds without progress after which a worker counts as hung."""
    checkpoint_seconds: NonNegativeFloat = 30.0
    """How many seconds of training a kill may cost: so often is a snapshot written, but not so
    often that it takes more than a hundredth of the training; 0 writes one after every epoch."""
    fit: Annotated[Fit, _or_null(Fit)] = Fit()
    """What else `model.fit` gets."""
    tune: Annotated[Tune, _or_null(Tune)] = Tune()
    """What `orchestrate tune` searches."""

    _written: Document | None = pydantic.PrivateAttr(default=None)
    _given: Any = pydantic.PrivateAttr(default=None)

    @property
    def given(self) -> Given | Sent:
        """What `retrain` was given in Python."""
        if self._given is None:
            raise ValueError("Expected a config of retrain's. Received: one of a file")
        given: Given | Sent = self._given
        return given

    def with_given(self, given: Given | Sent) -> Config:
        """The config with what `retrain` was given in Python."""
        changed = self.model_copy()
        changed._given = given
        return changed

    def problem(self, key: Key, message: str, hint: str | None = None) -> Problem:
        """A problem at a key of this config, with its file and line where they are known."""
        if self._written is not None:
            return self._written.problem(key, message, hint)
        name = ".".join(map(str, key))
        return Problem(file=self.name, key=name, message=message, hint=hint)

    def epochs_of(self, plan: PhasePlan, settings: Settings) -> int:
        """The epochs that one of the phases has under some settings, which may add to the last."""
        more = settings.more_epochs if plan is self.phases[-1] else None
        return plan.epochs + (more or 0)

    @property
    def source(self) -> bytes:
        """The file as given; what `dump` writes for a config that came from no file."""
        return self.dump().encode() if self._written is None else self._written.source

    def path(self, written: str) -> Path:
        """A path of the config, seen from its base folder."""
        return resolve(self.base, written)

    def dump(self) -> str:
        """The config as YAML that `load` reads back to a config of the same values.

        Without `tune` where that says nothing, for it is not about a run.
        """
        unsaid = {"tune"} if self.tune == Tune() else set()
        return yaml12.dump(self.model_dump(exclude=unsaid))


def resolve(base: Path | str, written: str) -> Path:
    """A path of a config, seen from its base folder."""
    # Not Path.expanduser, which raises for an unknown user and only looks at the first part.
    return Path(base, os.path.expanduser(written))
