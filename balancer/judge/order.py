"""The partial order of a plan: for each migration, everything that must be done before it.

Sets of migrations are bit sets in Python integers, bit i for the i-th migration of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from balancer.judge.finding import Code, Finding
from balancer.model.plan import Migration


@dataclass(frozen=True)
class Order:
    """Migrations and their precedence. `before[i]` holds all that i waits for, near and far."""

    migrations: tuple[Migration, ...]
    before: tuple[int, ...]

    @cached_property
    def legs(self) -> Mapping[str, tuple[int, ...]]:
        """Map VMs to their migrations, in the order in which they happen."""
        found: dict[str, list[int]] = {}
        for at, migration in enumerate(self.migrations):
            found.setdefault(migration.vm, []).append(at)
        return {
            vm: tuple(sorted(ats, key=lambda at: self.before[at].bit_count()))
            for vm, ats in found.items()
        }

    def end(self, vm: str, host: str) -> str:
        """Return where `vm`, now on `host`, is at the end of the plan."""
        legs = self.legs.get(vm)
        return self.migrations[legs[-1]].target if legs else host


def members(bits: int) -> Iterator[int]:
    """Yield the elements of a bit set in rising order."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def order_faults(migrations: tuple[Migration, ...]) -> tuple[Finding, ...]:
    """Find ids used twice, references to nothing, and cycles (clause 4)."""
    at: dict[str, int] = {}
    found: list[Finding] = []
    for index, migration in enumerate(migrations):
        if at.setdefault(migration.id, index) != index:
            text = f"two migrations have the id {migration.id}"
            found.append(Finding(Code.DUPLICATE_ID, migration.id, text))
    for migration in migrations:
        for other in migration.after:
            if other not in at:
                text = f"{migration.id} comes after {other}, which is not in the plan"
                found.append(Finding(Code.UNKNOWN_AFTER, migration.id, text))
    if not found and (stuck := _sorted(migrations, at)[1]):
        text = "these wait for each other in a circle: " + ", ".join(stuck)
        found.append(Finding(Code.CYCLE, stuck[0], text))
    return tuple(found)


def order_of(migrations: tuple[Migration, ...]) -> Order:
    """Return the order of migrations that have no `order_faults`."""
    at = {migration.id: index for index, migration in enumerate(migrations)}
    before = [0] * len(migrations)
    for index in _sorted(migrations, at)[0]:
        for other in migrations[index].after:
            before[index] |= before[at[other]] | 1 << at[other]
    return Order(migrations, tuple(before))


def _sorted(
    migrations: tuple[Migration, ...], at: Mapping[str, int]
) -> tuple[list[int], tuple[str, ...]]:
    """Return indices so that each follows what it waits for, and the ids that never get free."""
    waiting = [len(set(migration.after)) for migration in migrations]
    followers: list[list[int]] = [[] for _ in migrations]
    for index, migration in enumerate(migrations):
        for other in set(migration.after):
            followers[at[other]].append(index)
    free = [index for index, count in enumerate(waiting) if not count]
    for index in free:
        for follower in followers[index]:
            waiting[follower] -= 1
            if not waiting[follower]:
                free.append(follower)
    return free, tuple(m.id for m, count in zip(migrations, waiting, strict=True) if count)
