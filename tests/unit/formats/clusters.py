"""Clusters with every field set to something, drawn by hypothesis."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from balancer.model.cluster import (
    AutoBalancer,
    Blocker,
    Cluster,
    ClusterNetwork,
    ClusterSettings,
    Host,
    HostState,
    ManagedBy,
    MigrationNetwork,
    MigrationSettings,
    Priority,
    Transport,
    Vm,
    VmState,
)
from tests.unit.policy.test_vocabulary import rules

NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=10)
WORDS = st.lists(NAME, max_size=3).map(tuple)
WHOLE = st.integers(0, 2**63 - 1)
REAL = st.floats(0, 1e12)
POSITIVE = st.floats(1e-6, 1e12)
MOMENT = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)).map(  # noqa: DTZ001
    lambda moment: moment.replace(tzinfo=UTC)
)

NETWORK = st.builds(MigrationNetwork, NAME, POSITIVE, st.integers(1, 9), st.booleans())
SETTINGS = st.builds(
    MigrationSettings,
    st.booleans(),
    st.sampled_from(Transport),
    st.integers(0, 9),
    st.sampled_from(ManagedBy),
    st.lists(NETWORK, max_size=2).map(tuple),
    st.none() | POSITIVE,
)


def _host(name: str) -> st.SearchStrategy[Host]:
    return st.builds(
        Host,
        st.just(name),
        cpu_cores=POSITIVE,
        memory_bytes=WHOLE,
        cpu_speed=POSITIVE,
        state=st.sampled_from(HostState),
        cpu_used_cores=st.none() | REAL,
        root_cpu_cores=st.none() | POSITIVE,
        root_cpu_used_cores=st.none() | REAL,
        fault_domain=WORDS,
        migration=SETTINGS,
    )


def _vm(vm_id: str, hosts: list[str]) -> st.SearchStrategy[Vm]:
    return st.builds(
        Vm,
        st.just(vm_id),
        name=st.text(st.characters(exclude_categories=["Cs"]), max_size=10),
        host=st.sampled_from(hosts),
        cpu_used_cores=REAL,
        memory_assigned_bytes=WHOLE,
        state=st.sampled_from(VmState),
        clustered=st.booleans(),
        vcpus=st.none() | st.integers(0, 99),
        memory_demand_bytes=st.none() | WHOLE,
        memory_startup_bytes=st.none() | WHOLE,
        dirty_bytes_per_s=st.none() | REAL,
        priority=st.sampled_from(Priority),
        tags=WORDS,
        groups=WORDS,
        blocked_by=st.lists(st.sampled_from(Blocker) | NAME, max_size=2).map(
            lambda words: tuple(str(word) for word in words)
        ),
    )


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Draw a cluster that the snapshot format can say."""
    names = draw(st.lists(NAME, min_size=1, max_size=3, unique_by=lambda name: name.casefold()))
    ids = draw(st.lists(NAME, max_size=3, unique=True))
    fields: dict[str, Any] = {
        "name": draw(NAME),
        "hosts": tuple(draw(_host(name)) for name in names),
        "vms": tuple(draw(_vm(vm_id, names)) for vm_id in ids),
        "rules": tuple(draw(st.lists(rules(origin="cluster"), max_size=2))),
        "networks": tuple(
            draw(
                st.lists(
                    st.builds(ClusterNetwork, NAME, NAME, WORDS, st.booleans(), st.booleans()),
                    max_size=2,
                )
            )
        ),
        "settings": ClusterSettings(
            draw(st.none() | st.integers(0, 9)),
            draw(st.none() | st.sampled_from(AutoBalancer)),
            draw(st.none() | st.integers(0, 99)),
        ),
        "taken_at": draw(st.none() | MOMENT),
    }
    return Cluster(**fields)
