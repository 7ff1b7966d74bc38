"""What holds for plans of clusters in which much was moved lately and rules are broken."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from balancer.errors import InputError
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.past import Past, PastMove
from balancer.planner import plan
from balancer.policy.policy import Policy
from balancer.policy.rules import Apart, Spread, Together, Within
from balancer.policy.stability import Cooldown
from tests.notation import cluster
from tests.properties.planner_clusters import clusters, pick, policies
from tests.unit.planner.oracle import NOW

few = settings(
    max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
cool = st.builds(
    Cooldown,
    vm_s=st.sampled_from([None, 7200.0]),
    host_s=st.sampled_from([None, None, 1800.0]),
    undo_s=st.sampled_from([None, 86400.0]),
)
per_day = st.sampled_from([None, None, 1, 3, 6])


@st.composite
def pasts(draw: st.DrawFn, seen: Cluster) -> Past:
    """Half of the VMs came lately from another host."""
    names = [host.name for host in seen.hosts]
    moves = [
        PastMove(vm.id, draw(st.sampled_from(names)), vm.host, at, vm.memory_assigned_bytes, True)
        for vm in seen.vms
        for at in [NOW - timedelta(minutes=draw(st.sampled_from([5, 60, 600])))]
        if draw(st.booleans())
    ]
    return Past(NOW, tuple(one for one in moves if one.source != one.target))


@st.composite
def crowded(draw: st.DrawFn) -> tuple[Cluster, Policy]:
    """More VMs of a rule than there are places, and loads that want to be moved."""
    sizes, homes = (
        draw(st.lists(st.sampled_from(of), min_size=5, max_size=5))
        for of in ((1, 3, 7), (0, 0, 1, 2))
    )
    on = [
        ", ".join(
            f"{vm} 8G {c}c" for vm, c, at in zip("abcde", sizes, homes, strict=True) if at == h
        )
        for h in range(3)
    ]
    seen = cluster("\n".join(f"h{h} 64G 16c @Site={'AAB'[h]}: {vms}" for h, vms in enumerate(on)))
    some = pick(draw(st.lists(st.sampled_from("abcde"), min_size=3, max_size=5, unique=True)))
    kept = draw(
        st.sampled_from([Apart(vms=some), Spread(vms=some, domain="site", max_per_domain=1)])
    )
    more = draw(
        st.sampled_from([(), (Within(vms=some[:2], domain="site"),), (Together(vms=some[:2]),)])
    )
    return seen, Policy(rules=(kept, *more))


@few
@given(st.data(), st.one_of(st.tuples(clusters(), policies()), crowded()), cool, per_day)
def test_nobody_is_moved_against_the_past_but_to_mend(
    data: st.DataObject, task: tuple[Cluster, Policy], cooldown: Cooldown, a_day: int | None
) -> None:
    seen, policy = task
    limits = dataclasses.replace(policy.limits, migrations_per_day=a_day)
    policy = dataclasses.replace(policy, cooldown=cooldown, limits=limits)
    past = data.draw(pasts(seen))
    try:
        made = plan(seen, policy, now=NOW, past=past)
    except InputError:
        assume(condition=False)
        raise
    assert judge(seen, policy, made, past=past) == ()
