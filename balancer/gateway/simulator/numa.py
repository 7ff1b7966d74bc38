"""NUMA nodes of a machine, and where the memory of guests lies in them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from balancer.gateway.simulator.things import Guest, Machine


def free_bytes(machine: Machine, guests: Iterable[Guest]) -> list[int]:
    """Return what is free in each NUMA node; guests lie where most was free when they came.

    A node may be overdrawn: guests that were there before spanning was switched off stay.
    """
    each = (machine.memory_bytes - machine.reserve_bytes) // machine.numa_nodes
    free = [each] * machine.numa_nodes
    for guest in guests:
        for _ in range(guest.numa_nodes):
            roomiest = max(range(len(free)), key=lambda node: (free[node], -node))
            free[roomiest] -= guest.assigned_bytes // guest.numa_nodes
    return free


def holds(machine: Machine, guests: Iterable[Guest], guest: Guest) -> bool:
    """Tell whether every virtual NUMA node of `guest` fits one of the machine's."""
    if machine.numa_spanning:
        return True
    share = max(1, guest.assigned_bytes // guest.numa_nodes)
    return sum(max(0, free) // share for free in free_bytes(machine, guests)) >= guest.numa_nodes
