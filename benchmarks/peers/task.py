"""What every balancer is given and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from balancer.model.cluster import Cluster
from balancer.model.rule import AllowedHosts, Cap, Unit
from benchmarks.peers.neutral import Place


@dataclass(frozen=True)
class Task:
    """A cluster to balance.

    Attributes:
        cluster: With its rules, or without any.
        cap: The most VMs that may be moved.
        limit_s: Wall seconds after which a peer is stopped.
        seed: For those who draw.
    """

    cluster: Cluster
    cap: int
    limit_s: float
    seed: int = 0

    @cached_property
    def home(self) -> dict[str, str]:
        """Where each VM is."""
        return {vm.id: vm.host for vm in self.cluster.vms}

    @cached_property
    def rules(self) -> Rules:
        """What the cluster's rules say, in the three forms that benchmarks use."""
        apart: list[tuple[list[str], int]] = []
        together: list[list[str]] = []
        allowed: dict[str, list[str]] = {}
        for rule in self.cluster.rules:
            for form in rule.says(self.cluster):
                match form:
                    case Cap():
                        apart.append((sorted(form.vms), form.limit))
                    case Unit():
                        together.append(sorted(form.vms))
                    case AllowedHosts():
                        allowed |= dict.fromkeys(form.vms, sorted(form.hosts))
                    case _:
                        raise ValueError(f"no peer has been told what {rule} means")
        return Rules(apart, together, allowed)

    def document(self, **settings: Any) -> dict[str, Any]:
        """Return the task as plain values, for a peer that runs in a Python of its own."""
        return {
            "hosts": [
                {"name": host.name, "cores": host.cpu_cores, "memory_bytes": host.memory_bytes}
                for host in self.cluster.hosts
            ],
            "vms": [
                {
                    "id": vm.id,
                    "host": vm.host,
                    "cores": vm.cpu_used_cores,
                    "memory_bytes": vm.memory_assigned_bytes,
                }
                for vm in self.cluster.vms
            ],
            "apart": [{"vms": vms, "limit": limit} for vms, limit in self.rules.apart],
            "together": self.rules.together,
            "allowed": self.rules.allowed,
            "cap": self.cap,
            "limit_s": self.limit_s,
            "seed": self.seed,
            **settings,
        }


@dataclass(frozen=True)
class Rules:
    """Sets of which a host may have so many, sets to be on one host, and lists of hosts."""

    apart: list[tuple[list[str], int]]
    together: list[list[str]]
    allowed: dict[str, list[str]]


@dataclass(frozen=True)
class Answer:
    """Where a balancer puts each VM, and what it took.

    Attributes:
        place: Every VM, moved or not.
        cpu_s: CPU seconds of its processes, from start to end.
        wall_s: Wall seconds of the same.
        note: What else there is to say: settings, what ended it.
        finished: Whether it came to an end by itself.
    """

    place: Place
    cpu_s: float
    wall_s: float
    note: str = ""
    finished: bool = True


class AbsentError(Exception):
    """A peer cannot be run here; the message says why, and what would change that."""


class FailedError(Exception):
    """A peer was run and gave no answer; the message is its own."""


class Peer(Protocol):
    """One of the other balancers.

    Attributes:
        name: What tables call it.
        expresses: Which of our rules it can be told, in words.
        tells_all: Whether those are all of them.
    """

    @property
    def name(self) -> str: ...

    @property
    def expresses(self) -> str: ...

    @property
    def tells_all(self) -> bool: ...

    def balance(self, task: Task) -> Answer:
        """Balance a cluster.

        Raises:
            AbsentError: It is not installed.
            FailedError: It gave no answer.
        """
        ...
