"""Snapshots that are refused: what is said, and where."""

from __future__ import annotations

import contextlib
import copy
import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import ExitCode, InputError, InputErrorGroup
from balancer.formats.snapshot import parse_snapshot
from tests.unit.formats.test_snapshot import SMALLEST

TEXT = json.dumps(SMALLEST)


def refused(document: str | bytes | dict[str, Any]) -> InputError:
    text = json.dumps(document) if isinstance(document, dict) else document
    with pytest.raises(InputError) as caught:
        parse_snapshot(text, "s.json")
    return caught.value


@pytest.mark.parametrize(
    ("path", "value", "place", "told"),
    [
        (["cluster"], None, "cluster", "missing"),
        (["cluster"], "", "cluster", "expected text"),
        (["cluster"], 7, "cluster", "expected text, not 7"),
        (["hosts"], None, "hosts", "missing"),
        (["hosts"], {}, "hosts", "a list"),
        (["hosts"], [], "hosts", "at least one"),
        (["hosts", 0], "h1", "hosts[0]", "a mapping"),
        (["hosts", 0, "name"], None, "hosts[0].name", "missing"),
        (["hosts", 0, "cpu_cores"], None, "hosts[0].cpu_cores", "missing"),
        (["hosts", 0, "cpu_cores"], 0, "hosts[0].cpu_cores", "greater than 0"),
        (["hosts", 0, "cpu_cores"], "16", "hosts[0].cpu_cores", "a number, not '16'"),
        (["hosts", 0, "cpu_cores"], True, "hosts[0].cpu_cores", "a number, not true"),
        (["hosts", 0, "memory_bytes"], -1, "hosts[0].memory_bytes", "at least 0, not -1"),
        (["hosts", 0, "memory_bytes"], 1.5, "hosts[0].memory_bytes", "a whole number, not 1.5"),
        (["hosts", 0, "memory_bytes"], "64 GiB", "hosts[0].memory_bytes", "not '64 GiB'"),
        (["hosts", 0, "memory_bytes"], 2**63, "hosts[0].memory_bytes", "below 2^63"),
        (["hosts", 0, "memory_bytes"], float("nan"), "hosts[0].memory_bytes", "finite"),
        (["hosts", 0, "cpu_speed"], float("inf"), "hosts[0].cpu_speed", "finite"),
        (["hosts", 0, "state"], "Up", "hosts[0].state", "one of up,"),
        (["hosts", 0, "migration"], {"transport": "rdma"}, "hosts[0].migration.transport", "tcp"),
        (["hosts", 0, "migration"], {"concurrent": -1}, "hosts[0].migration.concurrent", "0"),
        (
            ["hosts", 0, "migration"],
            {"networks": [{"name": "n", "link_bps": 0}]},
            "hosts[0].migration.networks[0].link_bps",
            "greater than 0",
        ),
        (["vms", 0, "id"], None, "vms[0].id", "missing"),
        (["vms", 0, "id"], "", "vms[0].id", "expected text"),
        (["vms", 0, "host"], "h9", "vms[0].host", "which the snapshot does not have"),
        (["vms", 0, "cpu_used_cores"], -0.1, "vms[0].cpu_used_cores", "at least 0"),
        (["vms", 0, "memory_assigned_bytes"], None, "vms[0].memory_assigned_bytes", "missing"),
        (["vms", 0, "memory_assigned_bytes"], -1, "vms[0].memory_assigned_bytes", "at least 0"),
        (["vms", 0, "state"], "runing", "vms[0].state", "one of running"),
        (["vms", 0, "clustered"], "yes", "vms[0].clustered", "true or false"),
        (["vms", 0, "tags"], "prod", "vms[0].tags", "a list"),
        (["vms", 0, "blocked_by"], [1], "vms[0].blocked_by[0]", "text"),
        (["vms", 0, "name"], "\ud800", "vms[0].name", "broken characters"),
        (["taken_at"], "yesterday", "taken_at", "RFC 3339"),
        (["taken_at"], "2026-01-31", "taken_at", "RFC 3339"),
        (["taken_at"], "2026-01-31T12:00:00", "taken_at", "with its zone"),
        (["taken_at"], 1738000000, "taken_at", "RFC 3339"),
        (["rules"], [{"apart": {"vms": ["a"], "hard": "true"}}], "rules[0].apart.hard", "true or"),
        (["rules"], [{"spred": {"vms": ["a"]}}], "rules[0].spred", "unknown key"),
        (["rules"], [{"pin": {"vms": ["a"]}}], "rules[0].pin.hosts", "missing"),
        (["rules"], [{"apart": {"vms": [7]}}], "rules[0].apart.vms[0]", "a name"),
        (["schema"], None, "schema", "not nothing"),
        (["schema"], "balancer/snapshot/v2", "schema", "not 'balancer/snapshot/v2'"),
    ],
)
def test_one_wrong_value_is_told_with_its_path(
    path: list[str | int], value: Any, place: str, told: str
) -> None:
    document: Any = copy.deepcopy(SMALLEST)
    here = document
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    error = refused(document)
    assert not isinstance(error, InputErrorGroup), str(error)
    assert str(error.place) == f"s.json: {place}"
    assert told in error.message
    assert error.remedy
    assert error.exit_code == ExitCode.BAD_INPUT


