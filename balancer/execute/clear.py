"""Moving what is no running VM off hosts: VMs that stand still, other roles, shared volumes.

Nothing of it carries load, so it goes in one sweep and wherever it may: each to a node that is up,
is a possible owner, and has been given least so far. What was asked for is looked for; what does
not arrive is asked of another node, a few times.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from balancer.errors import UnreachableError
from balancer.execute.context import Context
from balancer.execute.leaving import things_on
from balancer.execute.progress import NewsKind
from balancer.gateway.names import host_key
from balancer.gateway.port import MoveRefusedError, Observation, ReplyLostError
from balancer.model.cluster import Cluster, HostState
from balancer.model.drain import Kind, Left, Thing
from balancer.model.rule import AllowedHosts
from balancer.policy.policy import Policy
from balancer.policy.said import what_is_said

ARRIVES_S = 60.0  # a group goes offline and online again; a file server's clients may take so long
TRIES_MAX = 3


@dataclass(slots=True)
class _Try:
    """What has been tried with one thing."""

    targets: list[str] = field(default_factory=list)
    asked_s: float = 0.0
    waits: bool = False  # it was asked for, and may still arrive
    why: str = ""


@dataclass
class Clearing:
    """One sweep over some hosts."""

    context: Context
    drain: int
    policy: Policy
    hosts: Collection[str]
    tries: dict[str, _Try] = field(default_factory=dict)
    moved: Counter[Kind] = field(default_factory=Counter)

    def run(self, interrupted: Callable[[], bool], poll_s: float) -> tuple[Left, ...]:
        """Move everything that can be; return what stays, with the reasons.

        Raises:
            FencedError, LeaseLostError: A newer executor has the cluster.
            UnreachableError: The cluster cannot be read any more.
        """
        before: dict[str, Thing] = {}
        while True:
            self.context.renew()
            seen = self.context.gateway.observe()
            rest = {one.key: one for one in things_on(seen, self.hosts) if one.kind is not Kind.VM}
            for key in before.keys() - rest.keys():
                self._arrived(before[key])
            before = rest
            left = [left for one in rest.values() if (left := self._move_on(one, seen)) is not None]
            if len(left) == len(rest) or interrupted():
                return tuple(left)
            self.context.clock.sleep(poll_s)

    def _arrived(self, thing: Thing) -> None:
        self.moved[thing.kind] += 1
        tried = self.tries.get(thing.key)
        where = f" to {tried.targets[-1]}" if tried and tried.targets else ""
        self.context.tell(NewsKind.MOVED, thing.name, f"{_words(thing)}{where}: done")

    def _move_on(self, thing: Thing, seen: Observation) -> Left | None:
        """Ask for a move if it is time to; return why the thing stays once nothing is left."""
        tried = self.tries.setdefault(thing.key, _Try())
        if tried.waits:
            if self.context.now_s - tried.asked_s < ARRIVES_S:
                return None
            tried.waits, tried.why = False, f"it did not arrive within {ARRIVES_S:.0f} s"
        targets = [name for name in self._targets(thing, seen) if name not in tried.targets]
        if not targets or len(tried.targets) >= TRIES_MAX:
            return self._left(thing, tried)
        self._ask(thing, tried, targets[0])
        return None

    def _ask(self, thing: Thing, tried: _Try, target: str) -> None:
        context = self.context
        text = f"{_words(thing)} from {thing.host}"
        context.store.drains.moving(
            context.lease, self.drain, f"{thing.kind.value} {thing.key}", target, text, context.now
        )
        tried.targets.append(target)
        tried.asked_s, tried.waits = context.now_s, True
        try:
            gateway, is_volume = context.gateway, thing.kind is Kind.VOLUME
            move = gateway.move_volume if is_volume else gateway.move_group
            context.act_anywhere(lambda fence: move(thing.key, target, fence))
        except ReplyLostError:
            context.tell(NewsKind.LOST, thing.name, f"{text} to {target}: no reply; looking")
        except (MoveRefusedError, UnreachableError) as error:
            tried.waits, tried.why = False, error.message
            context.tell(NewsKind.FAILED, thing.name, f"{text} to {target}: {error.message}")

    def _targets(self, thing: Thing, seen: Observation) -> list[str]:
        """Return where the thing may go, the best first."""
        able = _open_hosts(seen.cluster, self.hosts)
        owners: Iterable[str] = ()
        role = None
        if seen.estate is not None:
            role = next((one for one in seen.estate.roles if one.id == thing.key), None)
        if role is not None:
            owners = role.owners
        if owners:
            keys = {host_key(owner) for owner in owners}
            able = [name for name in able if host_key(name) in keys]
        if role is not None and role.vm:
            able = [name for name in able if self._allowed(seen.cluster, role.vm, name)]
        given = Counter(tried.targets[-1] for tried in self.tries.values() if tried.targets)
        return sorted(able, key=lambda name: (given[name], name))

    def _allowed(self, cluster: Cluster, vm: str, host: str) -> bool:
        """Tell whether the hard lists of hosts let a VM be there."""
        folded = vm.casefold()
        return all(
            host in one.form.hosts
            for one in what_is_said(cluster, self.policy)
            if one.hard and isinstance(one.form, AllowedHosts)
            if any(listed.casefold() == folded for listed in one.form.vms)
        )

    @staticmethod
    def _left(thing: Thing, tried: _Try) -> Left:
        why = tried.why or "no other node may own it"
        remedy = {
            Kind.VOLUME: f"Move-ClusterSharedVolume -Name '{thing.name}' on a node tells more",
            Kind.ROLE: "add possible owners to the role, or move or stop it by hand",
        }.get(thing.kind, "add possible owners to the VM, or move its role by hand")
        return Left(thing.host, thing.kind, thing.name, why, remedy)


def _open_hosts(cluster: Cluster, emptied: Collection[str]) -> list[str]:
    return sorted(
        host.name
        for host in cluster.hosts
        if host.state is HostState.UP and host.name not in emptied
    )


def _words(thing: Thing) -> str:
    label = {Kind.VOLUME: "volume", Kind.ROLE: "role"}.get(thing.kind, "stopped VM")
    return f"{label} {thing.name}"
