"""The types of fields in our YAML documents, and what editors are told about each.

From YAML every scalar arrives as text and its type reads it. The same rule vocabulary is also
read from JSON snapshots, where values are typed already: validation with the context
`{"typed": True}` takes JSON's own numbers and booleans instead of text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
)

from balancer.model.cluster import Priority
from balancer.model.rule import SelectBy, Selector
from balancer.policy.faults import shown_value
from balancer.policy.quantities import (
    INTEGER_MAX,
    parse_count,
    parse_duration,
    parse_flag,
    parse_number,
    parse_percent,
    parse_rate,
    parse_size,
)

TYPED = {"typed": True}  # context of a validation whose scalars are JSON's, not text


class Document(BaseModel):
    """Base of everything we read from YAML: frozen, and unknown keys are errors.

    Built when first read: most are parts, which nobody reads but within a whole document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _reads(
    parse: Callable[[str], object], expected: str, *typed: type
) -> Callable[[object, ValidationInfo], object]:
    """Return a validator that parses text, or in typed documents takes `typed` as they are."""

    def read(value: object, info: ValidationInfo) -> object:
        if info.context is not None and info.context.get("typed"):
            if type(value) in typed:
                return value
        elif isinstance(value, str):
            return parse(value)
        elif type(value) in typed:
            return value  # a default, given in Python
        raise ValueError(f"expected {expected}, not {shown_value(value)}")

    return read


def _schema(kind: str, pattern: str, example: str) -> WithJsonSchema:
    return WithJsonSchema({"type": kind, "pattern": pattern, "examples": [example]})


_NUMBER = r"[0-9]{1,18}(\.[0-9]{1,18})? ?"
SIZE_PATTERN = f"^{_NUMBER}([KMGTP]i)?B$"

Flag = Annotated[
    bool,
    BeforeValidator(_reads(parse_flag, "true or false", bool)),
    WithJsonSchema({"type": "boolean"}),
]
Count = Annotated[
    int,
    BeforeValidator(_reads(parse_count, "a whole number, for example 12", int)),
    Field(ge=0, le=INTEGER_MAX),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": INTEGER_MAX}),
]
Positive = Annotated[
    int,
    BeforeValidator(_reads(parse_count, "a whole number, for example 12", int)),
    Field(ge=1, le=INTEGER_MAX),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}),
]
FAILURES_MAX = 3  # hosts at once: more are a disaster, and there are too many sets of them
Failures = Annotated[
    int,
    BeforeValidator(_reads(parse_count, "a whole number, for example 1", int)),
    Field(ge=0, le=FAILURES_MAX),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": FAILURES_MAX}),
]
Number = Annotated[
    float,
    BeforeValidator(_reads(parse_number, "a number, for example 1.5", int, float)),
    Field(ge=0, allow_inf_nan=False),
    WithJsonSchema({"type": "number", "minimum": 0}),
]
Percent = Annotated[
    float,
    BeforeValidator(_reads(parse_percent, "a percentage from 1% to 100%, for example 80%", float)),
    _schema("string", r"^([1-9][0-9]?(\.[0-9]+)?|100(\.0+)?) ?%$", "80%"),
]
Size = Annotated[
    int,
    BeforeValidator(_reads(parse_size, "a size with its unit, for example 32 GiB", int)),
    _schema("string", SIZE_PATTERN, "32 GiB"),
]
Duration = Annotated[
    float,
    BeforeValidator(_reads(parse_duration, "a duration with its unit, for example 15m", float)),
    _schema("string", f"^{_NUMBER}[smhd]$", "15m"),
]
Rate = Annotated[
    float,
    BeforeValidator(_reads(parse_rate, "a rate with its unit, for example 10 Gbit/s", float)),
    _schema("string", f"^{_NUMBER}[kMGT]?bit/s$", "10 Gbit/s"),
]


