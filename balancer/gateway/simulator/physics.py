"""One live migration in progress: its phases, its share of links, how far it has come.

The formulas are those of `balancer.migration`, stepped through time instead of summed up: set-up,
pre-copy passes while the guest dirties memory, the stop that copies the last remainder, the
switch. Rates are constant between events, and what is left is computed from the last event, so
that looking at a migration never changes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_interface

from balancer.gateway.simulator.things import FailoverCluster, Guest, Machine
from balancer.gateway.simulator.windows import COMPRESSION_OPTION, SMB_OPTION, JobState
from balancer.migration import rates
from balancer.migration.forecast import PASSES_MAX, REMAINDER_BYTES, SETUP_S, SWITCH_S
from balancer.model.cluster import Host, MigrationNetwork, MigrationSettings, Transport

COPY_BEGINS_PERCENT = 10
COPY_ENDS_PERCENT = 95


class Phase(StrEnum):
    """Where a migration stands."""

    QUEUED = "queued"
    SETUP = "setup"
    COPY = "copy"
    BLACKOUT = "blackout"  # the guest stands still while the remainder is copied
    SWITCH = "switch"
    STUCK = "stuck"  # until somebody cancels
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Spoiler:
    """What is to go wrong with one migration: at `percent` it fails with `code`, or hangs."""

    percent: float
    code: int | None  # unsigned HRESULT; None hangs until somebody cancels


@dataclass(slots=True, eq=False)
class Migration:
    """A live migration from request to end; ended ones are kept a while as jobs."""

    number: int
    guest: Guest
    source: Machine
    target: Machine
    clustered: bool
    phase: Phase = Phase.QUEUED
    spoiler: Spoiler | None = None
    transport: Transport = Transport.TCP
    flow: rates.Flow | None = None
    rdma: bool = False
    memory_bytes: int = 0
    reserved_bytes: int = 0  # on the target; nothing when the target has not enough
    begun_s: float = 0.0
    passes: int = 0
    pass_begun_s: float = 0.0
    rate: float = 0.0
    remaining: float = 0.0  # at `since_s`
    since_s: float = 0.0
    stop_at: float = 0.0  # remaining bytes at which this pass is over, above 0 when it is spoilt
    due_s: float = math.inf
    blackout_begun_s: float = 0.0
    ended_s: float | None = None
    job: JobState = JobState.NEW
    stuck_percent: int = 0
    error_code: int = 0

    @property
    def running(self) -> bool:
        """Tell whether it takes up a slot on both ends."""
        return self.phase not in (Phase.QUEUED, Phase.OVER)

    @property
    def copying(self) -> bool:
        """Tell whether memory travels."""
        return self.phase in (Phase.COPY, Phase.BLACKOUT)

    def touches(self, machine: Machine) -> bool:
        """Tell whether the machine is one of the two ends."""
        return machine is self.source or machine is self.target

    def left(self, now_s: float) -> float:
        """Return the bytes of this pass still to be copied."""
        return max(0.0, self.remaining - self.rate * (now_s - self.since_s))

    def percent(self, now_s: float) -> int:
        """Return the progress that the platform shows, 0 to 100."""
        match self.phase:
            case Phase.SETUP:
                shown = (COPY_BEGINS_PERCENT - 1) * min(1.0, (now_s - self.begun_s) / SETUP_S)
            case Phase.COPY if self.passes == 0 and self.memory_bytes:
                done = 1.0 - self.left(now_s) / self.memory_bytes
                shown = COPY_BEGINS_PERCENT + (COPY_ENDS_PERCENT - COPY_BEGINS_PERCENT) * done
            case Phase.COPY:
                shown = min(98, COPY_ENDS_PERCENT + self.passes)
            case Phase.BLACKOUT | Phase.SWITCH:
                shown = 99
            case Phase.STUCK:
                shown = self.stuck_percent
            case _:
                shown = 100 if self.job is JobState.COMPLETED else 0
        return int(shown)

    def begin(self, now_s: float) -> None:
        """Take the slots: set-up begins."""
        self.phase = Phase.SETUP
        self.job = JobState.RUNNING
        self.begun_s = now_s
        self.memory_bytes = self.guest.assigned_bytes
        self.due_s = now_s + SETUP_S
        if self.spoiler is not None and self.spoiler.percent < COPY_BEGINS_PERCENT:
            self.due_s = now_s + SETUP_S * self.spoiler.percent / COPY_BEGINS_PERCENT

    def begin_copy(self, now_s: float) -> None:
        """Set-up is done: the first pass begins; its rate is shared out by `share_out`."""
        self.phase = Phase.COPY
        self.pass_begun_s = self.since_s = now_s
        self.remaining = float(self.memory_bytes)
        self.rate = 0.0
        self.stop_at = 0.0
        if self.spoiler is not None and self.spoiler.percent < COPY_ENDS_PERCENT:
            span = COPY_ENDS_PERCENT - COPY_BEGINS_PERCENT
            done = (self.spoiler.percent - COPY_BEGINS_PERCENT) / span
            self.stop_at = self.memory_bytes * (1.0 - max(0.0, done))

    def end_pass(self, now_s: float) -> None:
        """A pass is copied: what was dirtied meanwhile is the next pass, or the remainder."""
        dirtied = self.guest.load.dirty(self.pass_begun_s) * (now_s - self.pass_begun_s)
        self.passes += 1
        self.remaining = min(float(self.memory_bytes), dirtied)
        self.rate = 0.0
        self.pass_begun_s = self.since_s = now_s
        if self.remaining <= REMAINDER_BYTES or self.passes >= PASSES_MAX:
            self.phase = Phase.BLACKOUT
            self.blackout_begun_s = now_s

    def begin_switch(self, now_s: float) -> None:
        """All memory is there: hand over."""
        self.phase = Phase.SWITCH
        self.rate = 0.0
        self.due_s = now_s + SWITCH_S

    def hang(self, now_s: float) -> None:
        """Come no further."""
        self.stuck_percent = self.percent(now_s)
        self.phase = Phase.STUCK
        self.rate = 0.0
        self.due_s = math.inf

    def end(self, now_s: float, job: JobState, error_code: int = 0) -> None:
        """It is over, one way or the other."""
        self.phase = Phase.OVER
        self.job = job
        self.error_code = error_code
        self.ended_s = now_s
        self.rate = 0.0
        self.due_s = math.inf


def spoilt_now(migration: Migration) -> bool:
    """Tell whether the event that is due is the one at which the migration goes wrong."""
    if migration.spoiler is None:
        return False
    if migration.spoiler.percent < COPY_BEGINS_PERCENT:
        return migration.phase is Phase.SETUP
    if migration.spoiler.percent < COPY_ENDS_PERCENT:
        return migration.phase is Phase.COPY and migration.passes == 0
    return migration.phase is Phase.BLACKOUT


def share_out(
    migrations: Iterable[Migration], now_s: float, spare_cores: Callable[[Machine], float]
) -> None:
    """Give each copying migration its max-min fair rate from now on, and its next due time."""
    copying = [m for m in migrations if m.copying]
    if not copying:
        return
    capacity: dict[Hashable, float] = {}
    flows: list[rates.Flow] = []
    for migration in copying:
        for end in (migration.source, migration.target):
            if ("out", end.name) not in capacity:
                capacity |= rates.capacities(as_host(end), spare_cores(end))
        flows.append(migration.flow or rates.Flow(0.0, {}))
    for migration, rate in zip(copying, rates.share(flows, capacity), strict=True):
        migration.remaining = migration.left(now_s)
        migration.since_s = now_s
        migration.rate = rate
        left = migration.remaining - migration.stop_at
        migration.due_s = now_s + (left / rate if rate > 0 else math.inf if left > 0 else 0.0)


def cores_taken(migration: Migration) -> float:
    """Return the cores that each end spends on it at its present rate."""
    if not migration.copying:
        return 0.0
    return rates.cpu_cores(migration.transport, migration.rate, rdma=migration.rdma)


def transport_of(option: int) -> Transport:
    """Return the transport behind a performance option."""
    if option == SMB_OPTION:
        return Transport.SMB
    return Transport.COMPRESSION if option == COMPRESSION_OPTION else Transport.TCP


def as_host(machine: Machine) -> Host:
    """Return the machine in the planner's terms, as far as the formulas look at it."""
    return Host(
        name=machine.name,
        cpu_cores=machine.logical_processors,
        memory_bytes=machine.memory_bytes - machine.reserve_bytes,
        migration=MigrationSettings(
            enabled=machine.migration_enabled,
            transport=transport_of(machine.option),
            networks=machine_networks(machine),
            smb_limit_bytes_per_s=machine.smb_limit_bytes_per_s,
        ),
    )


