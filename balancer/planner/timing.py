"""Seconds and bytes of migrations between these hosts, from the shared formulas."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from balancer.errors import InternalError
from balancer.migration.forecast import SETUP_S, SWITCH_S, Forecast, dirty_rate, forecast
from balancer.migration.rates import Flow, capacities, effective_transport, flow, share, spare_cores
from balancer.model.cluster import Transport

if TYPE_CHECKING:  # a task asks here what its budgets are
    from balancer.planner.problem import Problem

CPU = 0


@dataclass(frozen=True, slots=True)
class Leg:
    """One migration to be scheduled: a VM, from where, to where, and by what."""

    vm: int
    source: int
    target: int
    transport: Transport


@dataclass
class Timing:
    """Rates between hosts as they are loaded now; remembers what it has worked out."""

    problem: Problem

    def __post_init__(self) -> None:
        self._alone: dict[tuple[int, int, Transport], float] = {}
        self._flows: dict[tuple[int, int, Transport], Flow] = {}

    @cached_property
    def capacity(self) -> Mapping[Hashable, float]:
        """What all hosts together have of the resources that migrations share."""
        problem = self.problem
        used = (problem.before / problem.scale)[CPU]
        of: dict[Hashable, float] = {}
        for host, work in zip(problem.hosts, used.tolist(), strict=True):
            of.update(capacities(host, spare_cores(host, work / host.cpu_speed)))
        return of

    def flow(self, source: int, target: int, transport: Transport) -> Flow:
        """Return what a migration demands.

        Raises:
            InternalError: The hosts share no network; the problem allows no such move.
        """
        key = (source, target, transport)
        if key not in self._flows:
            hosts = self.problem.hosts
            found = flow(hosts[source], hosts[target], transport)
            if found is None:
                raise InternalError(
                    f"no migration network between {hosts[source].name} and {hosts[target].name}"
                )
            self._flows[key] = found
        return self._flows[key]

    def rate_alone(self, source: int, target: int, transport: Transport) -> float:
        """Return the bytes per second of a migration that has the cluster to itself."""
        key = (source, target, transport)
        if key not in self._alone:
            self._alone[key] = max(share([self.flow(*key)], self.capacity)[0], 1.0)
        return self._alone[key]

    def forecast(self, vm: int, rate: float) -> Forecast:
        """Forecast the migration of `vm` at a rate."""
        one = self.problem.vms[vm]
        memory = one.memory_assigned_bytes
        return forecast(memory, dirty_rate(memory, one.dirty_bytes_per_s), rate)

    def alone(self, leg: Leg) -> Forecast:
        """Forecast a migration that has the cluster to itself: no run of it can be faster."""
        return self.forecast(leg.vm, self.rate_alone(leg.source, leg.target, leg.transport))

    def effective(self, settings: Mapping[int, Transport], source: int, target: int) -> Transport:
        """Return the transport of a pair of hosts under `settings` (by host index)."""
        return effective_transport(settings[source], settings[target])


def makespan_bound(timing: Timing, legs: Iterable[Leg]) -> float:
    """Return seconds that no order of these migrations can beat.

    The longest of: any single migration; the work of each host over its slots; of the cluster
    over its slots; the bytes of each shared resource over its capacity, after one set-up.
    """
    caps = timing.problem.caps
    hosts: dict[int, float] = {}
    taken: dict[Hashable, float] = {}
    single = total = 0.0
    for leg in legs:
        alone = timing.alone(leg)
        single, total = max(single, alone.duration_s), total + alone.duration_s
        for host in (leg.source, leg.target):
            hosts[host] = hosts.get(host, 0.0) + alone.duration_s
        uses = timing.flow(leg.source, leg.target, leg.transport).uses
        for key, use in uses.items():
            taken[key] = taken.get(key, 0.0) + use * alone.bytes
    bounds = [single]
    names = timing.problem.hosts
    bounds.extend(
        seconds / max(1, caps.concurrent_per_host[names[host].name])
        for host, seconds in hosts.items()
    )
    if caps.concurrent_per_cluster:
        bounds.append(total / caps.concurrent_per_cluster)
    for key, amount in taken.items():
        if timing.capacity.get(key, 0.0) > 0:
            bounds.append(amount / timing.capacity[key] + SETUP_S + SWITCH_S)
    return max(bounds)
