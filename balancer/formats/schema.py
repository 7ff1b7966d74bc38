"""JSON Schemas (draft 2020-12) of our documents, from the very models that read them.

Editors complete and validate policies with them; other tools check what they hand us. A
schema says what is structurally wrong; what several values together say (a VM on an unknown
host, contradicting rules) only the reader finds.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from balancer.errors import InputError
from balancer.formats.json_schema import schema_of
from balancer.formats.plan_document import PlanDocument
from balancer.formats.snapshot_document import SnapshotDocument
from balancer.policy.load import PolicyDocument

_MODELS: dict[str, type[BaseModel]] = {
    "snapshot": SnapshotDocument,
    "plan": PlanDocument,
    "policy": PolicyDocument,
}


def schema(document: str) -> dict[str, Any]:
    """Return the JSON Schema of a document: `snapshot`, `plan` or `policy`.

    Raises:
        InputError: There is no such document.
    """
    if document not in _MODELS:
        raise InputError(
            f"there is no document {document!r}", remedy=f"use one of: {', '.join(sorted(_MODELS))}"
        )
    made = schema_of(_MODELS[document], document)
    return made if document == "policy" else _typed(made)


def _typed(part: Any) -> Any:
    """Return a schema for JSON, where text is a string and never what YAML makes of it."""
    if isinstance(part, list):
        return "string" if part == ["string", "number", "boolean"] else [_typed(p) for p in part]
    if isinstance(part, dict):
        return {key: _typed(value) for key, value in part.items()}
    return part
