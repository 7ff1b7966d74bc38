"""A migration in the simulator takes what the planner forecasts, because both use one formula."""

from __future__ import annotations

import pytest

from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.physics import as_host
from balancer.gateway.simulator.things import Nic
from balancer.gateway.simulator.windows import COMPRESSION_OPTION, SMB_OPTION, TCP_OPTION
from balancer.migration import rates
from balancer.migration.forecast import SETUP_S, SWITCH_S, forecast
from balancer.model.cluster import Transport
from tests.unit.simulator.worlds import DIRTY, GIB, Small, guest, machine, small


def alone(option: int, *, dirty: float = DIRTY, gib: int = 16, rdma: bool = False) -> Small:
    def nics(number: int) -> tuple[Nic, ...]:
        return tuple(
            Nic(f"LM{at}", 25e9, f"10.0.1.{number + 100 * at}/24", rdma) for at in range(2)
        )

    return Small(
        [machine(number, option=option, nics=nics(number)) for number in (1, 2)],
        [guest("vm", gib=gib, load=Load(base_cores=1.0, dirty_bytes_per_s=dirty))],
    )


@pytest.mark.parametrize("gib", [1, 16, 128])
@pytest.mark.parametrize("dirty", [0.0, 10e6, 400e6, 5e9])
@pytest.mark.parametrize(
    ("option", "transport", "rdma"),
    [
        (TCP_OPTION, Transport.TCP, False),
        (COMPRESSION_OPTION, Transport.COMPRESSION, False),
        (SMB_OPTION, Transport.SMB, False),
        (SMB_OPTION, Transport.SMB, True),
    ],
)
def test_a_lone_migration_takes_what_the_formula_says(
    option: int, transport: Transport, *, rdma: bool, dirty: float, gib: int
) -> None:
    world = alone(option, dirty=dirty, gib=gib, rdma=rdma)
    source, target = (as_host(one) for one in world.world.machines.values())
    flow = rates.flow(source, target, transport)
    assert flow is not None
    capacity = rates.capacities(source, 7.7) | rates.capacities(target, 7.7)
    (rate,) = rates.share([flow], capacity)
    expected = forecast(gib * GIB, dirty, rate)
    assert world.start("vm", "HV2").accepted
    took = world.until_over("vm")
    assert took == pytest.approx(expected.duration_s, rel=0.01, abs=0.02)
    assert world.where("vm") == "HV2"
    assert world.row("vm").blackout_s == pytest.approx(expected.blackout_s, rel=0.01)


def test_two_migrations_share_a_link_and_the_later_speeds_up() -> None:
    world = small()
    memory, rate = 8 * GIB, 10e9 / 8 * 0.95
    for name, target in (("vm0", "HV2"), ("vm1", "HV3")):
        assert world.start(name, target).accepted
    both = world.until_over("vm0")
    alone_s = small()
    alone_s.start("vm0", "HV2")
    lone = alone_s.until_over("vm0")
    assert both - SETUP_S - SWITCH_S == pytest.approx(2 * (lone - SETUP_S - SWITCH_S), rel=0.02)
    assert lone == pytest.approx(forecast(memory, DIRTY, rate).duration_s, rel=0.01)


def test_a_mixed_pair_falls_back_to_plain_tcp() -> None:
    world = alone(SMB_OPTION)
    world.world.machines["HV2"].option = COMPRESSION_OPTION
    world.start("vm", "HV2")
    world.clock.sleep(SETUP_S + 0.1)
    world.world.advance()
    (migration,) = world.world.engine.migrations
    assert migration.transport is Transport.TCP


def test_compression_shows_in_both_hosts_counters_and_goes_away_again() -> None:
    world = alone(COMPRESSION_OPTION, gib=128)

    def root_percent(host: str) -> float:
        part = world.hosts[host].read_host().cpu.data
        assert part is not None
        return part.root_run_percent

    before = root_percent("HV1")
    world.start("vm", "HV2")
    world.clock.sleep(30)
    assert root_percent("HV1") > before + 20
    assert root_percent("HV2") == root_percent("HV1")
    world.clock.sleep(3600)
    assert root_percent("HV1") == root_percent("HV2") == before


def test_compression_takes_only_what_is_idle() -> None:
    busy, idle = alone(COMPRESSION_OPTION), alone(COMPRESSION_OPTION)
    for one in busy.world.machines.values():
        one.root_load = Load(base_cores=7.0)  # of the root partition's eight
    for world in (busy, idle):
        world.start("vm", "HV2")
    assert busy.until_over("vm") > 2 * idle.until_over("vm")


def test_looking_often_changes_nothing() -> None:
    often, seldom = small(), small()
    for world in (often, seldom):
        world.start("vm0", "HV2")
        world.start("vm1", "HV2")
    for _ in range(997):
        often.clock.sleep(0.0171)
        often.world.advance()
    seldom.clock.sleep(often.clock.monotonic_s() - seldom.clock.monotonic_s())
    seldom.world.advance()
    for one, other in zip(
        often.world.engine.migrations, seldom.world.engine.migrations, strict=True
    ):
        assert (one.phase, one.due_s, one.remaining) == (other.phase, other.due_s, other.remaining)
