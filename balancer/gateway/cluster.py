"""The gateway proper: one cluster, or a set of stand-alone hosts, over any way to its hosts.

Written once for real and simulated hosts. The cluster is asked of a node that is known to be
alive, beside all hosts of the one that spoke for it the last time, of another when that one is
silent, and believed only where a majority of votes stands behind it. No act is ever sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from balancer.clock import Clock
from balancer.errors import UnreachableError
from balancer.gateway.assemble import assemble
from balancer.gateway.cluster_wide import ClusterWide, accept
from balancer.gateway.doubt import fault_text
from balancer.gateway.garbage import uncollected
from balancer.gateway.gather import Failure, Gather, again
from balancer.gateway.heard import Heard, hear
from balancer.gateway.host import HostFunctions
from balancer.gateway.names import host_key, id_key
from balancer.gateway.port import (
    FencedError,
    InFlight,
    MoveRequest,
    Observation,
    ReplyLostError,
    SettingAnswer,
    Sighting,
)
from balancer.gateway.quorum import is_dead, is_member, why_not_believed
from balancer.gateway.roll import Roll
from balancer.gateway.sighting import Look
from balancer.gateway.states import OPTION_OF, TRANSPORTS
from balancer.gateway.whereabouts import contested, groups_by_vm
from balancer.gateway.wire import ClusterAnswer, MovesAnswer
from balancer.model.cluster import Cluster, Transport

T = TypeVar("T")

_Told = Mapping[str, ClusterAnswer | Failure]


class ClusterGateway(ClusterWide):
    """Implements `balancer.gateway.port.Gateway` on top of `HostFunctions`."""

    def __init__(
        self,
        name: str,
        seeds: Sequence[str],
        connect: Callable[[str], HostFunctions],
        gather: Gather,
        clock: Clock,
        *,
        clustered: bool = True,
        last: Cluster | None = None,
    ) -> None:
        """Describe the cluster; nothing is connected before it is needed.

        Args:
            name: What snapshots call it.
            seeds: Hosts that are configured. One node of a cluster is enough to find the
                others; of stand-alone hosts, these are all.
            connect: Returns the way to a host by name.
            gather: Calls hosts, in turn or side by side.
            clock: Gives snapshots their time.
            clustered: Whether the hosts are nodes of one failover cluster.
            last: A snapshot from before a restart: what it knew of hosts that are silent now.
        """
        self._name = name
        self._gather = gather
        self._clock = clock
        self._clustered = clustered
        self._roll = Roll(seeds, connect)
        self._last = last
        self._flights: tuple[InFlight, ...] = ()
        self._targets: dict[str, str] = {}  # where our own moves go, by folded VM id
        self._speaker = ""  # the node that last spoke for the cluster
        self._seeds = tuple(seeds)
        self._met = not clustered  # whether all hosts are known, by the names the cluster has

    @property
    def clustered(self) -> bool:
        """Whether the hosts are nodes of one failover cluster."""
        return self._clustered

    @property
    def cluster_name(self) -> str:
        """What snapshots call the cluster."""
        return self._name

    def observe(self) -> Observation:
        """Read every host and the cluster.

        Raises:
            UnreachableError: No node that can be believed answered for the cluster.
        """
        with uncollected:
            return self._observe()

    def _observe(self) -> Observation:
        hosts, told = self._read_hosts_and_speaker()
        cluster: ClusterAnswer | None = None
        if self._clustered:
            cluster = self._read_cluster(hosts, told)
            found = [self._roll.rename(row.name) for row in cluster.nodes.data or []]
            hosts = {self._roll.known_as(name): answer for name, answer in hosts.items()}
            hosts |= self._read_hosts([name for name in found if name not in hosts])
        came = {name: one.answer for name, one in hosts.items() if not isinstance(one, Failure)}
        if again := contested(came, cluster):
            hosts |= self._read_hosts(sorted(again))
            cluster = self._read_cluster(hosts) if self._clustered else None
        observation = assemble(
            self._name,
            cluster,
            {name: None if isinstance(one, Failure) else one for name, one in hosts.items()},
            self._clock.now(),
            self._last,
            {name: one.message for name, one in hosts.items() if isinstance(one, Failure)},
        )
        self._last, self._flights = observation.cluster, observation.in_flight
        self._met = True
        return observation

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        """Look at these VMs (ids) wherever they are; one sighting for each id asked.

        Raises:
            UnreachableError: Who the nodes are is not known yet, and nobody can be believed on it.
        """
        if not self._met:
            self.observe()
        look = Look(vms, self._concerned(vms), self._roll.names())
        heard: dict[str, MovesAnswer] = {}
        while questions := look.questions():
            calls = {
                host: partial(self._ask, host, partial(_moves, ids))
                for host, ids in questions.items()
            }
            for host, answer in self._gather(calls).items():
                if isinstance(answer, Failure):
                    look.tell(host, None)
                else:
                    heard[host] = answer
                    look.tell(host, answer)
        if self._clustered and look.is_in_doubt():
            self._excuse_dead(look, heard)
        return look.sightings()

    def start(self, request: MoveRequest, fence: int) -> None:
        """Ask for a live migration and return once it is accepted or queued.

        Raises:
            MoveRefusedError, ReplyLostError, UnreachableError, FencedError.
        """
        self._targets[id_key(request.vm)] = request.target
        answer = self._call(
            request.source,
            lambda way: way.start(
                request.vm, request.target, clustered=request.clustered, fence=fence
            ),
        )
        accept(answer, f"{request.source} refused to migrate {request.vm} to {request.target}")

    def cancel(self, vm: str, source: str, fence: int) -> None:
        """Ask for the cancellation of a VM's migration; a migration already over is no error."""
        answer = self._call(source, lambda way: way.stop(vm, fence))
        accept(answer, f"{source} refused to cancel the migration of {vm}")

    def read_transport(self, host: str) -> Transport:
        """Return the host's live migration performance option as set now."""
        part = self._call(host, lambda way: way.read_host()).host
        if part.data is None or part.data.migration_option not in TRANSPORTS:
            raise UnreachableError(
                f"{host} does not tell its migration settings: {fault_text(part.fault)}",
                remedy=f"run Get-VMHost on {host} as the account used here",
            )
        return TRANSPORTS[part.data.migration_option]

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        """Set the option if it still is `expected`, nothing moves there, and ATC is not in charge.

        Already being `value` counts as written.
        """
        answer = self._call(
            host, lambda way: way.set_transport(OPTION_OF[expected], OPTION_OF[value], fence)
        )
        if answer.result == "fenced":
            raise _fenced(host)
        try:
            return SettingAnswer(answer.result)
        except ValueError:
            raise ReplyLostError(
                f"{host} answered {answer.result!r} to the writing of its transport",
                remedy="bring the HyperVBalancer module on the host to our version",
            ) from None

    def close(self) -> None:
        """Let go of connections; the gateway is not used afterwards."""
        self._gather({name: way.close for name, way in self._roll.open_ways().items()})

    def _speakers(self) -> Sequence[str]:
        names = self._roll.names()
        return sorted(names, key=lambda name: name != self._speaker) if self._clustered else names

    def _excuse_dead(self, look: Look, heard: Mapping[str, MovesAnswer]) -> None:
        """Let a majority of the cluster and a VM's owner speak for a node that has died."""
        try:
            cluster = self._read_cluster(heard)
        except UnreachableError:
            return
        dead = [self._roll.known_as(row.name) for row in cluster.nodes.data or [] if is_dead(row)]
        groups = groups_by_vm(cluster)
        look.excuse(dead, {vm: self._roll.known_as(row.owner) for vm, row in groups.items()})

    def _read_hosts_and_speaker(self) -> tuple[dict[str, Heard | Failure], _Told]:
        """Read all hosts and, beside them, the cluster from the node that last spoke for it."""
        names = self._roll.names()
        speaker = self._roll.known_as(self._speaker)
        if speaker not in names:
            return self._read_hosts(names), {}
        calls: dict[str, Callable[[], Heard | ClusterAnswer]] = {
            speaker: partial(self._ask, speaker, _host),
            again(speaker): partial(self._ask, speaker, _cluster),
        }
        calls |= {name: partial(self._ask, name, _host) for name in names if name != speaker}
        outcomes = dict(self._gather(calls))
        told = outcomes.pop(again(speaker))
        hosts = {
            name: one for name in names if not isinstance(one := outcomes[name], ClusterAnswer)
        }
        self._identify(hosts)
        return hosts, {} if isinstance(told, Heard) else {speaker: told}

    def _read_hosts(self, names: Iterable[str]) -> dict[str, Heard | Failure]:
        answers = dict(self._gather({name: partial(self._ask, name, _host) for name in names}))
        self._identify(answers)
        return answers

    def _identify(self, answers: Mapping[str, Heard | Failure]) -> None:
        for name, one in answers.items():
            if not isinstance(one, Failure):
                self._roll.identify(name, one.answer.computer)

    def _read_cluster(
        self, hosts: Mapping[str, Heard | MovesAnswer | Failure], told: _Told | None = None
    ) -> ClusterAnswer:
        """Return what the first node that can be believed says; some may have said it already."""
        known = told or {}
        alive = [name for name, answer in hosts.items() if not isinstance(answer, Failure)]
        alive.sort(key=lambda name: name != self._speaker)
        silent = [name for name in hosts if name not in alive]
        reasons: list[str] = []
        for names in (alive[:1], alive[1:], silent):
            said = {name: known[name] for name in names if name in known}
            said |= self._ask_cluster([name for name in names if name not in known])
            for name, answer in said.items():
                if isinstance(answer, Failure):
                    reasons.append(f"{name}: {answer.message}")
                    continue
                if why := why_not_believed(answer) or self._why_not_ours(answer):
                    reasons.append(f"{name}: {why}")
                    continue
                self._refuse_second_cluster(name, answer, alive)
                self._speaker = name
                return answer
        raise UnreachableError(
            f"no node can be believed about cluster {self._name}: " + "; ".join(reasons),
            remedy="look at the cluster service and the quorum with Get-ClusterNode on a node",
        )

    def _why_not_ours(self, answer: ClusterAnswer) -> str | None:
        """Return why a node speaks for another cluster than was meant, or None.

        Snapshots may call a cluster otherwise than it calls itself; but then every configured host
        must be a node of it, or the silence of one would let the other one's cluster be taken.
        """
        told = answer.cluster.data.name if answer.cluster.data else ""
        if host_key(told) == host_key(self._name):
            return None
        nodes = {self._roll.known_as(row.name) for row in answer.nodes.data or []}
        strangers = [seed for seed in self._seeds if self._roll.known_as(seed) not in nodes]
        if strangers:
            return f"its cluster is {told!r}, and {', '.join(strangers)} is no node of it"
        return None

    def _refuse_second_cluster(
        self, speaker: str, answer: ClusterAnswer, alive: Iterable[str]
    ) -> None:
        """Raise if a node that the speaker does not count in claims a majority of its own."""
        rows = answer.nodes.data or []
        outside = {self._roll.add(row.name) for row in rows if not is_member(row)}
        others = self._ask_cluster([name for name in alive if name in outside])
        for name, other in others.items():
            if not isinstance(other, Failure) and why_not_believed(other) is None:
                raise UnreachableError(
                    f"{speaker} and {name} both claim the majority of cluster {self._name}, each "
                    "without the other: neither is believed",
                    remedy="the cluster is split: mend it before anything is moved",
                )

    def _ask_cluster(self, names: Iterable[str]) -> Mapping[str, ClusterAnswer | Failure]:
        return self._gather({name: partial(self._ask, name, _cluster) for name in names})

    def _concerned(self, vms: Collection[str]) -> dict[str, set[str]]:
        """Return for each VM the hosts it may be on as far as we know, by their names here."""
        wanted = {id_key(vm): vm for vm in vms}
        found: dict[str, set[str]] = {vm: set() for vm in vms}
        seen = [(vm.id, vm.host) for vm in self._last.vms] if self._last else []
        flying = [(one.vm, one.target) for one in self._flights if one.target]
        for vm, host in (*seen, *flying, *self._targets.items()):
            if id_key(vm) in wanted:
                found[wanted[id_key(vm)]].add(self._roll.add(host))
        return found

    def _ask(self, host: str, question: Callable[[HostFunctions], T]) -> T:
        return question(self._roll.way(host))

    def _call(self, host: str, question: Callable[[HostFunctions], T]) -> T:
        """Call one host under the same watchdog as all, and raise what failed."""
        if not self._met and not self._roll.knows(host):
            self.observe()
        way = self._roll.way(host)
        name = self._roll.known_as(host)
        outcome = self._gather({name: lambda: question(way)})[name]
        if isinstance(outcome, Failure):
            raise outcome
        return outcome


def _host(way: HostFunctions) -> Heard:
    return hear(way.read_host())  # in the thread that asks: while the others wait for their hosts


def _cluster(way: HostFunctions) -> ClusterAnswer:
    return way.read_cluster()


def _moves(vms: Sequence[str], way: HostFunctions) -> MovesAnswer:
    return way.read_moves(vms)


def _fenced(host: str) -> FencedError:
    return FencedError(
        f"{host} refused to write its transport: an executor with a newer number has acted there",
        remedy="let the newer executor finish; this one must not go on",
    )