def machine_networks(machine: Machine) -> tuple[MigrationNetwork, ...]:
    """Return the migration networks of a machine, by subnet, in the order of preference.

    Of several adapters in one subnet, multichannel takes the fastest, and RDMA before others.
    """
    found: list[MigrationNetwork] = []
    for subnet in machine.lm_subnets:
        nics = [nic for nic in machine.nics if subnet_of(nic.address) == subnet]
        if nics:
            link = max(nic.link_bps for nic in nics)
            fast = [nic for nic in nics if nic.link_bps == link]
            rdma = [nic for nic in fast if nic.rdma]
            found.append(MigrationNetwork(subnet, link, len(rdma or fast), bool(rdma)))
    return tuple(found)


def subnet_of(address: str) -> str:
    """Return the subnet of an address such as 10.0.1.11/24."""
    return str(ip_interface(address).network)


def prefer_subnets(machines: Sequence[Machine], cluster: FailoverCluster | None) -> None:
    """Work out which subnets migrations take: the cluster's order, or the machine's adapters."""
    for machine in machines:
        by_speed = sorted(machine.nics, key=lambda nic: -nic.link_bps)
        own = dict.fromkeys(subnet_of(nic.address) for nic in by_speed)
        if cluster is not None:
            allowed = [n for n in cluster.networks if n.name not in cluster.excluded_networks]
            machine.lm_subnets = tuple(n.subnet for n in allowed if n.subnet in own)
        elif not machine.lm_subnets:
            machine.lm_subnets = tuple(own)
