"""From what the validator found wrong to errors that a person can act on.

Used for every document we read: YAML (where lines are known) and JSON (where the path is).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from balancer.errors import InputError, InputErrorGroup, Place
from balancer.policy.quantities import shown

Path = tuple[str | int, ...]

FAULTS_MAX = 25  # errors of one document that are told; more help nobody


def key_path(path: Path) -> str:
    """Return a path as people write it: `rules[0].apart.vms`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{_step(step)}" if text else _step(step)
    return text


def _step(step: str) -> str:
    return step if step.isidentifier() or step.replace("-", "_").isidentifier() else shown(step)


def raised(faults: list[InputError]) -> InputError:
    """Return one error for all `faults`: itself if it is one, else a group."""
    if len(faults) == 1:
        return faults[0]
    return _group(faults[:FAULTS_MAX], len(faults))


def _group(told: list[InputError], found: int) -> InputError:
    if found > len(told):
        told.append(InputError(f"and {found - len(told)} more errors like these"))
    return InputErrorGroup(tuple(told))


def nearest(word: str, known: list[str]) -> str:
    """Return advice for an unknown word: the one that was probably meant, else all of them."""
    if not known:
        return "remove it"
    folded = {name.casefold().replace("-", "_"): name for name in known}
    close = difflib.get_close_matches(word.casefold().replace("-", "_"), folded, n=1)
    listed = ", ".join(sorted(known))
    return f"did you mean {folded[close[0]]}?" if close else f"use one of: {listed}"


def translate(
    error: ValidationError, model: type[BaseModel], place_of: Callable[[Path, bool], Place]
) -> InputError:
    """Return the validator's findings as one `InputError`, or a group of all of them.

    Args:
        error: What pydantic raised.
        model: The document's model, asked for the known keys beside an unknown one.
        place_of: Returns the place of the value at a path, or with True of its key.
    """
    details = error.errors(include_url=False, include_context=True)
    # Entries that were refused make the list around them look too short as well.
    blamed = {loc[:n] for loc in (detail["loc"] for detail in details) for n in range(len(loc))}
    found = sorted(
        (d for d in details if not (d["type"] == "too_short" and d["loc"] in blamed)),
        key=lambda detail: _position(detail, place_of),
    )
    told = [_fault(detail, model, place_of) for detail in found[:FAULTS_MAX]]
    return told[0] if len(found) == 1 else _group(told, len(found))


def _position(detail: ErrorDetails, place_of: Callable[[Path, bool], Place]) -> tuple[int, int]:
    place = place_of(detail["loc"], detail["type"] == "extra_forbidden")
    return place.line or 0, place.column or 0


def _fault(
    detail: ErrorDetails, model: type[BaseModel], place_of: Callable[[Path, bool], Place]
) -> InputError:
    path: Path = tuple(step for step in detail["loc"] if step != "[key]")
    kind = detail["type"]
    if kind == "missing":
        return InputError(
            f"{path[-1]} is missing",
            place=place_of(path, False),
            remedy=f"add {path[-1]}; it has no default",
        )
    if kind == "extra_forbidden":
        parent = path[:-1]
        return InputError(
            f"unknown key {shown(path[-1])}",
            place=place_of(path, True),
            remedy=nearest(str(path[-1]), list(_keys_at(model, parent))),
        )
    message, remedy = _told(detail)
    return InputError(message, place=place_of(path, False), remedy=remedy)


_EXPECTED = {
    "dict_type": "a mapping (key: value)",
    "model_type": "a mapping (key: value)",
    "model_attributes_type": "a mapping (key: value)",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "path_type": "a path",
    "string_unicode": "text without broken characters",
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
}
_REMEDIES = {
    "list_type": "write a list: [one, two], or one entry a line after a dash",
    "tuple_type": "write a list: [one, two], or one entry a line after a dash",
    "bool_type": "write true or false",
    "finite_number": "NaN, infinity and whole numbers beyond 2^63 are refused",
}
_BOUNDS = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def _told(detail: ErrorDetails) -> tuple[str, str]:
    """Return message and remedy for a value that is not what was expected."""
    kind, found = detail["type"], shown_value(detail["input"])
    context: dict[str, Any] = detail.get("ctx", {})
    if kind in _EXPECTED:
        expected = _EXPECTED[kind]
        return f"expected {expected}, not {found}", _REMEDIES.get(kind, f"write {expected}")
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        expected = f"expected a number {words} {context[bound]:g}"
        return f"{expected}, not {found}", "correct the number"
    if kind in ("enum", "literal_error"):
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        remedy = nearest(str(detail["input"]), known)
        return f"expected one of {', '.join(known)}, not {found}", remedy
    if kind == "string_too_short":
        return "expected text, not nothing", "write its name"
    if kind == "too_short":
        return "expected at least one entry, not none", "add an entry"
    return _in_words(detail["msg"].removeprefix("Value error, "))


def _in_words(message: str) -> tuple[str, str]:
    """Return a message of our own validators, and the remedy that is in it."""
    _, _, example = message.partition(", for example ")
    if example:
        return message, f"write for example {example.partition(', not ')[0]}"
    if message.startswith("expected "):
        return message, "write " + message.removeprefix("expected ").partition(", not ")[0]
    return message, "correct the value"


def shown_value(value: object) -> str:
    """Return a value as a message shows it; containers by what they are."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value}"
    return "nothing" if value is None else shown(value)


def _keys_at(model: type[BaseModel], path: Path) -> Iterator[str]:
    """Yield the keys that a mapping at `path` of a `model` document may have."""
    here: type[BaseModel] | None = model
    for step in path:
        if isinstance(step, str) and here is not None:
            field = here.model_fields.get(step)
            here = _model_in(field.annotation) if field is not None else None
    if here is not None:
        yield from (field.alias or name for name, field in here.model_fields.items())


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the first model inside an annotation such as `tuple[Model, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_in(argument) for argument in get_args(annotation))
    return next((model for model in found if model is not None), None)
