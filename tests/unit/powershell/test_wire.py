"""Every field of every answer is produced by its function, and nothing else is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from balancer.gateway import wire
from tests.unit.powershell import source
from tests.unit.powershell.source import Node, calls, functions, module, objects, text

ANSWERS: dict[str, type[BaseModel]] = {
    "Get-LbVersion": wire.VersionAnswer,
    "Get-LbHost": wire.HostAnswer,
    "Get-LbCluster": wire.ClusterAnswer,
    "Get-LbMigration": wire.MovesAnswer,
    "Start-LbMigration": wire.ActAnswer,
    "Stop-LbMigration": wire.ActAnswer,
    "Set-LbTransport": wire.SettingWriteAnswer,
    "Get-LbControl": wire.ControlAnswer,
    "Set-LbControl": wire.ControlWriteAnswer,
    "Set-LbNode": wire.ActAnswer,
    "Move-LbGroup": wire.ActAnswer,
    "Move-LbVolume": wire.ActAnswer,
    "Set-LbAutoBalancer": wire.SettingWriteAnswer,
}
# Objects that never leave the host: what helpers hand to each other.
INTERNAL = [
    {"percent", "count"},
    {"tpm", "shielded"},
    {"group", "values"},
    {"listeners", "smb"},
]
# "@(" and "$gpus" are counted, not cast.
CASTS = {
    int: (
        "[int]",
        "[long]",
        "Get-LbModuleNumber",
        "Get-LbTransport",
        "Get-LbAutoBalancer",
        "@(",
        "$gpus.Count",
    ),
    float: ("[double]",),
    str: ("[string]", "'", "ConvertTo-LbId", "ConvertTo-LbUtc"),
}


@cache
def reachable(name: str) -> frozenset[str]:
    """A function and everything of ours that it calls, directly or not."""
    known = functions(module())
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        if current in known and current not in seen:
            seen.add(current)
            waiting += [c.name for c in calls(known[current])]
    return frozenset(seen)


@cache
def built(name: str) -> list[dict[str, Node]]:
    return objects(functions(module())[name])


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models below an annotation: of a section, a list, an optional."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation)
    elif get_origin(annotation) in {list, Union, UnionType}:
        for argument in get_args(annotation):
            yield from models(argument)


def producers(model: type[BaseModel], place: str) -> list[dict[str, Node]]:
    """The objects with exactly the model's fields, built where `place` can reach."""
    wanted = set(model.model_fields)
    return [made for name in reachable(place) for made in built(name) if set(made) == wanted]


def pairs() -> list[tuple[str, type[BaseModel]]]:
    """Every model with the function that must produce it."""
    found: list[tuple[str, type[BaseModel]]] = []
    for name, answer in ANSWERS.items():
        found.append((name, answer))
        if name not in {"Get-LbHost", "Get-LbCluster"}:
            found += [
                (name, below)
                for below in models(answer)
                if below is not answer and not issubclass(below, wire.Section)
            ]
            continue
        (made,) = producers(answer, name)
        for key, field in answer.model_fields.items():
            if not key.startswith(("module", "computer")):
                reader = text(made[key])
                found += [
                    (reader, below)
                    for below in models(field.annotation)
                    if not issubclass(below, wire.Section | wire.Fault)
                ]
    return found


def test_every_model_of_the_wire_has_a_producer() -> None:
    defined = {
        value
        for value in vars(wire).values()
        if isinstance(value, type) and issubclass(value, wire.Wire)
    }
    assert {model for _, model in pairs()} == defined - {wire.Wire, wire.Section}


@pytest.mark.parametrize(("name", "model"), pairs(), ids=lambda v: getattr(v, "__name__", v))
def test_the_function_builds_exactly_the_models_fields(name: str, model: type[BaseModel]) -> None:
    assert producers(model, name), f"{name} builds no {model.__name__}"


@pytest.mark.parametrize("name", ["New-LbSection", "New-LbList", "New-LbFailure"])
def test_sections_have_the_sections_fields(name: str) -> None:
    (made,) = built(name)
    assert set(made) == set(wire.Section.model_fields)


@pytest.mark.parametrize("name", ["New-LbFault", "New-LbRefusal"])
def test_faults_have_the_faults_fields(name: str) -> None:
    (made,) = built(name)
    assert set(made) == set(wire.Fault.model_fields)


def test_no_object_has_fields_nobody_reads() -> None:
    known = [set(model.model_fields) for _, model in pairs()]
    known += [set(wire.Section.model_fields), set(wire.Fault.model_fields), *INTERNAL]
    made = [keys for name in functions(module()) for keys in built(name)]
    assert len(made) > 35
    assert [sorted(keys) for keys in made if set(keys) not in known] == []


