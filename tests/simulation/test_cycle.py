"""Whole cycles on drawn clusters: a plan ends where it said, and then there is nothing to do."""

from __future__ import annotations

import dataclasses
from random import Random

import pytest

from balancer.clock import VirtualClock
from balancer.formats.plan import plan_to_json
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.population import Fill, spread
from balancer.gateway.simulator.things import (
    AffinityRule,
    FailoverCluster,
    Guest,
    Machine,
    Network,
    Nic,
    Volume,
)
from balancer.gateway.simulator.windows import AffinityRuleType
from balancer.gateway.simulator.world import World
from balancer.model.outcome import RunEnd
from balancer.policy.policy import Limits, Mode, Policy, Reserve, TransportPolicy
from tests.cycles import one_cycle
from tests.stores import new_store

GIB = 2**30
SEEDS = [*range(4), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(4, 24))]
VOLUME = r"C:\ClusterStorage\Volume1"


def drawn(seed: int) -> World:
    """A cluster of 3 to 6 hosts with steady loads, unevenly filled, some rules of its own."""
    random = Random(seed)  # noqa: S311 -- a reproducible world, not a secret
    machines = [
        Machine(
            f"HV{number}",
            32,
            random.choice((256, 384)) * GIB,
            (Nic("lm", random.choice((10e9, 25e9)), f"10.0.1.{number}/24", rdma=seed % 2 == 0),),
            option=random.choice((0, 1, 2)),
        )
        for number in range(1, random.randint(4, 7))
    ]
    fills = [Fill(random.uniform(0.2, 0.9), random.uniform(0.3, 0.8)) for _ in machines]
    guests = spread(random, machines, fills, VOLUME, memory_gib_max=32)
    for guest in guests:
        _steady(guest)
    some = random.sample(guests, 5)
    rules = (
        AffinityRule("apart", AffinityRuleType.DIFFERENT_NODE, (some[0].name, some[1].name)),
        AffinityRule("together", AffinityRuleType.SAME_NODE, (some[2].name, some[3].name)),
    )
    cluster = FailoverCluster(
        "DRAWN",
        networks=(Network("lm", "10.0.1.0/24"),),
        migrations_max=2,
        auto_balancer_mode=0,
        rules=rules,
        volumes=(Volume("Volume1", "HV1", VOLUME),),
    )
    return World(VirtualClock(), machines, guests, cluster)


def _steady(guest: Guest) -> None:
    """Hold the load where it is now: a drifting one would rightly be balanced again."""
    guest.load = Load(
        base_cores=round(guest.load.cores(0.0), 2),
        demand_fraction=guest.load.demand_fraction,
        dirty_bytes_per_s=guest.load.dirty_bytes_per_s,
    )


def gateway(world: World) -> ClusterGateway:
    hosts = hosts_of(world)
    return ClusterGateway(world.name, list(hosts), hosts.__getitem__, in_turn, world.clock)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_ends_where_it_said_and_a_second_finds_nothing(seed: int) -> None:
    world = drawn(seed)
    policy = Policy(
        reserve=Reserve(memory_fraction=0.04),
        transport=TransportPolicy(write_settings=seed % 3 != 0),
    )
    with new_store() as store:
        first = one_cycle(world.name, policy, gateway(world), store, world.clock)
        assert first.migrations
        assert first.report is not None
        assert first.report.end is RunEnd.DONE, first.report
        with world.present():
            at = {guest.id: guest.host for guest in world.guests.values()}
        said = {vm.id: vm.host for vm in first.seen.cluster.vms}
        said |= {one.vm: one.target for one in first.migrations if not one.stopover}
        assert at == said
        # Counters are averages: let those of the migrations themselves pass.
        world.clock.sleep(60.0)
        second = one_cycle(world.name, policy, gateway(world), store, world.clock)
    assert second.migrations == ()


@pytest.mark.parametrize("seed", range(3))
def test_capped_runs_come_to_rest(seed: int) -> None:
    world = drawn(seed)
    policy = Policy(limits=Limits(migrations_per_run=3))
    moved: list[str] = []
    with new_store() as store:
        for _ in range(30):
            cycle = one_cycle(world.name, policy, gateway(world), store, world.clock)
            world.clock.sleep(60.0)
            if not cycle.migrations:
                break
            moved += [one.vm for one in cycle.migrations]
        else:
            pytest.fail(f"still moving after 30 runs: {len(moved)} migrations")
    # Nobody is sent around: a run that cannot see the end of the next may move a VM again.
    assert max(moved.count(vm) for vm in set(moved)) <= 2


def test_a_cycle_that_may_not_act_only_says_what_it_would_do() -> None:
    world = drawn(1)
    with new_store() as store:
        cycle = one_cycle(
            world.name,
            dataclasses.replace(Policy(), name="looks only"),
            gateway(world),
            store,
            world.clock,
            Mode.RECOMMEND,
        )
        assert cycle.plan is not None
        assert cycle.migrations
        assert cycle.report is None
        assert store.journal.runs(world.name) == ()
        assert store.plans.get(cycle.plan.id).document == plan_to_json(cycle.plan)
