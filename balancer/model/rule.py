"""Rules as values: who they are about, how binding they are, and what they say.

What a rule says is expressed in a few forms that know nothing of the rule's kind. Planner
and judge each read the forms for themselves, so a new kind of rule needs neither of them.
The kinds live in `balancer.policy.rules`, one file each.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from balancer.model.cluster import Cluster


class SelectBy(StrEnum):
    """How a selector finds what it means."""

    EXACT = "exact"  # an id, else a name, case-insensitive
    GLOB = "glob"
    TAG = "tag"
    GROUP = "group"
    PRIORITY = "priority"
    HOST = "host"


@dataclass(frozen=True, slots=True)
class Selector:
    """Picks VMs or hosts; written as a plain string or as `{glob: "web-*"}` and so on."""

    by: SelectBy
    value: str

    def __str__(self) -> str:
        return self.value if self.by is SelectBy.EXACT else f"{{{self.by}: {self.value}}}"


@dataclass(frozen=True, slots=True)
class AllowedHosts:
    """Each of `vms` may be on `hosts` only. Broken once per VM elsewhere."""

    vms: frozenset[str]
    hosts: frozenset[str]


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `limit` of `vms` in each domain (a set of hosts). Broken by the excess."""

    vms: frozenset[str]
    domains: tuple[frozenset[str], ...]
    limit: int


@dataclass(frozen=True, slots=True)
class Unit:
    """All of `vms` in one domain. Broken by the number of domains they occupy, less one."""

    vms: frozenset[str]
    domains: tuple[frozenset[str], ...]


@dataclass(frozen=True, slots=True)
class StayPut:
    """Each of `vms` moves only for a drain, a hard rule or an overload, and as few as will do."""

    vms: frozenset[str]


class Turn(StrEnum):
    """When migrations may be under way, seen from the others of the same plan."""

    ONE_AT_A_TIME = "one at a time"  # of the VMs, never two
    AS_ONE = "as one"  # once one of the VMs may start, all may; none steps over a third host
    FIRST = "first"  # before others where both could start: a wish, nothing waits for it
    LAST = "last"  # once all the others are done


@dataclass(frozen=True, slots=True)
class InTurn:
    """The migrations of `vms` take turns, or have their turn, as `turn` says."""

    vms: frozenset[str]
    turn: Turn


@dataclass(frozen=True, slots=True)
class TieBreak:
    """Each of `vms` is better off on one of `hosts`, where everything else is the same."""

    vms: frozenset[str]
    hosts: frozenset[str]


class Hours(Protocol):
    """When something may be done. Instants are in UTC."""

    def may_start(self, at: datetime, expected_s: float) -> bool:
        """Tell whether what takes `expected_s` may start at `at`."""

    def next_opening(self, at: datetime) -> datetime | None:
        """Return `at` if something may be done then, else when; None if never, or who knows."""


@dataclass(frozen=True, slots=True)
class OnlyWhen:
    """Each of `vms` moves in these hours only; soft, each that moves outside of them counts."""

    vms: frozenset[str]
    hours: Hours


Form = AllowedHosts | Cap | Unit | StayPut | InTurn | OnlyWhen | TieBreak


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(ABC):
    """One rule of a policy or of the cluster itself.

    Args:
        vms: The VMs it is about.
        hard: Whether it binds (repaired when broken, never broken or made worse) or only costs.
        during: Whether it holds at every instant of a plan or only at its end.
        origin: Where it was said, for messages: `policy.yaml:12` or `cluster`.
        name: What the administrator calls it; may be empty.
    """

    kind: ClassVar[str]
    withheld: ClassVar[frozenset[str]] = frozenset()  # fields that this kind does not take
    policy_only: ClassVar[bool] = False  # whether a cluster cannot say it of itself

    vms: tuple[Selector, ...]
    hard: bool = True
    during: bool = True
    origin: str = ""
    name: str = ""

    @abstractmethod
    def says(self, cluster: Cluster) -> tuple[Form, ...]:
        """Resolve the selectors on `cluster` and return what the rule demands there."""

    def host_selectors(self) -> tuple[Selector, ...]:
        """Return the selectors of hosts, for kinds that have any."""
        return ()

    def doubts(self, cluster: Cluster) -> tuple[str, ...]:
        """Return what on `cluster` makes it say less than its writer may think, in clauses."""
        del cluster
        return ()

    def __str__(self) -> str:
        who = ", ".join(str(selector) for selector in self.vms or self.host_selectors())
        return f"{self.kind} [{self.name or who}]"
