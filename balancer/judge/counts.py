"""Counting VMs in sets of hosts, as the hard rules do."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TypeAlias

from balancer.model.rule import Unit

Where: TypeAlias = Callable[[str], Collection[str]]  # the hosts that a VM is on or arriving at


def count_in(domain: frozenset[str], vms: frozenset[str], where: Where) -> int:
    """Return how many of `vms` are on a host of `domain`, each counted once."""
    return sum(1 for vm in vms if not domain.isdisjoint(where(vm)))


def occupied(unit: Unit, where: Where) -> frozenset[int]:
    """Return which domains of a unit hold at least one of its VMs."""
    hosts = {host for vm in unit.vms for host in where(vm)}
    return frozenset(at for at, domain in enumerate(unit.domains) if not domain.isdisjoint(hosts))
