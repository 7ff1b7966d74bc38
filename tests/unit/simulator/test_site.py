"""A world behind real WinRM: the production client sees what callers in process see."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from balancer.clock import SystemClock, VirtualClock
from balancer.errors import UnreachableError
from balancer.gateway.hyperv.connection import Auth, Connection, Secret
from balancer.gateway.hyperv.module import module_text
from balancer.gateway.hyperv.remote import HyperVHost
from balancer.gateway.port import ReplyLostError
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.handler import HostHandler
from balancer.gateway.simulator.host import Functions, SimulatedHost, hosts_of
from balancer.gateway.simulator.mishaps import heal, inject
from balancer.gateway.simulator.readings import Reader
from balancer.gateway.simulator.scenario import build
from balancer.gateway.simulator.site import SimulatedSite
from balancer.gateway.simulator.winrm import CommandFailed, UnknownCommandError
from balancer.gateway.simulator.world import World
from balancer.gateway.wire import Wire
from tests.unit.simulator.worlds import Small, small, vm

USERS = {"CONTOSO\\balancer": "secret"}


class Reached:
    """A site and the production client's ways to its hosts."""

    def __init__(self, site: SimulatedSite, deadline_s: float = 20.0) -> None:
        self.site = site
        self.ways = {
            host: HyperVHost(
                host,
                Connection(
                    address=address,
                    port=port,
                    ca_file=site.ca_file,
                    auth=Auth.NTLM,
                    username="CONTOSO\\balancer",
                    password=Secret("secret"),
                    connect_timeout_s=2.0,
                    deadline_s=deadline_s,
                ),
                SystemClock(),
            )
            for host, (address, port) in site.endpoints.items()
        }

    def close(self) -> None:
        for way in self.ways.values():
            way.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Reached]]:
    opened: list[tuple[SimulatedSite, Reached]] = []

    def make(world: World, **options: float) -> Reached:
        site = SimulatedSite(world, USERS, accepts_module=lambda text: text == module_text())
        site.__enter__()
        opened.append((site, Reached(site, **options)))
        return opened[-1][1]

    yield make
    for site, reached in opened:
        reached.close()
        site.__exit__(None, None, None)


def calls(world: World) -> list[Callable[[HyperVHost | SimulatedHost], Wire]]:
    one, other = list(world.guests.values())[:2]
    return [
        lambda way: way.version(),
        lambda way: way.read_host(),
        lambda way: way.read_cluster(),
        lambda way: way.start(one.id.upper(), "HV08", clustered=True, fence=3),
        lambda way: way.start(one.id, "HV08", clustered=True, fence=3),
        lambda way: way.start(other.id, "'; Stop-Computer #", clustered=True, fence=3),
        lambda way: way.start(other.id, "HV08", clustered=False, fence=3),
        lambda way: way.stop(one.id, 2),
        lambda way: way.read_moves([one.id, "{" + other.id + "}"]),
        lambda way: way.read_moves([]),
        lambda way: way.set_transport(1, 2, 3),
        lambda way: way.stop(one.id, 3),
        lambda way: way.set_transport(1, 2, 3),
        lambda way: way.read_host(),
    ]


def test_both_ways_give_the_same_bytes(serve: Callable[..., Reached]) -> None:
    near, far = build("demo", VirtualClock()), build("demo", VirtualClock())
    host = next(iter(near.guests.values())).host
    here, there = hosts_of(near)[host], serve(far).ways[host]
    for call, same in zip(calls(near), calls(far), strict=True):
        assert same(there).model_dump_json() == call(here).model_dump_json()


