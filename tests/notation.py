"""One text notation for small clusters, shared by tests and docs.

    h1 64G 16c: a 4G 1c, b 8G 0.5c
    h2 64G 16c:

A line is a host with memory and cores (default 16c), a colon, and its VMs with memory and
cores used (default 0.1c). Words after the numbers: `paused`, `draining`, `down`, `unknown` for
a host, `smb`, `tcp`, `x2` (two migrations at a time), `@Site=A` (a fault domain); for a
VM `off`, `!word` for a blocker, `>h2` for where somebody migrates it, and `#tag`. A VM's id is
its name.
"""

from __future__ import annotations

import dataclasses

from balancer.model.cluster import (
    Cluster,
    Host,
    HostState,
    MigrationSettings,
    Transport,
    Vm,
    VmState,
)
from balancer.model.rule import Rule

GIB = 2**30


def cluster(text: str, *, rules: tuple[Rule, ...] = (), name: str = "test") -> Cluster:
    """Build a cluster from the notation."""
    hosts: list[Host] = []
    vms: list[Vm] = []
    for line in filter(None, (raw.split("//")[0].strip() for raw in text.splitlines())):
        head, _, tail = line.partition(":")
        host = _host(head.split())
        hosts.append(host)
        vms.extend(_vm(part.split(), host.name) for part in tail.split(",") if part.strip())
    return Cluster(name=name, hosts=tuple(hosts), vms=tuple(vms), rules=rules)


def _number(word: str, unit: str) -> float | None:
    if word.endswith(unit):
        try:
            return float(word[: -len(unit)])
        except ValueError:
            return None
    return None


def _host(words: list[str]) -> Host:
    memory, cores, state, settings = 64.0, 16.0, HostState.UP, MigrationSettings()
    domains: list[str] = []
    for word in words[1:]:
        if (value := _number(word, "G")) is not None:
            memory = value
        elif (value := _number(word, "c")) is not None:
            cores = value
        elif word.startswith("@"):
            domains.append(word[1:].replace("=", ":"))
        elif word in list(HostState):
            state = HostState(word)
        elif word in list(Transport):
            settings = dataclasses.replace(settings, transport=Transport(word))
        elif word.startswith("x"):
            settings = dataclasses.replace(settings, concurrent=int(word[1:]))
        else:
            raise ValueError(f"host {words[0]}: what is {word!r}?")
    return Host(
        words[0],
        cores,
        int(memory * GIB),
        state=state,
        migration=settings,
        fault_domain=tuple(domains),
    )


def _vm(words: list[str], host: str) -> Vm:
    memory, cores, state = 4.0, 0.1, VmState.RUNNING
    tags: list[str] = []
    blocked: list[str] = []
    migrating_to: str | None = None
    for word in words[1:]:
        if (value := _number(word, "G")) is not None:
            memory = value
        elif (value := _number(word, "c")) is not None:
            cores = value
        elif word in list(VmState):
            state = VmState(word)
        elif word.startswith("!"):
            blocked.append(word[1:])
        elif word.startswith(">"):
            migrating_to = word[1:]
        elif word.startswith("#"):
            tags.append(word[1:])
        else:
            raise ValueError(f"VM {words[0]}: what is {word!r}?")
    return Vm(
        id=words[0],
        name=words[0],
        host=host,
        cpu_used_cores=cores,
        memory_assigned_bytes=int(memory * GIB),
        state=state,
        tags=tuple(tags),
        blocked_by=tuple(blocked),
        migrating_to=migrating_to,
    )
