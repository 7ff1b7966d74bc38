"""A scenario as a YAML file: which world, what goes wrong in it when, and who else acts.

    version: 1
    world: demo
    seed: 7
    faults:
      - {at: 90s, kind: move_fails, host: HV01, code: "0x800705AA", percent: 40%, count: 1}
      - {at: 5m, kind: host_reboots, host: HV03, lasts: 4m}
    chance: {seed: 3, faults: 10, until: 1h}
    actors:
      - operator: {at: 2m, vm: dc-01, to: HV05}
      - backup: {host: HV02, at: 1m, each: 5m}
      - auto_balancer: {moves: 3}
      - drain: {host: HV04, at: 10m, resume: 1h}
      - storage_repair: {at: 3m, lasts: 20m}
      - updating: {at: 2h, each: 20m}
    cluster: {witness: online, storage_direct: true, move_type_threshold: 2000}
    roles:
      - {name: files, owner: HV02, nodes: [HV02, HV03]}
    volumes:
      - {name: Volume2, owner: HV02}
    vms:
      - {vm: dc-01, priority: low}

Times are of the world; VMs are named by id, or by a name that only one has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from balancer.clock import Clock
from balancer.errors import InputError
from balancer.gateway.simulator.actors import (
    Actor,
    AutoBalancer,
    BackupWindow,
    Operator,
    StorageRepair,
)
from balancer.gateway.simulator.drains import OperatorDrain, Updating
from balancer.gateway.simulator.faults import Fault, FaultKind, Scheduled, draw_table
from balancer.gateway.simulator.furnishing import (
    ClusterEntry,
    RoleEntry,
    VmEntry,
    VolumeEntry,
    furnish_cluster,
    furnish_role,
    furnish_vm,
    furnish_volume,
)
from balancer.gateway.simulator.mishaps import schedule
from balancer.gateway.simulator.scenario import build
from balancer.gateway.simulator.windows import Hresult
from balancer.gateway.simulator.world import World
from balancer.policy.document import parse_document
from balancer.policy.fields import Count, Document, Duration, Percent, Text, Version1
from balancer.policy.reading import name_of, read_bytes
from balancer.policy.tree import BYTES_MAX, Places

WHAT = "scenario"


def _hresult(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"0x[0-9A-Fa-f]{8}", value):
        return int(value, 16)
    if isinstance(value, int):
        return value
    raise ValueError(f"expected an HRESULT such as 0x800705AA, not {value!r}")


class FaultEntry(Document):
    """One row of the table of faults; see `balancer.gateway.simulator.faults.Fault`."""

    at: Duration
    kind: FaultKind
    host: Text = ""
    target: Text = ""
    vm: Text = ""
    function: Text = ""
    section: Text = ""
    code: Annotated[int, BeforeValidator(_hresult)] = Hresult.UNSPECIFIED
    percent: Percent = 0.5
    count: Count | None = None
    lasts: Duration | None = None
    delay: Duration = 60.0


class ChanceEntry(Document):
    """Faults that a seed draws, on top of those of the table."""

    seed: Count
    faults: Count
    until: Duration


class OperatorEntry(Document):
    """Somebody moves a VM by hand."""

    at: Duration
    vm: Text
    to: Text


class BackupEntry(Document):
    """A backup locks the VMs of a host one after the other, once a day."""

    host: Text
    at: Duration
    each: Duration


class AutoBalancerEntry(Document):
    """The built-in balancer is at work."""

    moves: Count = 3


class DrainEntry(Document):
    """Somebody drains a node by the platform's own means, and perhaps resumes it so much later."""

    host: Text
    at: Duration
    resume: Duration | None = None


class StorageRepairEntry(Document):
    """Storage Spaces Direct repairs for a while."""

    at: Duration
    lasts: Duration


class UpdatingEntry(Document):
    """A run of Cluster-Aware Updating: node after node, each worked on for so long."""

    at: Duration
    each: Duration


class ActorEntry(Document):
    """Exactly one actor."""

    operator: OperatorEntry | None = None
    backup: BackupEntry | None = None
    auto_balancer: AutoBalancerEntry | None = None
    drain: DrainEntry | None = None
    storage_repair: StorageRepairEntry | None = None
    updating: UpdatingEntry | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        names = list(type(self).model_fields)
        if sum(getattr(self, name) is not None for name in names) != 1:
            raise ValueError(f"expected one of {', '.join(names)}")
        return self


