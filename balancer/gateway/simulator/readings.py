"""What a host answers when it is read, in the terms of `balancer.gateway.wire`.

Performance counters are whole percents, as Windows gives them, and averages that change once
an interval: two readings at the same instant agree to the last digit.
"""

from __future__ import annotations

from datetime import datetime

from balancer.gateway import wire
from balancer.gateway.simulator import numa
from balancer.gateway.simulator import sections as part
from balancer.gateway.simulator.cluster_reading import ClusterReader
from balancer.gateway.simulator.physics import Phase
from balancer.gateway.simulator.rows import GuestRows, group_state, group_status
from balancer.gateway.simulator.sections import Sections
from balancer.gateway.simulator.things import Machine
from balancer.gateway.simulator.windows import MOVING_VM_JOB
from balancer.gateway.simulator.world import World

_MIB = 2**20


class Reader:
    """Answers readings of one world. Its methods are called with the world's lock held."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows = {guest.id: GuestRows(guest) for guest in world.guests.values()}
        self._cluster = ClusterReader(world, self._rows)

    def version(self, machine: Machine) -> wire.VersionAnswer:
        """Answer `Get-LbVersion`."""
        return wire.VersionAnswer(
            module=wire.MODULE_VERSION,
            computer=machine.name,
            clustered=self._world.cluster is not None,
        )

    def host(self, machine: Machine, now_s: float) -> wire.HostAnswer:
        """Answer `Get-LbHost`."""
        section = Sections(self._world.faults.failing(machine.name))
        cpu, vps, vms = self._load(machine, now_s)
        engine = self._world.engine
        available = max(0, engine.available(machine)) // _MIB * _MIB
        listeners = [nic.address.partition("/")[0] for nic in machine.nics]
        return wire.HostAnswer.model_construct(
            module=wire.MODULE_VERSION,
            computer=machine.name,
            os=section(part.OS, "os", self._os(machine, now_s)),
            host=section(part.HOST, "host", self._settings(machine)),
            migration=section(
                part.MIGRATION,
                "migration",
                wire.MigrationServicePart.model_construct(
                    active=engine.running_on(machine),
                    active_storage=0,
                    listeners=listeners if machine.migration_enabled else [],
                ),
            ),
            cpu=section(part.CPU, "cpu", cpu),
            vps=section(part.VPS, "vps", vps),
            memory=section(
                part.MEMORY,
                "memory",
                wire.MemoryPart.model_construct(
                    available_bytes=available, average_pressure_percent=_pressure(vms)
                ),
            ),
            vms=section(part.VMS, "vms", vms),
            switches=section(part.WORDS, "switches", list(machine.switches)),
            nics=section(part.NICS, "nics", _nics(machine)),
            lm_networks=section(part.LM_NETWORKS, "lm_networks", self._lm_networks(machine)),
            smb_limit=section(
                part.SMB_LIMIT,
                "smb_limit",
                wire.SmbLimitPart.model_construct(
                    live_migration_bytes_per_s=machine.smb_limit_bytes_per_s
                ),
            ),
            jobs=section(part.JOBS, "jobs", self._jobs(machine, now_s)),
            atc=section(part.ATC, "atc", wire.AtcPart.model_construct(managed=machine.atc)),
            others=section(
                part.OTHERS,
                "others",
                wire.OthersPart.model_construct(
                    scvmm_agent=machine.scvmm,
                    updating=self._world.cluster is not None and self._world.cluster.updating,
                ),
            ),
        )

    def cluster(self, machine: Machine, now_s: float) -> wire.ClusterAnswer:
        """Answer `Get-LbCluster`."""
        return self._cluster.read(machine, now_s)

    def control(self, machine: Machine) -> wire.ControlAnswer:
        """Answer `Get-LbControl`."""
        return wire.ControlAnswer(
            module=wire.MODULE_VERSION,
            computer=machine.name,
            control=self._cluster.control(machine),
        )

    def move(self, machine: Machine, vm: str, now_s: float) -> wire.MoveRow:
        """Answer `Get-LbMigration` about one VM, as this host and the cluster behind it see it."""
        guest = self._world.guests.get(vm)
        if guest is None:
            return _unknown(vm)
        engine = self._world.engine
        present = guest.host == machine.name
        moving = engine.of(guest)
        seen = guest.clustered and self._world.has_quorum(machine)
        last = engine.last_of(guest)
        job = (
            last
            if last is not None and last.source is machine and last.phase is not Phase.QUEUED
            else None
        )
        told = seen or (last is not None and last.source is machine)
        return wire.MoveRow(
            vm=vm,
            present=present,
            state=int(guest.state) if present else None,
            status=guest.status if present else [],
            owner=guest.host if seen else "",
            group_state=int(group_state(guest, moving)) if seen else None,
            group_status=int(group_status(guest, moving)) if seen else None,
            migration_state=int(guest.migration_state) if seen else None,
            progress=(moving.percent(now_s) if moving else 0) if seen else None,
            failure=int(guest.failure) if told else None,
            failure_text=guest.failure_text if told else "",
            job_state=int(job.job) if job else None,
            job_percent=job.percent(now_s) if job else None,
            blackout_s=guest.blackout_s if machine.name in guest.seen_on else None,
            heartbeat=guest.heartbeat_at(now_s) if present else None,
        )

    def _load(
        self, machine: Machine, now_s: float
    ) -> tuple[wire.CpuPart, list[wire.VpRow], list[wire.VmRow]]:
        """Return the counters of processors and VMs; who wants more than there is shares it."""
        at_s = self._world.counter_s(now_s)
        guests = list(self._world.guests_on[machine.name].values())
        processors = machine.logical_processors
        root = machine.root_load.cores(at_s) + machine.migration_cores
        root = min(root, float(machine.root_processors), float(processors))
        wants = [guest.load.cores(at_s) if guest.is_load else 0.0 for guest in guests]
        wanted = sum(wants)
        scale = min(1.0, (processors - root) / wanted) if wanted > 0 else 1.0
        busy = round(100 * min(1.0, (root + wanted * scale) / processors))
        vps: dict[str, wire.VpRow] = {}
        vms: list[wire.VmRow] = []
        for guest, want in zip(guests, wants, strict=True):
            rows = self._rows[guest.id]
            cores = min(want * scale, float(guest.vcpus))
            if guest.is_load:
                waits = min(want, float(guest.vcpus)) - cores
                row = rows.vps(round(100 * cores), round(100 * waits))
                vps[row.name] = _together(vps[row.name], row) if row.name in vps else row
            size = guest.maximum_bytes or guest.assigned_bytes
            demand = guest.load.demand(at_s, size)
            vms.append(rows.vm(float(round(100 * cores / processors)), demand, now_s))
        cpu = wire.CpuPart.model_construct(
            lp_run_percent=float(busy),
            lp_count=processors,
            root_run_percent=float(round(100 * root / machine.root_processors)),
            root_count=machine.root_processors,
        )
        return cpu, list(vps.values()), vms

    def _os(self, machine: Machine, now_s: float) -> wire.OsPart:
        return wire.OsPart.model_construct(
            build=machine.build,
            domain=machine.domain,
            last_boot_utc=_round_trip(self._world.time(machine.booted_s)),
            free_memory_bytes=machine.reserve_bytes // 2,
            cpu_vendor=machine.cpu_vendor,
            now_utc=_round_trip(self._world.time(now_s)),
        )

    def _settings(self, machine: Machine) -> wire.HostPart:
        guests = self._world.guests_on[machine.name].values()
        return wire.HostPart.model_construct(
            logical_processors=machine.logical_processors,
            memory_capacity_bytes=machine.memory_bytes,
            migration_enabled=machine.migration_enabled,
            migration_option=machine.option,
            migrations_max=self._world.engine.limit(machine),
            storage_migrations_max=machine.storage_migrations_max,
            migration_authentication=1,
            any_network=self._world.cluster is None,
            numa_spanning=machine.numa_spanning,
            numa_free_mib=[]
            if machine.numa_spanning
            else [max(0, free) // 2**20 for free in numa.free_bytes(machine, guests)],
            vm_versions=list(machine.vm_versions),
        )

    def _lm_networks(self, machine: Machine) -> list[wire.LmNetworkRow]:
        """A cluster plumbs its networks itself: its nodes list none of the user's."""
        if self._world.cluster is not None:
            return []
        return [
            wire.LmNetworkRow.model_construct(subnet=subnet, priority=at)
            for at, subnet in enumerate(machine.lm_subnets)
        ]

    def _jobs(self, machine: Machine, now_s: float) -> list[wire.JobRow]:
        return [
            wire.JobRow.model_construct(
                vm=m.guest.id,
                job_type=MOVING_VM_JOB,
                state=int(m.job),
                percent=m.percent(now_s),
                error_code=m.error_code & 0xFFFF,
                target=m.target.name,
            )
            for m in self._world.engine.migrations
            if m.source is machine and m.phase is not Phase.QUEUED
        ]


