"""The rules that a cluster and the facts of its hosts impose."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.gateway.port import Observation
from balancer.gateway.wire import EVERY_NODE, AffinityRow, GroupRow, HostAnswer, VmRow, VolumeRow
from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Rule
from balancer.policy.consistency import refuse_contradictions
from balancer.policy.policy import Policy
from balancer.policy.rules import Allow, Apart, AsOne, Prefer, Together
from balancer.policy.vocabulary import rule_to_dict
from tests.unit.gateway.answers import (
    GIB,
    NOW,
    assemble,
    cluster,
    cluster_part,
    disk,
    failed,
    group,
    host,
    host_part,
    node,
    os_part,
    vm,
)

NODES = [
    node("H1", fault_domain=["Site:A", "Rack:1"]),
    node("H2", fault_domain=["Site:A", "Rack:1"]),
    node("H3", fault_domain=["Site:B", "Rack:2"]),
]


def observe(
    *rows: VmRow,
    h2: HostAnswer | None = None,
    h3: HostAnswer | None = None,
    groups: list[GroupRow] | None = None,
    **sections: Any,
) -> Observation:
    """Assemble a cluster whose VMs are all on H1."""
    roles = [group(one.id, "H1") for one in rows] if groups is None else groups
    hosts = {"H1": host("H1", rows), "H2": h2 or host("H2"), "H3": h3 or host("H3")}
    return assemble("c", cluster(NODES, roles, **sections), hosts, NOW)


def allowed(cluster: Cluster) -> dict[str, set[str]]:
    """Return the hosts that each VM under an `allow` rule may be on."""
    return {
        one: set(form.hosts)
        for rule in cluster.rules
        if isinstance(rule, Allow)
        for form in rule.says(cluster)
        if isinstance(form, AllowedHosts)
        for one in form.vms
    }


def rules(seen: Observation, kind: type[Rule]) -> list[Rule]:
    return [rule for rule in seen.cluster.rules if isinstance(rule, kind)]


def test_alike_hosts_make_no_rules() -> None:
    assert observe(vm("a"), vm("b")).cluster.rules == ()


@pytest.mark.parametrize(
    ("h2", "reason"),
    [
        (host("H2", switches=["Other"]), "virtual switch"),
        (host("H2", switches=failed()), "virtual switch"),
        (host("H2", os=os_part(cpu_vendor="AuthenticAMD")), "processor make"),
        (host("H2", os=os_part(domain="other.example")), "domain"),
        (host("H2", host=host_part(vm_versions=["9.0"])), "configuration version"),
    ],
)
def test_a_fact_that_rules_out_one_target(h2: HostAnswer, reason: str) -> None:
    seen = observe(vm("a"), vm("b"), h2=h2)
    (rule,) = seen.cluster.rules
    assert allowed(seen.cluster) == {"a": {"H1", "H3"}, "b": {"H1", "H3"}}
    assert (rule.name, rule.origin, rule.hard) == (reason, "cluster", True)


def test_switch_names_are_compared_as_windows_does() -> None:
    assert observe(vm("a"), h2=host("H2", switches=["PRODUCTION"])).cluster.rules == ()
    assert observe(vm("a", switches=[]), h2=host("H2", switches=[])).cluster.rules == ()


def test_a_volume_that_a_node_cannot_reach_rules_it_out() -> None:
    volume = VolumeRow(
        name="V1",
        owner="H1",
        path="C:\\ClusterStorage\\Volume1",
        access={"h1": 2, "h2": 0, "H3": 3},
    )
    elsewhere = vm("b", disks=[disk("C:\\ClusterStorage\\Volume10\\b.vhdx")])
    seen = observe(vm("a"), elsewhere, volumes=[volume])
    assert allowed(seen.cluster) == {"a": {"H1", "H3"}}


def test_the_owner_of_a_volume_breaks_ties_and_ends_detours() -> None:
    volume = VolumeRow(
        name="V1", owner="h3", path="C:\\ClusterStorage\\Volume1", access={"H1": 2, "H2": 2}
    )
    (rule,) = rules(observe(vm("a"), vm("b"), volumes=[volume]), Prefer)
    assert [one.value for one in rule.vms] == ["a", "b"]
    assert [one.value for one in rule.host_selectors()] == ["H3"]
    assert rule_to_dict(rule)["prefer"]["tie_break"]
    detour = volume.model_copy(update={"access": {"H1": 4}})
    (rule,) = rules(observe(vm("a"), volumes=[detour]), Prefer)
    assert rule.name == "block-redirected volume"
    assert "tie_break" not in rule_to_dict(rule)["prefer"]
    gone = volume.model_copy(update={"owner": "H9"})
    assert rules(observe(vm("a"), volumes=[gone]), Prefer) == []


def test_possible_owners_bind() -> None:
    groups = [
        group("a", "H1", possible_owners=["h1", "h3"]),
        group("b", "H1", possible_owners=["H1", "H2", "H3"]),
        group("c", "H1", possible_owners=[]),
        group("d", "H1", possible_owners=["H2"]),
        group("e", "H1", possible_owners=["H9"]),
        group("f", "H1", possible_owners=[EVERY_NODE]),
    ]
    seen = observe(*(vm(one) for one in "abcdef"), groups=groups)
    assert allowed(seen.cluster) == {"a": {"H1", "H3"}, "d": {"H2"}, "e": {"H1"}}


def test_preferred_owners_are_wishes_and_those_alike_share_one() -> None:
    groups = [
        group("a", "H1", preferred_owners=["h3", "H2"]),
        group("b", "H1", preferred_owners=["H2", "H3"]),
        group("c", "H1", preferred_owners=["H1", "H2", "H3"]),
        group("d", "H1", preferred_owners=["H9"]),
    ]
    seen = observe(*(vm(one) for one in "abcd"), groups=groups)
    (rule,) = rules(seen, Prefer)
    assert [one.value for one in rule.vms] == ["a", "b"]
    assert [one.value for one in rule.host_selectors()] == ["H2", "H3"]
    assert not rule.hard


def test_facts_without_a_host_in_common_leave_the_vm_where_it_is() -> None:
    seen = observe(
        vm("a"),
        groups=[group("a", "H1", possible_owners=["H2"])],
        h2=host("H2", switches=[]),
    )
    assert allowed(seen.cluster) == {"a": {"H1"}}
    refuse_contradictions(seen.cluster, Policy())


@pytest.mark.parametrize("enforced", [False, True])
def test_anti_affinity_classes(*, enforced: bool) -> None:
    groups = [
        group("a", "H1", anti_affinity=["SQL", "SQL"]),
        group("b", "H1", anti_affinity=["sql", "alone"]),
        group("c", "H1"),
    ]
    part = cluster_part("H1", enforced_anti_affinity=enforced)
    seen = observe(vm("a"), vm("b"), vm("c"), groups=groups, cluster=part)
    (rule,) = rules(seen, Apart)
    assert [one.value for one in rule.vms] == ["a", "b"]
    assert (rule.name, rule.hard) == ("SQL", enforced)


def affinity(rule_type: int, *names: str, enabled: bool = True) -> AffinityRow:
    return AffinityRow(name="R", rule_type=rule_type, groups=list(names), enabled=enabled)


def test_affinity_rules_over_nodes() -> None:
    same, apart = affinity(2, "ROLE A", "g-b"), affinity(4, "role a", "role c", "some volume")
    off = affinity(2, "role a", "role c", enabled=False)
    seen = observe(vm("a"), vm("b"), vm("c"), affinity=[same, apart, off])
    (together,), (split,) = rules(seen, AsOne), rules(seen, Apart)
    assert [one.value for one in together.vms] == ["a", "b"]
    assert [one.value for one in split.vms] == ["a", "c"]
    assert together.hard
    assert split.hard


@pytest.mark.parametrize("rule_type", [1, 3, 9])
def test_affinity_rules_over_fault_domains_keep_vms_within_theirs(rule_type: int) -> None:
    seen = observe(vm("a"), vm("b"), affinity=[affinity(rule_type, "role a")])
    assert allowed(seen.cluster) == {"a": {"H1", "H2"}}
    assert bool(seen.notes) is (rule_type == 9)


def test_members_that_can_never_be_together_do_not_make_the_cluster_unplannable() -> None:
    groups = [
        group("a", "H1", possible_owners=["H1", "H2"]),
        group("b", "H1", possible_owners=["H3"]),
    ]
    seen = observe(vm("a"), vm("b"), groups=groups, affinity=[affinity(2, "role a", "role b")])
    (rule,) = rules(seen, Together)
    assert not rule.hard
    refuse_contradictions(seen.cluster, Policy())


def test_vms_held_alike_share_one_rule() -> None:
    rows = [vm(f"v{n}", memory_assigned_bytes=GIB // 4) for n in range(100)]
    seen = observe(*rows, h2=host("H2", switches=[]))
    (rule,) = seen.cluster.rules
    assert len(rule.vms) == 100