class ScenarioDocument(Document):
    """The whole file."""

    version: Version1
    world: Text
    seed: Count = 1
    faults: tuple[FaultEntry, ...] = Field((), description="What goes wrong, and when.")
    chance: ChanceEntry | None = Field(None, description="Faults at random, by a seed.")
    actors: tuple[ActorEntry, ...] = Field((), description="Who else acts.")
    cluster: ClusterEntry | None = Field(None, description="What is different about the cluster.")
    roles: tuple[RoleEntry, ...] = Field((), description="Groups without a VM.")
    volumes: tuple[VolumeEntry, ...] = Field((), description="More shared volumes.")
    vms: tuple[VmEntry, ...] = Field((), description="What is different about VMs.")


def load_scenario(path: Path | str, clock: Clock) -> World:
    """Return the world that the scenario file at `path` describes, with all that is to come.

    Raises:
        InputError: The file is not right; the error has a place where there is one.
    """
    return parse_scenario(read_bytes(path, BYTES_MAX, WHAT), name_of(path), clock)


def parse_scenario(document: str | bytes, file: str, clock: Clock) -> World:
    """Return the world that YAML text describes; `file` is for messages.

    Raises:
        InputError: The text is not right.
    """
    read, places = parse_document(document, file, ScenarioDocument, WHAT)
    with _at(places, ("world",)):
        world = build(read.world, clock, read.seed)
    _furnish(world, read, places)
    for number, entry in enumerate(read.faults):
        with _at(places, ("faults", number)):
            schedule(world, [Scheduled(entry.at, _fault(world, entry))])
    if read.chance is not None:
        drawn = Random(read.chance.seed)  # noqa: S311 -- a reproducible world, not a secret
        faults, until_s = read.chance.faults, read.chance.until
        schedule(world, draw_table(drawn, list(world.machines), faults, until_s))
    for number, actor in enumerate(read.actors):
        with _at(places, ("actors", number)):
            _actor(world, actor).enter(world)
    return world


def _furnish(world: World, read: ScenarioDocument, places: Places) -> None:
    if read.cluster is not None:
        with _at(places, ("cluster",)):
            furnish_cluster(world, read.cluster)
    for number, role in enumerate(read.roles):
        with _at(places, ("roles", number)):
            furnish_role(world, role, _host)
    for number, volume in enumerate(read.volumes):
        with _at(places, ("volumes", number)):
            furnish_volume(world, volume, _host)
    for number, one in enumerate(read.vms):
        with _at(places, ("vms", number)):
            furnish_vm(world, one, _vm(world, one.vm))


@contextmanager
def _at(places: Places, path: tuple[str | int, ...]) -> Iterator[None]:
    """Say where in the file it is that something does not fit the world."""
    try:
        yield
    except InputError as error:
        raise InputError(error.message, place=places.value(path), remedy=error.remedy) from error


def _fault(world: World, entry: FaultEntry) -> Fault:
    return Fault(
        kind=entry.kind,
        host=entry.host,
        target=entry.target,
        vm=_vm(world, entry.vm) if entry.vm else "",
        function=entry.function,
        section=entry.section,
        code=entry.code,
        percent=entry.percent * 100,
        count=entry.count,
        lasts_s=entry.lasts,
        delay_s=entry.delay,
    )


def _actor(world: World, entry: ActorEntry) -> Actor:
    if entry.operator is not None:
        one = entry.operator
        return Operator(one.at, _vm(world, one.vm), _host(world, one.to))
    if entry.backup is not None:
        backup = entry.backup
        return BackupWindow(_host(world, backup.host), backup.at, backup.each)
    if entry.drain is not None:
        drain = entry.drain
        return OperatorDrain(_host(world, drain.host), drain.at, drain.resume)
    if entry.storage_repair is not None:
        return StorageRepair(entry.storage_repair.at, entry.storage_repair.lasts)
    if entry.updating is not None:
        return Updating(entry.updating.at, entry.updating.each)
    moves = entry.auto_balancer.moves if entry.auto_balancer is not None else 0
    return AutoBalancer(moves)


def _vm(world: World, word: str) -> str:
    """Return the id of the one VM with this id or name."""
    found = [one.id for one in world.guests.values() if word in (one.id, one.name)]
    if len(found) != 1:
        raise InputError(f"{len(found)} VMs of the world are called {word!r}, not one")
    return found[0]


def _host(world: World, name: str) -> str:
    if name not in world.machines:
        raise InputError(f"the world has no host {name!r}")
    return name
