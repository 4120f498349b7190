"""What every section of the config is made of: the base class, and the types of its values."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from annotated_types import GroupedMetadata
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field
from pydantic_core import PydanticCustomError

from orchestrator.errors import short, suggestion
from orchestrator.record.records import FILE_NAME, Cause


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


def known(*names: str) -> BeforeValidator:
    """Refuse other names, and say which one was meant."""

    def check(value: Any) -> Any:
        if value not in names:
            raise ValueError(f"unknown name {short(value)}; {suggestion(str(value), names)}")
        return value

    return BeforeValidator(check)


CauseName = Annotated[Cause, known(*typing.get_args(Cause))]
"""Name of what a finding may point to."""


def flag(value: Any) -> Any:
    """YAML 1.2 reads on, off, yes and no as text; where a boolean is expected they are one."""
    words = {"on": True, "yes": True, "off": False, "no": False}
    return words.get(value.casefold(), value) if isinstance(value, str) else value


Word = Annotated[str, Field(pattern="^([Oo][Nn]|[Oo][Ff][Ff]|[Yy][Ee][Ss]|[Nn][Oo])$")]
Off = Literal[False] | Annotated[str, Field(pattern="^([Oo][Ff][Ff]|[Nn][Oo])$", examples=["off"])]
Flag = Annotated[bool, BeforeValidator(flag, json_schema_input_type=bool | Word)]


def auto_or_flag(value: Any) -> Any:
    """A flag, or `auto`."""
    value = flag(value)
    if value != "auto" and not isinstance(value, bool):
        raise ValueError(f"expected auto, true or false, received {short(value)}")
    return value


AutoFlag = Annotated[
    Literal["auto"] | bool,
    BeforeValidator(auto_or_flag, json_schema_input_type=Literal["auto"] | bool | Word),
]
FileName = Annotated[str, Field(pattern=FILE_NAME)]
"""Text that can be part of a file name."""
REFERENCE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
Reference = Annotated[str, Field(pattern=REFERENCE, examples=["package.module:function"])]
"""`package.module:function`, looked up from the config's folder first."""
MODULE = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"
ModuleName = Annotated[str, Field(pattern=MODULE)]
"""Name of a module, looked up from the config's folder first."""
DELIMITER = r'^[^\r\n"\x00]$'
Delimiter = Annotated[str, Field(pattern=DELIMITER)]
"""One character that separates the cells of a table."""
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def shape_tag(value: Any) -> str:
    """Whether there is one for all outputs, a list of one each, or one each by name."""
    if isinstance(value, Mapping):
        return "<by_name>"
    return "<each>" if isinstance(value, list) else "<one>"


def list_tag(value: Any) -> str:
    """Like `shape_tag` where one is a list already."""
    return "<by_name>" if isinstance(value, Mapping) else "<each>"


@dataclasses.dataclass(frozen=True, slots=True)
class OneOf(GroupedMetadata):
    """Tells the classes of a union apart by which one of these keys is there."""

    keys: tuple[str, ...]
    """Each is the name of a class's tag, too."""

    def __iter__(self) -> Iterator[object]:
        """What pydantic is to know: the tags, and the error where there is none."""
        yield Discriminator(self._tag)
        yield BeforeValidator(self._expect_tag)

    def _tag(self, value: Any) -> str | None:
        names = value if isinstance(value, Mapping) else getattr(type(value), "model_fields", ())
        found = [key for key in (*self.keys, "given") if key in names]
        return f"<{found[0]}>" if len(found) == 1 else None

    def _expect_tag(self, value: Any) -> Any:
        if self._tag(value) is None:
            raise PydanticCustomError("one_of", "expected one of {keys}", {"keys": self.keys})
        return value
