"""A cluster seen by a drain: the hosts being emptied are `draining`, although they are paused."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from balancer.gateway.control import Control, ControlName
from balancer.gateway.port import Gateway, MoveRequest, Observation, SettingAnswer, Sighting
from balancer.model.cluster import AutoBalancer, Cluster, HostState, Transport

_EMPTIED = (HostState.UP, HostState.PAUSED, HostState.DRAINING)


def seen_draining(cluster: Cluster, hosts: Collection[str]) -> Cluster:
    """Return the snapshot with those of `hosts` draining that are up or paused."""
    return dataclasses.replace(
        cluster,
        hosts=tuple(
            dataclasses.replace(host, state=HostState.DRAINING)
            if host.name in hosts and host.state in _EMPTIED
            else host
            for host in cluster.hosts
        ),
    )


class DrainView:
    """Implements `Gateway` over another one, for the executor that carries a drain's plan out."""

    def __init__(self, inner: Gateway, hosts: Collection[str]) -> None:
        self._inner = inner
        self._hosts = frozenset(hosts)
        self._latest: Cluster | None = None

    def lost(self, targets: Collection[str]) -> tuple[str, ...]:
        """Return those of `targets` that the latest reading shows out of service."""
        hosts = self._latest.hosts if self._latest is not None else ()
        return tuple(
            host.name for host in hosts if host.name in targets and host.state is not HostState.UP
        )

    def observe(self) -> Observation:
        """Read every host and the cluster; see `seen_draining`."""
        found = self._inner.observe()
        self._latest = seen_draining(found.cluster, self._hosts)
        return dataclasses.replace(found, cluster=self._latest)

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        """Look at these VMs."""
        return self._inner.look(vms)

    def start(self, request: MoveRequest, fence: int) -> None:
        """Ask for a live migration."""
        self._inner.start(request, fence)

    def cancel(self, vm: str, source: str, fence: int) -> None:
        """Ask for the cancellation of a VM's migration."""
        self._inner.cancel(vm, source, fence)

    def read_transport(self, host: str) -> Transport:
        """Return the host's live migration performance option."""
        return self._inner.read_transport(host)

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        """Set the option if it still is `expected`."""
        return self._inner.write_transport(host, expected, value, fence)

    def read_control(self) -> Control:
        """Return lease, freeze and fence."""
        return self._inner.read_control()

    def write_control(self, name: ControlName, expected: str, value: str, fence: int) -> str:
        """Write a text if it is `expected`; return what is there now."""
        return self._inner.write_control(name, expected, value, fence)

    def set_node(self, name: str, *, paused: bool, fence: int) -> None:
        """Pause or resume a node."""
        self._inner.set_node(name, paused=paused, fence=fence)

    def move_group(self, group: str, target: str, fence: int) -> None:
        """Ask for the move of a group in which no VM runs."""
        self._inner.move_group(group, target, fence)

    def move_volume(self, name: str, target: str, fence: int) -> None:
        """Ask for another owner of a shared volume."""
        self._inner.move_volume(name, target, fence)

    def write_auto_balancer(
        self, expected: AutoBalancer, value: AutoBalancer, fence: int
    ) -> SettingAnswer:
        """Set the built-in balancer's mode if it still is `expected`."""
        return self._inner.write_auto_balancer(expected, value, fence)

    def close(self) -> None:
        """Leave the connections to whoever owns them."""
