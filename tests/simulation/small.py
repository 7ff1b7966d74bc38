"""Small simulated clusters and hand-made plans for them, in process and on a virtual clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from balancer.clock import VirtualClock
from balancer.gateway.cluster import ClusterGateway
from balancer.gateway.gather import in_turn
from balancer.gateway.port import Gateway
from balancer.gateway.simulator.host import hosts_of
from balancer.gateway.simulator.load import Load
from balancer.gateway.simulator.things import (
    FailoverCluster,
    Guest,
    Machine,
    Network,
    Nic,
    Volume,
    identity,
)
from balancer.gateway.simulator.world import World
from balancer.migration.rates import effective_transport
from balancer.model.cluster import Cluster, Transport
from balancer.model.plan import Migration, Plan, Score, SettingChange, Status, StoppedBy

GIB = 2**30
SMB_OPTION = 2


@dataclass
class Small:
    """A world of `hosts` machines with `each` guests of 4 GiB, and a way to drive it."""

    hosts: int = 4
    each: int = 4
    slots: int = 2
    clustered: bool = True
    clock: VirtualClock = field(default_factory=VirtualClock)

    def __post_init__(self) -> None:
        machines = [
            Machine(
                f"h{n}",
                logical_processors=32,
                memory_bytes=128 * GIB,
                nics=(Nic("lm", 10e9, f"10.0.1.{n}/24"),),
            )
            for n in range(1, self.hosts + 1)
        ]
        guests = [
            Guest(
                self.vm(f"v{h}{n}"),
                f"v{h}{n}",
                f"h{h}",
                2,
                4 * GIB,
                Load(base_cores=0.5),
                clustered=self.clustered,
            )
            for h in range(1, self.hosts + 1)
            for n in range(1, self.each + 1)
        ]
        forms = FailoverCluster(
            "small",
            networks=(Network("lm", "10.0.1.0/24"),),
            migrations_max=self.slots,
            volumes=(Volume("Volume1", "h1", r"C:\ClusterStorage\Volume1"),),
            auto_balancer_mode=0,
        )
        self.world = World(self.clock, machines, guests, forms if self.clustered else None)
        self.gateway = self.new_gateway()

    @staticmethod
    def vm(name: str) -> str:
        return identity("small", name)

    def new_gateway(self) -> Gateway:
        """Return what a program that has just started would use."""
        hosts = hosts_of(self.world)
        return ClusterGateway(
            "small",
            list(self.world.machines),
            lambda name: hosts[name],
            in_turn,
            self.clock,
            clustered=self.clustered,
        )

    def host_of(self, name: str) -> str:
        with self.world.present():
            return self.world.guests[self.vm(name)].host

    def options(self) -> dict[str, int]:
        return {machine.name: machine.option for machine in self.world.machines.values()}

    def plan(
        self,
        moves: Sequence[tuple[str, str, str]],
        *,
        after: dict[str, tuple[str, ...]] | None = None,
        smb: Sequence[str] = (),
    ) -> Plan:
        """Return a plan of (id, VM name, target) moves, of which `smb` hosts are set to SMB."""
        return plan_for(
            self.gateway.observe().cluster,
            [(id_, self.vm(name), target) for id_, name, target in moves],
            now=self.clock.now(),
            after=after or {},
            smb=smb,
        )


def plan_for(
    cluster: Cluster,
    moves: Sequence[tuple[str, str, str]],
    *,
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC),
    after: dict[str, tuple[str, ...]] | None = None,
    smb: Sequence[str] = (),
) -> Plan:
    """Return a plan of (id, VM id, target) moves for a cluster."""
    after = after or {}
    transports = {host.name: host.migration.transport for host in cluster.hosts}
    settings = tuple(
        SettingChange(host, "transport", transports[host].value, Transport.SMB.value)
        for host in smb
    )
    transports |= dict.fromkeys(smb, Transport.SMB)
    migrations: list[Migration] = []
    ends: dict[str, float] = {}
    at = {vm.id: vm.host for vm in cluster.vms}
    for id_, vm_id, target in moves:
        vm = cluster.vm_by_id[vm_id]
        start_s = max((ends[before] for before in after.get(id_, ())), default=0.0)
        onward = [other for other in moves if other[1] == vm_id]
        migrations.append(
            Migration(
                id=id_,
                vm=vm_id,
                name=vm.name,
                source=at[vm_id],
                target=target,
                transport=effective_transport(transports[at[vm_id]], transports[target]),
                bytes=vm.memory_assigned_bytes,
                start_s=start_s,
                duration_s=10.0,
                reason="because the test says so",
                after=after.get(id_, ()),
                stopover=len(onward) > 1 and onward[0][0] == id_,
            )
        )
        at[vm_id], ends[id_] = target, start_s + 10.0
    return Plan(
        cluster=cluster.name,
        id="plan-1",
        created_at=now,
        expires_at=now + timedelta(minutes=15),
        snapshot_sha256="",
        policy_sha256="",
        status=Status.FEASIBLE,
        stopped_by=StoppedBy.WORK,
        score=Score(0.0, 0.0, 0.0, "none", 1.0),
        makespan_s=max(ends.values(), default=0.0),
        makespan_bound_s=0.0,
        migrations=tuple(migrations),
        settings=settings,
    )
