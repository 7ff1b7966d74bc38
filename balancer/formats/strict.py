"""JSON as the contract takes it: UTF-8, no NaN, no infinity, nothing beyond 2^63, no key twice.

`null` counts as absent, which is what other tools mean by it. Errors carry the line for broken
syntax and the path (`vms[3].host`) for everything else.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, WithJsonSchema

from balancer.errors import InputError, Place
from balancer.policy.faults import Path, key_path, raised, shown_value, translate
from balancer.policy.quantities import INTEGER_MAX, shown
from balancer.policy.reading import text_of

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DIGITS_MAX = len(str(INTEGER_MAX)) + 1  # with a sign; more is refused without being converted

M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class _Seen:
    """What the scanner's hooks noticed, to be told with its place afterwards."""

    unusable: bool = False
    twice: str | None = None

    def whole(self, digits: str) -> int | float:
        if len(digits) <= _DIGITS_MAX and abs(value := int(digits)) <= INTEGER_MAX:
            return value
        self.unusable = True
        return math.inf

    def real(self, digits: str) -> float:
        value = float(digits)
        self.unusable = self.unusable or math.isinf(value)
        return value

    def constant(self, word: str) -> float:
        self.unusable = True
        return float(word)

    def mapping(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = {key: value for key, value in pairs if value is not None}
        if len(found) != len(pairs) and self.twice is None:
            self.twice = _twice(pairs)
        return found


def _twice(pairs: list[tuple[str, Any]]) -> str | None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    return None


def parse_json(document: str | bytes, file: str, what: str) -> dict[str, Any]:
    """Return the object that a JSON document consists of.

    Raises:
        InputError: Not UTF-8, not JSON (with the line), cut off, or not an object.
    """
    text = text_of(document, file, what)
    seen = _Seen()
    try:
        tree = json.loads(
            text,
            object_pairs_hook=seen.mapping,
            parse_int=seen.whole,
            parse_float=seen.real,
            parse_constant=seen.constant,
        )
    except json.JSONDecodeError as error:
        raise _broken(error, text, file, what) from error
    except RecursionError as error:
        raise InputError(
            f"the {what} is nested too deeply to be one",
            place=Place(file),
            remedy=f"check that this is the {what} you mean",
        ) from error
    if seen.twice is not None:
        raise InputError(
            f"the key {shown(seen.twice)} stands twice in one object",
            place=Place(file),
            remedy="remove one of the two",
        )
    if not isinstance(tree, dict):
        raise InputError(
            f"expected a JSON object at the top of the {what}, not {shown_value(tree)}",
            place=Place(file),
            remedy=f"check that this is the {what} you mean",
        )
    if seen.unusable or _SURROGATE_ESCAPE.search(text):
        faults = list(_unusable_in(tree, (), file))
        if faults:
            raise raised(faults)
    return tree


def _broken(error: json.JSONDecodeError, text: str, file: str, what: str) -> InputError:
    if not text.strip():
        return InputError(
            f"the {what} is empty", place=Place(file), remedy=f"write the {what} again"
        )
    cut_off = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")
    return InputError(
        f"the {what} ends too early: {error.msg}" if cut_off else f"this is not JSON: {error.msg}",
        place=Place(file, error.lineno, error.colno),
        remedy="the file was cut off: write it again" if cut_off else "correct it at this place",
    )


def _unusable_in(tree: object, path: Path, file: str) -> Iterator[InputError]:
    """Yield an error for every number and every text that no document of ours may contain."""
    match tree:
        case float() if not math.isfinite(tree):
            yield InputError(
                "expected a finite number below 2^63",
                place=Place(file, key=key_path(path)),
                remedy="NaN, infinity and whole numbers beyond 2^63 are refused",
            )
        case str() if _SURROGATE.search(tree):
            yield InputError(
                f"expected text without broken characters, not {shown(tree)}",
                place=Place(file, key=key_path(path)),
                remedy=r"remove half a surrogate pair: \ud800 to \udfff stand in twos",
            )
        case dict():
            for key, value in tree.items():
                yield from _unusable_in(key, path, file)
                yield from _unusable_in(value, (*path, key), file)
        case list():
            for index, value in enumerate(tree):
                yield from _unusable_in(value, (*path, index), file)


def validated(tree: dict[str, Any], file: str, model: type[M], schema: str, what: str) -> M:
    """Return the model that `tree` describes.

    Raises:
        InputError: Another schema than `schema`, or one or more faults with their paths.
    """
    if (said := tree.get("schema")) != schema:
        raise InputError(
            f"expected schema {schema!r}, not {shown_value(said)}",
            place=Place(file, key="schema"),
            remedy=f"check that this is a {what}, made for this version of the program",
        )
    try:
        return model.model_validate(tree, context={"typed": True})
    except ValidationError as error:
        raise translate(error, model, lambda path, _: Place(file, key=key_path(path))) from error


def _whole(value: object) -> object:
    """Take an integer, or a float that is one: PowerShell writes 6.8719476736E+10."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) <= INTEGER_MAX:
        return int(value)
    raise ValueError(f"expected a whole number, not {shown_value(value)}")


def _moment(value: object) -> datetime:
    """Take an RFC 3339 time and return it in UTC."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in str(value).upper():
        raise ValueError(
            "expected an RFC 3339 time with its zone, for example 2026-01-31T12:00:00Z, "
            f"not {shown_value(value)}"
        )
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("expected a time in the years 1 to 9999") from error


def utc(moment: datetime) -> str:
    """Return a time as our documents write it: RFC 3339, UTC, `Z`."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


Whole = Annotated[
    int,
    BeforeValidator(_whole),
    Field(ge=0),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": INTEGER_MAX}),
]
PositiveWhole = Annotated[
    int,
    BeforeValidator(_whole),
    Field(ge=1),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": INTEGER_MAX}),
]
Real = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
PositiveReal = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
AnyReal = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Truth = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(min_length=1)]
Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def write_json(document: dict[str, Any]) -> str:
    """Return a document as we write it: UTF-8, keys in the contract's order, one final newline.

    Lists of objects get a line for each object, so that documents can be read and compared.
    """
    lines = []
    for key, value in document.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            entries = ",\n".join(f"    {_compact(entry)}" for entry in value)
            lines.append(f"  {_compact(key)}: [\n{entries}\n  ]")
        else:
            lines.append(f"  {_compact(key)}: {_compact(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
