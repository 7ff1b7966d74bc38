"""Snapshots: the smallest legal one, defaults, warnings, and every field there and back."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from balancer.formats.snapshot import parse_snapshot, read_snapshot, snapshot_to_json
from balancer.model.cluster import Cluster, Host, MigrationNetwork, MigrationSettings, Transport, Vm
from balancer.model.rule import SelectBy, Selector
from balancer.policy.rules import Apart
from tests.unit.formats.clusters import clusters

SMALLEST: dict[str, Any] = {
    "schema": "balancer/snapshot/v1",
    "cluster": "c",
    "hosts": [{"name": "h1", "cpu_cores": 16, "memory_bytes": 68719476736}],
    "vms": [
        {
            "id": "1",
            "name": "a",
            "host": "h1",
            "cpu_used_cores": 0.5,
            "memory_assigned_bytes": 4294967296,
        }
    ],
}


def read(**changes: Any) -> Cluster:
    return parse_snapshot(json.dumps({**SMALLEST, **changes}), "s.json").cluster


def test_the_smallest_legal_snapshot_has_the_defaults_of_the_contract() -> None:
    assert read() == Cluster(
        "c",
        hosts=(
            Host(
                "h1",
                16.0,
                2**36,
                migration=MigrationSettings(
                    enabled=True,
                    transport=Transport.COMPRESSION,
                    concurrent=1,
                    networks=(MigrationNetwork("default", 10e9, 1, rdma=False),),
                ),
            ),
        ),
        vms=(Vm("1", "a", "h1", 0.5, 2**32),),
    )


def test_a_cluster_without_vms_is_legal() -> None:
    assert read(vms=[]).vms == ()


def test_the_same_name_twice_is_legal_and_the_same_id_is_not_confused() -> None:
    twin = {**SMALLEST["vms"][0], "id": "2"}
    assert [vm.id for vm in read(vms=[SMALLEST["vms"][0], twin]).vms] == ["1", "2"]


def test_names_that_would_break_a_shell_are_just_names() -> None:
    names = ["'; Stop-Computer #", '"ü漢[*]', "a\nb", ""]
    vms = [{**SMALLEST["vms"][0], "id": n + "!", "name": n} for n in names]
    assert [vm.name for vm in read(vms=vms).vms] == names


def test_a_host_is_found_whatever_its_case_and_keeps_its_own_spelling() -> None:
    (vm,) = read(vms=[{**SMALLEST["vms"][0], "host": "H1"}]).vms
    assert vm.host == "h1"


def test_null_means_not_measured() -> None:
    host = {**SMALLEST["hosts"][0], "cpu_speed": None, "state": None, "cpu_used_cores": None}
    assert read(hosts=[host]) == read()


def test_whole_numbers_may_be_written_as_powershell_does() -> None:
    text = json.dumps(SMALLEST).replace("68719476736", "6.8719476736E+10")
    assert parse_snapshot(text, "s").cluster == read()


def test_times_are_read_in_any_zone_and_kept_in_utc() -> None:
    moment = datetime(2026, 1, 31, 11, 0, tzinfo=UTC)
    assert read(taken_at="2026-01-31T12:00:00+01:00").taken_at == moment
    assert '"taken_at": "2026-01-31T11:00:00Z"' in snapshot_to_json(
        read(taken_at="2026-01-31T12:00:00+01:00")
    )


def test_the_clusters_own_rules_use_the_words_of_policies() -> None:
    (rule,) = read(rules=[{"apart": {"vms": ["a", {"glob": "b*"}], "hard": False}}]).rules
    assert rule == Apart(
        vms=(Selector(SelectBy.EXACT, "a"), Selector(SelectBy.GLOB, "b*")),
        hard=False,
        origin="cluster",
    )


def test_unknown_keys_and_blockers_are_warned_of_once_each() -> None:
    host = {**SMALLEST["hosts"][0], "rack": 7, "migration": {"qos": 1, "networks": []}}
    vms = [{**SMALLEST["vms"][0], "id": str(n), "blocked_by": ["moon"]} for n in range(3)]
    document = {**SMALLEST, "hosts": [host], "vms": vms, "made_by": "x", "settings": {"y": 1}}
    seen = parse_snapshot(json.dumps(document), "s.json")
    assert seen.warnings == (
        "s.json: unknown key 'made_by' in the snapshot is ignored",
        "s.json: unknown key 'rack' in hosts[] is ignored",
        "s.json: unknown key 'qos' in hosts[].migration is ignored",
        "s.json: unknown key 'y' in settings is ignored",
        "s.json: unknown word 'moon' in blocked_by of 3 VMs: they are not moved",
    )
    assert seen.cluster.vms[0].blocked_by == ("moon",)
    alone = parse_snapshot(json.dumps({**SMALLEST, "vms": vms[:1]}), "s.json")
    assert alone.warnings == ("s.json: unknown word 'moon' in blocked_by of 1 VM: it is not moved",)
    assert seen.cluster.hosts[0].migration.networks == ()


def test_the_digest_is_of_the_bytes_and_the_file_may_be_packed(tmp_path: Path) -> None:
    data = json.dumps(SMALLEST).encode()
    plain, packed, marked = tmp_path / "s.json", tmp_path / "s.json.gz", tmp_path / "bom.json"
    plain.write_bytes(data)
    packed.write_bytes(gzip.compress(data))
    marked.write_bytes(b"\xef\xbb\xbf" + data)
    assert read_snapshot(plain).sha256 == hashlib.sha256(data).hexdigest()
    assert read_snapshot(packed) == read_snapshot(plain)
    assert read_snapshot(marked).cluster == read()


def test_a_dash_is_the_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(json.dumps(SMALLEST).encode()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert read_snapshot("-").cluster == read()


@settings(max_examples=200)
@given(clusters())
def test_every_cluster_reads_back_equal_and_is_written_in_the_same_bytes(cluster: Cluster) -> None:
    text = snapshot_to_json(cluster)
    seen = parse_snapshot(text, "s.json")
    assert seen.cluster == cluster
    assert snapshot_to_json(seen.cluster) == text


def test_a_big_cluster_is_read_in_a_fraction_of_a_second() -> None:
    hosts = [{**SMALLEST["hosts"][0], "name": f"h{n}"} for n in range(64)]
    vms = [
        {**SMALLEST["vms"][0], "id": f"v{n}", "host": f"h{n % 64}", "tags": ["a", "b"]}
        for n in range(8000)
    ]
    text = json.dumps({**SMALLEST, "hosts": hosts, "vms": vms})
    started = time.process_time()
    assert len(parse_snapshot(text, "s.json").cluster.vms) == 8000
    assert time.process_time() - started < 0.5
