"""The JSON Schema (draft 2020-12) of one document, from the very model that reads it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from balancer.policy.quantities import format_duration, format_percent

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_of(model: type[BaseModel], name: str) -> dict[str, Any]:
    """Return the JSON Schema of the document that `model` reads, called `name`."""
    head = {"$schema": DIALECT, "$id": f"urn:balancer:{name}:v1", "title": f"balancer {name}"}
    return {**head, **_tidied(model.model_json_schema())}


def _tidied(part: Any) -> Any:
    """Return a schema as people read it, saying also that null is absent wherever it may be."""
    if isinstance(part, list):
        return [_tidied(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    tidy = {
        key: {name: _tidied(inner) for name, inner in value.items()}
        if key in ("properties", "$defs")
        else _tidied(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str))
        and not (key == "default" and (value is None or isinstance(value, dict)))
    }
    required = tidy.get("required", [])
    one_of_many = tidy.get("minProperties") == 1  # one key has to be there: null is no choice
    for name, inner in tidy.get("properties", {}).items():
        if one_of_many:
            tidy["properties"][name] = inner["anyOf"][0] if "anyOf" in inner else inner
        elif name not in required:
            tidy["properties"][name] = _nullable(_default_as_written(inner))
    return tidy


def _default_as_written(part: dict[str, Any]) -> dict[str, Any]:
    """Return a property whose default is written as the administrator would: 80%, 15m."""
    if "pattern" not in part or not isinstance(part.get("default"), float):
        return part
    is_share = part["examples"][0].endswith("%")
    written = (format_percent if is_share else format_duration)(part["default"])
    return {**part, "default": written}


def _nullable(part: dict[str, Any]) -> dict[str, Any]:
    """Return a property that may be null as well, its description and default outside."""
    if {"type": "null"} in part.get("anyOf", ()):
        return part
    outside = {key: value for key, value in part.items() if key in ("description", "default")}
    inside = {key: value for key, value in part.items() if key not in outside}
    return {**outside, "anyOf": [inside, {"type": "null"}]}