def test_every_section_of_a_reading_fails_by_itself() -> None:
    for name in ("Get-LbHost", "Get-LbCluster"):
        (made,) = producers(ANSWERS[name], name)
        for key, value in made.items():
            if key in {"module", "computer"}:
                continue
            reader = functions(module())[text(value)]
            assert {"New-LbFailure"} <= {c.name for c in calls(reader)}, key
            body = next(n for n in source.walk(reader) if n.type == "statement_list")
            assert [n.type for n in body.named_children if n.type != "comment"] == ["try_statement"]


@pytest.mark.parametrize(("name", "model"), pairs(), ids=lambda v: getattr(v, "__name__", v))
def test_lists_stay_lists_and_scalars_are_cast(name: str, model: type[BaseModel]) -> None:
    for made in producers(model, name):
        for key, field in model.model_fields.items():
            value = text(made[key])
            if get_origin(field.annotation) is list:
                # One element would collapse into itself, none into nothing.
                assert re.match(r"\[(string|int|object)\[\]\] ", value), f"{key} = {value}"
            elif field.annotation in CASTS:
                assert value.startswith(CASTS[field.annotation]), f"{key} = {value}"


def test_nothing_is_ever_left_where_null_is_meant() -> None:
    # The output of a function that says nothing turns into {} in the JSON of 5.1.
    nullable = {"ConvertTo-LbNumber", "ConvertTo-LbUnsigned", "Get-LbCode", "Get-LbMoveFailure"}
    nullable |= {"Start-LbClusterMove", "Start-LbHostMove", "Stop-LbClusterMove", "Stop-LbHostMove"}
    nullable |= {"Find-LbNode", "Set-LbNodeState", "Move-LbGroupTo", "Move-LbVolumeTo"}
    for name in nullable:
        body = text(functions(module())[name])
        ends = body.rstrip("}\n ").endswith("$null")
        assert ends or "return $null" in body, name
    used = {
        text(value).split()[0]
        for one in functions(module())
        for made in built(one)
        for value in made.values()
        if re.match(r"(Get|ConvertTo|Find)-Lb\w+ -", text(value))
    }
    plain = {"ConvertTo-LbUtc", "ConvertTo-LbId", "Get-LbAccess"}
    assert used <= nullable | plain


def test_parameters_are_those_of_the_wires_table() -> None:
    table = {
        row[0].strip(" `"): set(re.findall(r"\b[A-Z]\w+", re.sub(r"\(.*\)", "", row[1])))
        for line in (wire.__doc__ or "").splitlines()
        if line.startswith("| `") and (row := line.strip("|").split("|"))
    }
    actual = {name: set(source.parameters(functions(module())[name])) for name in ANSWERS}
    assert actual == table


def test_ids_are_guids_and_fences_64_bit_and_all_are_mandatory() -> None:
    types = {"VmId": "[guid", "Fence": "[long]", "Clustered": "[bool]", "Target": "[string]"}
    types |= {"GroupId": "[guid]", "Name": "[string]", "State": "[string]"}
    texts = {"Expected": "[string]", "Value": "[string]"}
    for name in ANSWERS:
        for parameter, declaration in source.parameters(functions(module())[name]).items():
            assert "Mandatory = $true" in declaration
            known = types | texts if name == "Set-LbControl" else types
            assert known.get(parameter, "[int]") in declaration


def test_every_result_of_a_setting_write_is_known() -> None:
    answer = {"written", "differs", "busy", "managed", "fenced"}
    assert set(source.words(functions(module())["Set-LbTransportValue"])) == answer
    assert all(word in (wire.SettingWriteAnswer.__doc__ or "") for word in answer)
    plain = answer - {"busy", "managed"}
    assert set(source.words(functions(module())["Set-LbAutoBalancerValue"])) == plain
    assert set(source.words(functions(module())["Set-LbControlValue"])) == plain | {"lease"}
    assert all(word in (wire.ControlWriteAnswer.__doc__ or "") for word in plain)


def test_every_act_looks_at_the_fence_before_anything_else() -> None:
    for name in (
        "Start-LbMigration",
        "Stop-LbMigration",
        "Set-LbTransportValue",
        "Set-LbControlValue",
        "Set-LbNode",
        "Move-LbGroup",
        "Move-LbVolume",
        "Set-LbAutoBalancerValue",
    ):
        assert calls(functions(module())[name])[0].name == "Test-LbFenced"
