"""`reserve`: more is kept free on these hosts than the policy keeps free everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.model.cluster import Cluster, Host
from balancer.model.rule import Form, Rule, Selector
from balancer.policy.select import means_host


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReserve(Rule):
    """Keeps room free on hosts, for instance on the one that also runs the backup.

    It comes off their capacity before anything is judged, as the policy's own `reserve` does; of
    several the largest counts. A drain may use it where room is short, and says so.

    Args:
        hosts: The hosts, each for itself.
        cpu: Share of the logical processors kept free.
        memory: Share of memory, or an amount of it, kept free.
    """

    kind: ClassVar[str] = "reserve"
    withheld: ClassVar[frozenset[str]] = frozenset({"vms", "hard", "during"})
    policy_only: ClassVar[bool] = True

    vms: tuple[Selector, ...] = ()
    hosts: tuple[Selector, ...]
    cpu: float | None = None
    memory: float | int | None = None

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of the hosts."""
        return self.hosts

    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Say nothing of VMs: what is usable of a host is `balancer.policy.capacity`'s to tell."""
        del cluster
        return ()

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Say that nothing is kept free, or that nothing is left."""
        if not self.cpu and not self.memory:
            return ("it keeps nothing free; say cpu or memory",)
        full = [
            host.name for host in cluster.hosts if 0 < host.memory_bytes <= self.memory_bytes(host)
        ]
        return (f"it leaves no memory on {', '.join(full)}",) if full else ()

    def cpu_fraction(self, host: Host) -> float:
        """Return the share of the processors of `host` that it keeps free, 0..1."""
        return self.cpu or 0.0 if self._is_about(host) else 0.0

    def memory_bytes(self, host: Host) -> float:
        """Return the memory of `host` that it keeps free."""
        if not self.memory or not self._is_about(host):
            return 0.0
        is_share = isinstance(self.memory, float)
        return self.memory * host.memory_bytes if is_share else float(self.memory)

    def _is_about(self, host: Host) -> bool:
        return any(means_host(selector, host.name) for selector in self.hosts)
