"""The hosts a gateway knows, by every name they go by, and the ways to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from balancer.errors import UnreachableError
from balancer.gateway.host import HostFunctions
from balancer.gateway.names import host_key


class Roll:
    """Names and ways to hosts. Safe to use from several threads.

    A host may be configured by an address or an alias and be called otherwise by its cluster;
    once it has said its computer's name both lead to the same way.
    """

    def __init__(self, seeds: Iterable[str], connect: Callable[[str], HostFunctions]) -> None:
        self._connect = connect
        self._lock = threading.Lock()
        self._names: dict[str, str] = {}
        self._dialled: dict[str, str] = {}  # the names that ways are made from
        self._alias: dict[str, str] = {}
        self._ways: dict[str, HostFunctions] = {}
        for name in seeds:
            self.add(name)

    def names(self) -> tuple[str, ...]:
        """Return the hosts by the names they are configured or were found under."""
        with self._lock:
            return tuple(self._names.values())

    def add(self, name: str) -> str:
        """Make a host known, and return the name it is known under."""
        with self._lock:
            key = self._key(name)
            self._dialled.setdefault(key, name)
            return self._names.setdefault(key, name)

    def rename(self, name: str) -> str:
        """Make a host known by the name its cluster has for it; the way to it stays."""
        self.add(name)
        with self._lock:
            self._names[self._key(name)] = name
        return name

    def identify(self, name: str, computer: str) -> None:
        """Note that the host known as `name` calls its computer so."""
        with self._lock:
            own, alias = self._key(name), host_key(computer)
            if alias and alias not in self._names:
                self._alias.setdefault(alias, own)

    def way(self, name: str) -> HostFunctions:
        """Return the way to a host that is known.

        Raises:
            UnreachableError: There is no host of that name.
        """
        with self._lock:
            key = self._key(name)
            if key not in self._names:
                raise UnreachableError(
                    f"there is no host {name!r} in this cluster",
                    remedy="observe the cluster again: its hosts may have changed",
                )
            if key not in self._ways:
                self._ways[key] = self._connect(self._dialled[key])
            return self._ways[key]

    def known_as(self, name: str) -> str:
        """Return the name a host is known under here, for any name it goes by."""
        with self._lock:
            return self._names.get(self._key(name), name)

    def open_ways(self) -> dict[str, HostFunctions]:
        """Return the ways that have been made, by the names hosts are known under."""
        with self._lock:
            return {self._names[key]: way for key, way in self._ways.items()}

    def _key(self, name: str) -> str:
        key = host_key(name)
        return self._alias.get(key, key)
