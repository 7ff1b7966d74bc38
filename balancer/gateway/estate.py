"""What a cluster holds beside its VMs: all that must be known before a node may be taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    """A node as its cluster sees it.

    Attributes:
        votes: What it counts for now (DynamicWeight); nothing while it is away.
        member: It is up or paused: it takes part and votes.
        paused: Nothing lands on it, whoever asked for that.
        draining: The platform's own drain is at work on it: somebody else's.
    """

    name: str
    votes: int = 1
    member: bool = True
    paused: bool = False
    draining: bool = False


@dataclass(frozen=True, slots=True)
class Role:
    """A cluster group that can be moved as it is: no VM of it runs.

    Attributes:
        vm: The id of the VM that stands still in it; empty for every other role.
        owners: Nodes that may own it; empty when every node may.
    """

    id: str
    name: str
    owner: str
    vm: str = ""
    core: bool = False
    locked: bool = False
    owners: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Volume:
    """A cluster shared volume and the node that coordinates it."""

    name: str
    owner: str


@dataclass(frozen=True, slots=True)
class Storage:
    """Storage Spaces Direct. `known` is false when it could not be read."""

    direct: bool = False
    jobs: int = 0
    unhealthy: tuple[str, ...] = ()
    known: bool = True


@dataclass(frozen=True, slots=True)
class Estate:
    """Everything of a cluster that a node may own, and what its going would cost."""

    nodes: tuple[Node, ...] = ()
    roles: tuple[Role, ...] = ()
    volumes: tuple[Volume, ...] = ()
    witness_online: bool | None = None  # None: there is no witness
    storage: Storage = Storage()
    vm_owners: Mapping[str, str] | None = None  # owner of each running VM's group, by VM id

    def node(self, name: str) -> Node | None:
        """Return the node of that name, however its case is."""
        return next((one for one in self.nodes if one.name.casefold() == name.casefold()), None)

    def votes_without(self, away: frozenset[str]) -> tuple[int, int]:
        """Return the votes left, and all there are, if these nodes (folded names) went at once."""
        total = sum(node.votes for node in self.nodes)
        left = sum(
            node.votes for node in self.nodes if node.member and node.name.casefold() not in away
        )
        if self.witness_online is not None and total % 2 == 0:
            return left + int(self.witness_online), total + 1
        return left, total