def _share(value: object) -> object:
    """Read a share that is kept free: below all of it, else nothing could run."""
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 -- the validator's way of refusing
            f"expected a percentage from 1% to 99%, for example 10%, not {shown_value(value)}"
        )
    share = parse_percent(value)
    if share >= 1.0:
        raise ValueError(
            f"expected a percentage from 1% to 99%, for example 10%, not {value!r}: "
            "nothing would be left for VMs"
        )
    return share


def _share_or_size(value: object) -> object:
    """Read what memory is kept free: a share (a float) or bytes (an integer)."""
    if isinstance(value, str) and not value.strip().endswith("%"):
        try:
            return parse_size(value)
        except ValueError as error:
            raise ValueError(
                "expected a percentage or a size with its unit, for example 10% or 8 GiB, "
                f"not {value!r}"
            ) from error
    return _share(value)


_SHARE_PATTERN = r"^[1-9][0-9]?(\.[0-9]{1,18})? ?%$"
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": _SHARE_PATTERN, "examples": ["10%"]}),
]
ShareOrSize = Annotated[
    float | int,
    BeforeValidator(_share_or_size),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": f"{_SHARE_PATTERN}|{SIZE_PATTERN}",
            "examples": ["10%", "8 GiB"],
        }
    ),
]


# In an editor's eyes `012` and `no` are a number and a boolean; for us they are text.
_WORDS: dict[str, Any] = {"type": ["string", "number", "boolean"]}
_TEXT: dict[str, Any] = {**_WORDS, "pattern": r"\S"}


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("expected text, not nothing")
    return text


Words = Annotated[str, WithJsonSchema(_WORDS)]
Text = Annotated[str, AfterValidator(_not_blank), WithJsonSchema(_TEXT)]
Version1 = Annotated[Literal["1"], WithJsonSchema({"const": 1})]


def _selector(allowed: frozenset[SelectBy], example: str) -> Callable[[object], Selector]:
    """Return a reader of selectors: a plain string, or a mapping with one of `allowed`."""
    words = sorted(by.value for by in allowed)

    def read(value: object) -> Selector:
        if isinstance(value, Selector):
            return value
        if isinstance(value, str):
            return _checked(SelectBy.EXACT, value, example)
        if isinstance(value, dict) and len(value) == 1:
            ((word, wanted),) = value.items()
            if word in words and isinstance(wanted, str):
                return _checked(SelectBy(word), wanted, example)
        raise ValueError(
            f"expected a name, or one of {', '.join(f'{{{word}: …}}' for word in words)}, "
            f"for example {example}, not {_as_written(value)}"
        )

    return read


def _as_written(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown_value(inner)}" for key, inner in value.items()) + "}"
    return shown_value(value)


def _checked(by: SelectBy, value: str, example: str) -> Selector:
    if not value.strip():
        raise ValueError(f"expected a name or a pattern, for example {example}, not nothing")
    if by is SelectBy.PRIORITY and value not in list(Priority):
        words = ", ".join(Priority)
        raise ValueError(f"expected one of the priorities {words}, for example high, not {value!r}")
    return Selector(by, value)


def _selector_schema(allowed: frozenset[SelectBy]) -> dict[str, Any]:
    properties: dict[str, Any] = {by.value: _TEXT for by in SelectBy if by in allowed}
    if SelectBy.PRIORITY in allowed:
        properties["priority"] = {"enum": [word.value for word in Priority]}
    return {
        "anyOf": [
            _TEXT,
            {
                "type": "object",
                "properties": properties,
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ]
    }


_VM_WAYS = frozenset(SelectBy) - {SelectBy.EXACT}
_HOST_WAYS = frozenset({SelectBy.GLOB, SelectBy.HOST})
VmSelector = Annotated[
    Selector,
    BeforeValidator(_selector(_VM_WAYS, "{glob: web-*}")),
    WithJsonSchema(_selector_schema(_VM_WAYS)),
]
HostSelector = Annotated[
    Selector,
    BeforeValidator(_selector(_HOST_WAYS, "{glob: HV0*}")),
    WithJsonSchema(_selector_schema(_HOST_WAYS)),
]
