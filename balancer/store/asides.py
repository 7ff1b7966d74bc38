"""What is set aside because it failed: who is to blame, for how long, and what clears it.

One failure is put down to its own way (this VM from here to there), unless its code blames more.
Failures that add up are put down to what they have in common: a VM that failed on `VM_WAYS` ways,
a pair of hosts between which `VMS` VMs failed, a host from or to which that many failed with more
than one other. Time clears it, and so does whatever goes well in spite of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from balancer.model.aside import About, Aside
from balancer.store import tables
from balancer.store.leases import Lease, require_held
from balancer.store.part import Part

# So long after the first failure, twice as long after each further one, and at most so long: what
# nobody mends is tried once a week. After as long again without a failure it is forgotten.
FIRST = timedelta(hours=4)
MOST = timedelta(days=7)

VM_WAYS = 2
VMS = 3


_COLUMNS = [column for column in tables.asides.c if column.name != "id"]
_ACTIVE = (
    select(*_COLUMNS)
    .where(tables.asides.c.cluster == bindparam("name"), tables.asides.c.until > bindparam("now"))
    .order_by(tables.asides.c.id)
)
_DISPROVED = select(tables.asides.c.id, *_COLUMNS).where(
    tables.asides.c.cluster == bindparam("at"),
    or_(tables.asides.c.vm == "", tables.asides.c.vm == bindparam("its_vm")),
    or_(tables.asides.c.source == "", tables.asides.c.source == bindparam("from")),
    or_(tables.asides.c.target == "", tables.asides.c.target == bindparam("to")),
)


class Asides(Part):
    """What is set aside in each cluster."""

    def active(self, cluster: str, now: datetime) -> tuple[Aside, ...]:
        """Return what is set aside now, the oldest first."""
        return tuple(Aside(**row) for row in self._read(_ACTIVE, name=cluster, now=now))

    def failed(self, lease: Lease, one: Aside, about: About) -> tuple[Aside, ...]:
        """Set aside what a failure is put down to; return that, with what failures add up to.

        Args:
            lease: Of whoever acts.
            one: The migration that failed, at `since`; its end and count are found here.
            about: What its code blames.

        Raises:
            LeaseLostError: A newer executor has the cluster.
        """
        with self._writing() as connection:
            require_held(connection, lease)
            forgotten = one.since - MOST
            table = tables.asides
            connection.execute(delete(table).where(table.c.until < forgotten))
            found = [_put(connection, _blamed(one, about))]
            if about is About.WAY:
                ways = _active_ways(connection, one)
                found += [_put(connection, _blamed(one, more)) for more in _shared(one, ways)]
        return tuple(found)

    def went_well(self, lease: Lease, vm: str, source: str, target: str) -> tuple[Aside, ...]:
        """Clear whatever a migration that went well has proven wrong; return that."""
        with self._writing() as connection:
            require_held(connection, lease)
            table = tables.asides
            way = {"at": lease.cluster, "its_vm": vm, "from": source, "to": target}
            found = [dict(row) for row in connection.execute(_DISPROVED, way).mappings()]
            ids = [row.pop("id") for row in found]
            if ids:
                connection.execute(delete(table).where(table.c.id.in_(ids)))
        return tuple(Aside(**row) for row in found)


def _blamed(one: Aside, about: About) -> Aside:
    """Return the entry that puts a failed migration down to one thing."""
    values: dict[str, Any] = {name: getattr(one, name) for name in Aside.__slots__}
    if about not in (About.WAY, About.VM):
        values |= {"vm": "", "name": ""}
    if about in (About.VM, About.TARGET):
        values["source"] = ""
    if about in (About.VM, About.SOURCE):
        values["target"] = ""
    return Aside(**values)


def _put(connection: Connection, one: Aside) -> Aside:
    """Enter something, or again and for longer; return it as it is entered."""
    table = tables.asides
    same = (
        (table.c.cluster == one.cluster)
        & (table.c.vm == one.vm)
        & (table.c.source == one.source)
        & (table.c.target == one.target)
    )
    before = connection.execute(select(table.c.failures).where(same).with_for_update()).scalar()
    failures = (before or 0) + 1
    lasts = min(MOST, FIRST * 2 ** min(failures - 1, 16))
    values: dict[str, Any] = {
        "name": one.name,
        "since": one.since,
        "until": one.since + lasts,
        "failures": failures,
        "code": one.code,
        "reason": one.reason,
    }
    keys: dict[str, Any] = {
        "cluster": one.cluster,
        "vm": one.vm,
        "source": one.source,
        "target": one.target,
    }
    if before is None:
        connection.execute(insert(table).values(**keys, **values))
    else:
        connection.execute(update(table).where(same).values(**values))
    return Aside(**keys, **values)


def _active_ways(connection: Connection, one: Aside) -> list[tuple[str, str, str]]:
    """Return VM, source and target of the ways that are set aside now."""
    table = tables.asides
    query = select(table.c.vm, table.c.source, table.c.target).where(
        table.c.cluster == one.cluster,
        table.c.until > one.since,
        table.c.vm != "",
        table.c.source != "",
        table.c.target != "",
    )
    return [(row.vm, row.source, row.target) for row in connection.execute(query)]


def _shared(one: Aside, ways: list[tuple[str, str, str]]) -> Iterable[About]:
    """Yield what this failure has in common with enough others."""
    if sum(vm == one.vm for vm, _, _ in ways) >= VM_WAYS:
        yield About.VM
    if sum((source, target) == (one.source, one.target) for _, source, target in ways) >= VMS:
        yield About.PAIR
    for end, about in ((1, About.SOURCE), (2, About.TARGET)):
        mine = (one.vm, one.source, one.target)[end]
        there = [way for way in ways if way[end] == mine]
        others = {way[3 - end] for way in there}
        if len({way[0] for way in there}) >= VMS and len(others) > 1:
            yield about