def test_duplicates_are_told_with_both_places() -> None:
    document = copy.deepcopy(SMALLEST)
    document["hosts"].append({**document["hosts"][0], "name": "H1"})
    document["vms"].append({**document["vms"][0], "host": "h2"})
    error = refused(document)
    assert isinstance(error, InputErrorGroup)
    assert [(str(e.place), e.message) for e in error.errors] == [
        ("s.json: hosts[1].name", "the host name 'H1' is taken already, by hosts[0]"),
        ("s.json: vms[1].id", "the VM id '1' is taken already, by vms[0]"),
        ("s.json: vms[1].host", "VM 'a' ('1') is on host 'h2', which the snapshot does not have"),
    ]


def test_thousands_of_faults_are_told_in_few_words_and_little_time() -> None:
    hosts = [{**SMALLEST["hosts"][0], "name": f"host-{n}"} for n in range(64)]
    vms = [{**SMALLEST["vms"][0], "id": str(n), "host": f"hst-{n}"} for n in range(8000)]
    started = time.process_time()
    for changes in ({"hosts": hosts, "vms": vms}, {"hosts": hosts, "vms": [{}] * 8000}):
        error = refused({**SMALLEST, **changes})
        assert isinstance(error, InputErrorGroup)
        assert len(error.errors) == 26
        assert "more errors like these" in str(error)
    assert time.process_time() - started < 3


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("", "s.json", "empty"),
        (" \n", "s.json", "empty"),
        ("[]", "s.json", "expected a JSON object at the top"),
        ("null", "s.json", "not nothing"),
        ('{"schema": 1,}', "s.json:1:", "not JSON"),
        ('{\n "a": 1\n "b": 2}', "s.json:3:2", "not JSON"),
        ("{'a': 1}", "s.json:1:2", "not JSON"),
        ('{"a": 1} {"b": 2}', "s.json:1:10", "not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "s.json: a", "below 2^63"),
        (r'{"a": {"\ud800": 1}}', "s.json: a", "broken characters"),
        (r'{"a": "x\udFFFy"}', "s.json: a", "broken characters"),
        ('{"a": [1e999]}', "s.json: a[0]", "finite"),
        ('{"a": 1, "a": 2}', "s.json", "stands twice"),
        ("[" * 100_000, "s.json", "too deeply"),
        ('{"a":' * 100_000, "s.json", "too deeply"),
        (b"\x80", "s.json:1", "not UTF-8"),
        (TEXT.encode("utf-16"), "s.json:1", "UTF-16"),
        (TEXT.encode("latin-1").replace(b'"a"', b'"\xe4"'), "s.json:1", "not UTF-8"),
    ],
)
def test_what_is_no_json_object_of_ours_is_refused(
    text: str | bytes, place: str, told: str
) -> None:
    error = refused(text)
    assert str(error.place).startswith(place)
    assert told in error.message
    assert error.remedy


@given(st.integers(1, len(TEXT) - 1))
def test_a_truncated_snapshot_is_never_taken_for_a_smaller_one(length: int) -> None:
    error = refused(TEXT[:length])
    assert error.place is not None
    assert error.place.line == 1


def test_a_snapshot_cut_in_the_middle_says_that_it_was_cut() -> None:
    error = refused(TEXT[: len(TEXT) // 2])
    assert "ends too early" in error.message
    assert "cut off" in error.remedy


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_with_an_input_error(data: bytes) -> None:
    refused(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["schema", "cluster", "taken_at", "hosts", "vms", "rules", "networks", "settings", "x"]
)
INNER = st.sampled_from(
    ["name", "id", "host", "cpu_cores", "memory_bytes", "migration", "state", "tags", "blocked_by"]
)


@given(KEYS, JSON | st.lists(st.dictionaries(INNER, JSON, max_size=4), max_size=2))
def test_any_json_at_any_key_is_a_value_or_an_input_error(key: str, value: Any) -> None:
    with contextlib.suppress(InputError):
        parse_snapshot(json.dumps({**SMALLEST, key: value}), "s.json")


@given(st.sampled_from(["hosts", "vms"]), st.dictionaries(INNER, JSON, max_size=4))
def test_any_json_inside_a_host_or_vm_is_a_value_or_an_input_error(
    key: str, changes: dict[str, Any]
) -> None:
    document = {**SMALLEST, key: [{**SMALLEST[key][0], **changes}]}
    with contextlib.suppress(InputError):
        parse_snapshot(json.dumps(document), "s.json")


@pytest.mark.parametrize("kind", ["reserve", "only_during"])
def test_a_cluster_cannot_say_what_is_the_policys_to_say(kind: str) -> None:
    document = SMALLEST | {"rules": [{kind: {}}]}
    error = refused(document)
    assert error.place is not None
    assert error.place.key == f"rules[0].{kind}"
    assert "unknown key" in error.message
