"""Tables of keys, made from a JSON Schema for people who read documentation."""

from __future__ import annotations

from typing import Any

KINDS_OF_VALUE = {
    "array": "a list",
    "boolean": "`true`, `false`",
    "number": "a number",
    "object": "a mapping",
    "string": "text",
}


def table(part: dict[str, Any], made: dict[str, Any]) -> str:
    """Return a table of the properties of `part`, an object in the schema `made`."""
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in part["properties"].items():
        needed = name in part.get("required", ())
        default = "required" if needed else _default(field)
        meaning = " ".join(field.get("description", "").split())
        rows.append(f"| `{name}` | {_value(field, made)} | {default} | {meaning} |")
    return "\n".join(rows)


def _default(field: dict[str, Any]) -> str:
    default = field.get("default")
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default}`" if isinstance(default, str | int) and default != "" else ""


def resolved(field: dict[str, Any], made: dict[str, Any]) -> dict[str, Any]:
    """Return what a property really is: without its null, its references followed."""
    for choice in field.get("anyOf", ()):
        if choice != {"type": "null"}:
            return resolved(choice, made)
    if "$ref" in field:
        found: dict[str, Any] = made["$defs"][field["$ref"].rpartition("/")[2]]
        return found
    return field


def _value(field: dict[str, Any], made: dict[str, Any]) -> str:
    """Return in words what may be written as a property's value."""
    match resolved(field, made):
        case {"const": only}:
            return f"`{only}`"
        case {"enum": words}:
            return ", ".join(f"`{word}`" for word in words)
        case {"examples": examples}:
            return "such as " + " or ".join(f"`{example}`" for example in examples)
        case {"type": "integer", "minimum": least}:
            return f"a whole number from {least}"
        case {"type": str(kind)}:
            return KINDS_OF_VALUE[kind]
    return "text"