def _round_trip(instant: datetime) -> str:
    """Return an instant as .NET's format "o" writes it: seven digits of a second and Z."""
    return f"{instant:%Y-%m-%dT%H:%M:%S.%f}0Z"


def _together(one: wire.VpRow, other: wire.VpRow) -> wire.VpRow:
    """Return the row of two VMs that have the same name."""
    return wire.VpRow.model_construct(
        name=one.name,
        run_percent=one.run_percent + other.run_percent,
        count=one.count + other.count,
        wait_percent=one.wait_percent + other.wait_percent,
    )


def _pressure(vms: list[wire.VmRow]) -> float | None:
    assigned = sum(row.memory_assigned_bytes for row in vms)
    if not assigned:
        return None
    return float(round(100 * sum(row.memory_demand_bytes for row in vms) / assigned))


def _nics(machine: Machine) -> list[wire.NicRow]:
    return [
        wire.NicRow.model_construct(
            name=nic.name, link_bps=float(nic.link_bps), rdma=nic.rdma, addresses=[nic.address]
        )
        for nic in machine.nics
    ]


def _unknown(vm: str) -> wire.MoveRow:
    return wire.MoveRow(
        vm=vm,
        present=False,
        state=None,
        status=[],
        owner="",
        group_state=None,
        group_status=None,
        migration_state=None,
        progress=None,
        failure=None,
        failure_text="",
        job_state=None,
        job_percent=None,
        blackout_s=None,
    )
