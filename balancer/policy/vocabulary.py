"""The words of rules, derived from the rule kinds: a new kind needs one file and no more.

Each kind is a frozen dataclass; its fields are the keys it takes, its defaults are theirs, and
its docstrings are the reference that administrators read (docs/reference/policy.md).
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, cast, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, create_model, model_validator

from balancer.model.rule import Rule, SelectBy, Selector
from balancer.policy.fields import (
    Document,
    Flag,
    HostSelector,
    Number,
    Positive,
    Share,
    ShareOrSize,
    Text,
    VmSelector,
    Words,
)
from balancer.policy.rules import KINDS
from balancer.policy.span_entry import SpanEntry

NOT_WRITTEN = frozenset({"origin"})  # fields that we fill in, not the administrator

_TYPES: dict[object, object] = {
    bool: Flag,
    int: Positive,
    int | None: Positive | None,
    float: Number,
    str: Text,
}
_OWN_TYPES: dict[str, object] = {  # of fields whose Python type does not tell how to write them
    "name": Words,
    "cpu": Share | None,
    "memory": ShareOrSize | None,
    "windows": Annotated[tuple[SpanEntry, ...], Field(min_length=1)],
}


class _OneRule(Document):
    """One rule: exactly one kind, with its fields."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="after")
    def _exactly_one(self) -> _OneRule:
        given = self.model_fields_set
        if len(given) != 1:
            listed = " and ".join(sorted(given)) or "none"
            raise ValueError(
                "expected exactly one kind of rule, for example "
                f"{{never_move: {{vms: [db1]}}}}, not {listed}"
            )
        return self


def written_fields(kind: type[Rule]) -> list[dataclasses.Field[Any]]:
    """Return the fields of a rule kind that are written down, selectors first."""
    hidden = NOT_WRITTEN | kind.withheld
    fields = [item for item in dataclasses.fields(kind) if item.name not in hidden]
    return sorted(fields, key=lambda item: not _is_selectors(kind, item.name))


def field_docs(kind: type[Rule]) -> dict[str, str]:
    """Return what each field of a rule kind means, from the docstrings of its classes."""
    docs: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        _, _, section = inspect.cleandoc(part.__doc__ or "").partition("Args:\n")
        name = ""
        for line in section.splitlines():
            if begins := re.match(r" {4}(\w+): (.*)", line):
                name, docs[begins[1]] = begins[1], begins[2]
            elif name and line.strip():
                docs[name] += " " + line.strip()
    return docs


@cache  # what a word in an annotation means takes long to find out
def _hints(kind: type[Rule]) -> dict[str, Any]:
    return get_type_hints(kind)


def _is_selectors(kind: type[Rule], name: str) -> bool:
    return bool(_hints(kind)[name] == tuple[Selector, ...])


@cache  # policies and snapshots write most kinds alike
def _fields_model(kind: type[Rule]) -> type[BaseModel]:
    """Return the model of what is written under a rule kind."""
    docs = field_docs(kind)
    hints = _hints(kind)
    definitions: dict[str, Any] = {}
    for item in written_fields(kind):
        required = item.default is dataclasses.MISSING
        if _is_selectors(kind, item.name):
            one: Any = HostSelector if item.name == "hosts" else VmSelector
            annotation: Any = Annotated[tuple[one, ...], Field(min_length=1)]
        else:
            annotation = _OWN_TYPES.get(item.name) or _TYPES[hints[item.name]]
        field = Field(default=... if required else item.default, description=docs.get(item.name))
        definitions[item.name] = (annotation, field)
    doc = inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0]
    made = create_model(f"{kind.kind}_rule", __base__=Document, __doc__=doc, **definitions)
    return cast("type[BaseModel]", made)


def _entry_model(kinds: Iterable[type[Rule]]) -> type[BaseModel]:
    """Return the model of one entry of `rules`: one optional key for each kind."""
    make = cast("Callable[..., type[BaseModel]]", create_model)
    definitions = {kind.kind: (_fields_model(kind) | None, Field(default=None)) for kind in kinds}
    return make(
        "rule",
        __base__=_OneRule,
        __doc__="One rule: exactly one kind, with its fields.",
        **definitions,
    )


if TYPE_CHECKING:
    RuleEntry = BaseModel  # for the type checker, which cannot see what is made at run time
    ClusterRuleEntry = BaseModel
else:
    RuleEntry = _entry_model(KINDS.values())
    ClusterRuleEntry = _entry_model(kind for kind in KINDS.values() if not kind.policy_only)


def rule_of(entry: BaseModel, origin: str) -> Rule:
    """Return the rule that a validated entry of `rules` describes, said at `origin`."""
    (name,) = entry.model_fields_set
    fields = getattr(entry, name)
    given = {key: getattr(fields, key) for key in type(fields).model_fields}
    if "windows" in given:
        given["windows"] = tuple(entry.span() for entry in given["windows"])
    return KINDS[name](**given, origin=origin)


def rule_to_dict(rule: Rule) -> dict[str, Any]:
    """Return a rule as it is written: one key, its kind, with the fields that say something."""
    written: dict[str, Any] = {}
    for item in written_fields(type(rule)):
        value = getattr(rule, item.name)
        if isinstance(value, tuple):
            written[item.name] = [_selector_to_json(selector) for selector in value]
        elif value != item.default:
            written[item.name] = value
    return {rule.kind: written}


def _selector_to_json(selector: Selector) -> str | dict[str, str]:
    if selector.by is SelectBy.EXACT:
        return selector.value
    return {selector.by.value: selector.value}
