"""Which networks a host's migrations may use, and how fast they are there."""

from __future__ import annotations

from typing import Any

import pytest

from balancer.gateway.assemble import assemble
from balancer.gateway.networks import ALONE, cluster_networks, migration_settings
from balancer.gateway.wire import LmNetworkRow, NicRow, VmResourceTypePart
from balancer.model.cluster import MigrationNetwork
from tests.unit.gateway.answers import (
    NOW,
    cluster,
    failed,
    host,
    host_part,
    network,
    nic,
    node,
)

NETWORKS = [
    network("Management", "10.0.0.0/24", metric=70000),
    network("Storage", "10.2.0.0/24", metric=1000),
    network("Live", "10.1.0.0/24", metric=30000),
]


def kind(order: str = "", excluded: str = "") -> VmResourceTypePart:
    return VmResourceTypePart(
        excluded_networks=[f"NET-{name}" for name in excluded.split()],
        network_order=[f"net-{name}" for name in order.split()],
        move_type_threshold=None,
    )


@pytest.mark.parametrize(
    ("part", "order"),
    [
        (kind(), ["Storage", "Live", "Management"]),
        (kind("Live Management"), ["Live", "Management", "Storage"]),
        (kind("Management Live Storage"), ["Management", "Live", "Storage"]),
    ],
)
def test_networks_come_in_the_order_the_cluster_prefers(
    part: VmResourceTypePart, order: list[str]
) -> None:
    answer = cluster([node("H1")], networks=NETWORKS, vm_resource_type=part)
    assert [one.name for one in cluster_networks(answer)] == order


def networks_of(nics: list[NicRow], part: VmResourceTypePart) -> tuple[MigrationNetwork, ...]:
    answer = cluster([node("H1")], networks=NETWORKS, vm_resource_type=part)
    seen = assemble("c", answer, {"H1": host("H1", nics=nics)}, NOW)
    return seen.cluster.hosts[0].migration.networks


def test_a_host_has_the_networks_its_adapters_have_addresses_in() -> None:
    nics = [
        nic("a", "10.0.0.5/24", gbps=1),
        nic("b", "10.1.0.5/24", "fe80::1/64", gbps=25),
        nic("c", "10.1.0.6/24", gbps=25),
        nic("d", "10.1.0.7/24", gbps=10),
        nic("e", "169.254.1.1/16", "nonsense", "::1/128"),
    ]
    assert networks_of(nics, kind("Live", "Storage")) == (
        MigrationNetwork("Live", 25e9, nics=2, rdma=False),
        MigrationNetwork("Management", 1e9, nics=1, rdma=False),
    )


def test_only_adapters_with_rdma_count_where_some_have_it() -> None:
    nics = [
        nic("a", "10.1.0.5/24", gbps=25, rdma=True),
        nic("b", "10.1.0.6/24", gbps=25),
        nic("c", "10.1.0.7/24", gbps=25, rdma=True),
    ]
    assert networks_of(nics, kind()) == (MigrationNetwork("Live", 25e9, nics=2, rdma=True),)


def alone(nics: list[NicRow], told: Any, **values: Any) -> list[str]:
    answer = host("H1", nics=nics, lm_networks=told, host=host_part(**values))
    return [one.name for one in migration_settings(answer, ALONE, None).networks]


TWO = [nic("a", "10.0.0.5/24", gbps=1), nic("b", "10.1.0.5/16", "fd00::5/64", gbps=25)]


def test_a_host_alone_uses_the_networks_it_was_told_by_priority() -> None:
    told = [
        LmNetworkRow(subnet="10.0.0.0/24", priority=None),
        LmNetworkRow(subnet="10.1.0.5/32", priority=20),
        LmNetworkRow(subnet="fd00::/64", priority=10),
        LmNetworkRow(subnet="nonsense", priority=1),
    ]
    assert alone(TWO, told) == ["fd00::/64", "10.1.0.0/16", "10.0.0.0/24"]


def test_a_host_alone_that_may_use_any_network_takes_the_fastest() -> None:
    assert alone(TWO, [], any_network=True) == ["10.1.0.0/16", "fd00::/64", "10.0.0.0/24"]


def test_a_host_alone_without_a_network_to_use_has_none() -> None:
    assert alone(TWO, []) == []


def test_what_could_not_be_read_is_as_it_was() -> None:
    before = migration_settings(host("H1", nics=TWO, host=host_part(any_network=True)), ALONE, None)
    assert migration_settings(host("H1", nics=failed()), ALONE, before).networks == before.networks
    part = cluster([node("H1")], networks=failed())
    seen = assemble("c", part, {"H1": host("H1")}, NOW)
    assert seen.cluster.hosts[0].migration.networks == (MigrationNetwork("default"),)
    assert "networks section failed" in seen.notes[0]