def ended(call: Callable[[], object]) -> type[Exception] | None:
    try:
        call()
    except (UnreachableError, ReplyLostError) as error:
        return UnreachableError if isinstance(error, UnreachableError) else ReplyLostError
    return None


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.UNREACHABLE,
        FaultKind.GARBAGE,
        FaultKind.REPLY_LOST,
        FaultKind.LATE,
        FaultKind.REQUEST_LOST,
        FaultKind.SILENT,
    ],
)
def test_a_fault_of_a_call_is_the_same_both_ways(
    serve: Callable[..., Reached], kind: FaultKind
) -> None:
    near, far = small(), small()
    reached = serve(far.world, deadline_s=3.0)
    reached.ways["HV1"].version()
    results = []
    for world, way in ((near, near.hosts["HV1"]), (far, reached.ways["HV1"])):
        fault = Fault(kind, host="HV1", count=1)
        inject(world.world, fault)
        error = ended(partial(way.start, vm("vm0"), "HV2", clustered=True, fence=1))
        heal(world.world, fault)
        done = bool(world.world.engine.migrations)
        answers = ended(way.version)
        world.clock.sleep(61.0)
        world.world.advance()
        results.append((error, done, answers, bool(world.world.engine.migrations)))
    assert results[0] == results[1]
    assert results[0][0] is not None


def test_a_host_that_dies_refuses_connections_and_forgets_its_shells(
    serve: Callable[..., Reached],
) -> None:
    world = small()
    reached = serve(world.world, deadline_s=5.0)
    way = reached.ways["HV1"]
    way.version()
    fault = Fault(FaultKind.HOST_DIES, host="HV1")
    inject(world.world, fault)
    with pytest.raises(UnreachableError):
        way.start(vm("vm0"), "HV2", clustered=True, fence=1)
    assert reached.site.server("HV1").open_shells == 0
    heal(world.world, fault)
    assert way.version().computer == "HV1"
    assert not world.world.engine.migrations


def test_scheduled_faults_begin_although_nobody_calls(serve: Callable[..., Reached]) -> None:
    world = small()
    serve(world.world)

    def lock(_now_s: float) -> None:
        world.world.guests[vm("vm0")].locked = True

    world.world.at(5.0, lock)
    world.clock.sleep(6.0)
    deadline = SystemClock().monotonic_s() + 5.0
    while not world.world.guests[vm("vm0")].locked:
        assert SystemClock().monotonic_s() < deadline
        SystemClock().sleep(0.02)


def handler(world: Small) -> HostHandler:
    machine = world.world.machines["HV1"]
    return HostHandler(Functions(world.world, Reader(world.world), machine))


@pytest.mark.parametrize(
    ("function", "parameters", "fqid"),
    [
        ("Get-LbHost", {"Name": "x"}, "NamedParameterNotFound,Get-LbHost"),
        ("Stop-LbMigration", {"Fence": 1}, "MissingMandatoryParameter,Stop-LbMigration"),
        (
            "Stop-LbMigration",
            {"VmId": "vm0; Stop-Computer", "Fence": 1},
            "ParameterArgumentTransformationError,Stop-LbMigration",
        ),
        (
            "Stop-LbMigration",
            {"VmId": vm("vm0"), "Fence": "one"},
            "ParameterArgumentTransformationError,Stop-LbMigration",
        ),
        (
            "Start-LbMigration",
            {"VmId": vm("vm0"), "Target": "HV2", "Clustered": "true", "Fence": 1},
            "ParameterArgumentTransformationError,Start-LbMigration",
        ),
        (
            "Set-LbTransport",
            {"Expected": 0, "Value": 3, "Fence": 1},
            "ParameterArgumentTransformationError,Set-LbTransport",
        ),
    ],
)
def test_parameters_that_do_not_bind(
    function: str, parameters: dict[str, object], fqid: str
) -> None:
    with pytest.raises(CommandFailed) as caught:
        handler(small())(function, parameters)
    assert caught.value.fqid == fqid


def test_parameters_bind_without_regard_to_case_and_convert_where_types_allow() -> None:
    world = small()
    run = handler(world)
    assert '"accepted":true' in run(
        "start-lbmigration", {"vmid": vm("vm0"), "TARGET": "hv2", "clustered": 1, "fence": "7"}
    )
    assert world.world.fences == {"TEST": 7}
    assert f'"vm":"{vm("vm0")}"' in run("Get-LbMigration", {"VmId": vm("vm0")})
    with pytest.raises(UnknownCommandError):
        run("Get-Process", {})
