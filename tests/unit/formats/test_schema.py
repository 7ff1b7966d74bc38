"""The published schemas say what the readers do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.formats.plan import parse_plan, plan_to_json
from balancer.formats.schema import schema
from balancer.formats.snapshot import parse_snapshot, snapshot_to_json
from balancer.model.cluster import Cluster
from balancer.model.plan import Plan
from balancer.policy.load import parse_policy
from tests.unit.formats.clusters import clusters
from tests.unit.formats.test_plan import SAMPLE, plans
from tests.unit.formats.test_snapshot import SMALLEST
from tests.unit.policy.test_load import FULL

ROOT = Path(__file__).parents[3]
POLICIES = sorted((ROOT / "policies").glob("*.yaml"))
DOCUMENTS = ("snapshot", "plan", "policy")
CHECK = {name: jsonschema.Draft202012Validator(schema(name)) for name in DOCUMENTS}
JUNK: list[Any] = [None, True, -1, 0, 1.5, "", "x", [], ["x"], [1], {}, {"x": 1}, [{}]]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_schema_is_one_and_says_which(name: str) -> None:
    made = schema(name)
    jsonschema.Draft202012Validator.check_schema(made)
    assert made["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(made)) == made
    assert schema(name) == made


def test_an_unknown_document_is_refused() -> None:
    with pytest.raises(InputError, match="plan, policy, snapshot"):
        schema("novel")


@settings(max_examples=60)
@given(clusters())
def test_every_snapshot_we_write_is_valid(cluster: Cluster) -> None:
    CHECK["snapshot"].validate(json.loads(snapshot_to_json(cluster)))


@settings(max_examples=60)
@given(plans())
def test_every_plan_we_write_is_valid(plan: Plan) -> None:
    CHECK["plan"].validate(json.loads(plan_to_json(plan)))


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.name)
def test_every_shipped_policy_is_valid(path: Path) -> None:
    CHECK["policy"].validate(yaml.safe_load(path.read_text("utf-8")))


def test_a_policy_with_every_key_is_valid() -> None:
    CHECK["policy"].validate(yaml.safe_load(FULL))


def places(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value inside a document."""
    steps: Any = ()
    if isinstance(document, dict):
        steps = document.items()
    elif isinstance(document, list):
        steps = enumerate(document)
    for step, inner in steps:
        yield (*path, step)
        yield from places(inner, (*path, step))


def changed(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    copied = copy.deepcopy(document)
    here = copied
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return copied


RICH_SNAPSHOT: dict[str, Any] = {
    **SMALLEST,
    "taken_at": "2026-01-31T12:00:00Z",
    "hosts": [
        {
            **SMALLEST["hosts"][0],
            "cpu_speed": 1.0,
            "state": "up",
            "cpu_used_cores": 1.0,
            "fault_domain": ["Site:A"],
            "migration": {
                "enabled": True,
                "concurrent": 2,
                "transport": "smb",
                "networks": [{"name": "n", "link_bps": 1e10, "nics": 2, "rdma": True}],
            },
        }
    ],
    "vms": [
        {
            **SMALLEST["vms"][0],
            "vcpus": 2,
            "clustered": False,
            "priority": "high",
            "tags": ["a"],
            "blocked_by": ["locked"],
            "memory_demand_bytes": 1,
            "dirty_bytes_per_s": 1.0,
        }
    ],
    "rules": [
        {"apart": {"vms": ["a", {"glob": "b"}], "hard": True, "max_per_host": 2, "name": "n"}},
        {"pin": {"vms": ["a"], "hosts": [{"host": "h1"}], "during": False}},
    ],
    "networks": [{"name": "n", "id": "1", "subnets": ["10.0.0.0/24"], "up": True}],
    "settings": {"concurrent_per_host": 1, "auto_balancer": "off"},
}
# What only the readers know: values that depend on one another, and the form of times and texts.
BEYOND_SCHEMAS = (
    "which the snapshot does not have",
    "taken already",
    "RFC 3339",
    "SHA-256",
    "before it was made",
    "to wait for",
    "in a ring",
    "are both",
    "stands twice",
)


def agree(name: str, document: Any) -> None:
    """Fail if the reader refuses structurally what the schema lets pass."""
    told = refusal(name, json.dumps(document))
    if told and not any(words in told for words in BEYOND_SCHEMAS):
        assert not CHECK[name].is_valid(document), f"the schema lets pass: {told}"


def refusal(name: str, text: str) -> str:
    """Return what the reader of a document says against it, or nothing."""
    read = {"snapshot": parse_snapshot, "plan": parse_plan, "policy": parse_policy}[name]
    try:
        read(text, "d")
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("junk", JUNK, ids=repr)
@pytest.mark.parametrize("name", ["snapshot", "plan"])
def test_what_a_reader_refuses_the_schema_refuses(name: str, junk: Any) -> None:
    document = RICH_SNAPSHOT if name == "snapshot" else json.loads(plan_to_json(SAMPLE))
    CHECK[name].validate(document)
    for path in places(document):
        agree(name, changed(document, path, junk))


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_what_the_policy_reader_refuses_the_schema_refuses(junk: Any) -> None:
    document = yaml.safe_load(FULL)
    for path in places(document):
        text = yaml.safe_dump(changed(document, path, junk)).replace(": null\n", ":\n")
        told = refusal("policy", text)
        if told:
            assert not CHECK["policy"].is_valid(yaml.safe_load(text)), f"it lets pass: {told}"


@pytest.mark.parametrize("name", ["snapshot", "plan"])
def test_what_is_required_is_required_by_both(name: str) -> None:
    document = SMALLEST if name == "snapshot" else json.loads(plan_to_json(SAMPLE))
    for path in places(document):
        broken = copy.deepcopy(document)
        here: Any = broken
        for step in path[:-1]:
            here = here[step]
        if isinstance(here, dict):
            del here[path[-1]]
            agree(name, broken)


@given(st.sampled_from(["optimall", "LIVE", ""]))
def test_closed_lists_of_words_are_closed_in_both(word: str) -> None:
    for path in (("status",), ("stopped_by",), ("migrations", 0, "kind")):
        broken = changed(json.loads(plan_to_json(SAMPLE)), path, word)
        assert not CHECK["plan"].is_valid(broken)
        with pytest.raises(InputError):
            parse_plan(json.dumps(broken), "p")
