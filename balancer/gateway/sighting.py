"""Looking at single VMs while they move: whom to ask, and what the answers show. Pure.

The hosts concerned are asked first: where a VM was last seen, where it goes, and who the
cluster says owns it. A VM that none of them has may be anywhere: then all are asked. One that
does not answer leaves in doubt what the others show, unless the cluster has given it up.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from balancer.gateway.names import host_key, id_key
from balancer.gateway.port import Sighting
from balancer.gateway.pulse import heartbeat
from balancer.gateway.states import (
    GROUP_QUEUED_FLAG,
    JOB_STATES_MOVING,
    MIGRATING_STATUS,
    MIGRATION_STATES_MOVING,
    vm_state,
)
from balancer.gateway.wire import MoveRow, MovesAnswer
from balancer.model.cluster import VmState


class Look:
    """One look at some VMs: hands out questions until nobody is left to ask."""

    def __init__(
        self, vms: Collection[str], concerned: Mapping[str, set[str]], everyone: Sequence[str]
    ) -> None:
        self._vms = tuple(vms)
        self._everyone = list(dict.fromkeys((*everyone, *sorted(set().union(*concerned.values())))))
        self._names = {host_key(name): name for name in self._everyone}
        self._concerned = {vm: set(concerned.get(vm, ())) or set(self._everyone) for vm in vms}
        self._asked: dict[str, set[str]] = {vm: set() for vm in vms}
        self._rows: dict[str, dict[str, MoveRow]] = {vm: {} for vm in vms}
        self._silent: set[str] = set()

    def questions(self) -> Mapping[str, list[str]]:
        """Return which host to ask about which VMs next; nothing when all is known."""
        found: dict[str, list[str]] = {}
        for vm in self._vms:
            left = self._concerned[vm] - self._asked[vm]
            if not left and not self._hosts(vm):
                self._concerned[vm].update(self._everyone)
                left = self._concerned[vm] - self._asked[vm]
            self._asked[vm] |= left
            for host in left:
                if host not in self._silent:
                    found.setdefault(host, []).append(vm)
        return {host: found[host] for host in self._everyone if host in found}

    def tell(self, host: str, answer: MovesAnswer | None) -> None:
        """Take a host's answer to its question; None when none came."""
        if answer is None:
            self._silent.add(host)
            return
        rows = {id_key(row.vm): row for row in answer.moves}
        for vm in self._vms:
            row = rows.get(id_key(vm))
            if host not in self._asked[vm] or row is None:
                continue
            self._rows[vm][host] = row
            owner = self._names.get(host_key(row.owner)) if row.owner else None
            if owner is not None:
                self._concerned[vm].add(owner)

    def is_in_doubt(self) -> bool:
        """Tell whether some VM is shown by one host while another that matters is silent."""
        return any(
            self._silent & self._concerned[vm] and len(self._hosts(vm)) == 1 for vm in self._vms
        )

    def excuse(self, dead: Collection[str], owners: Mapping[str, str]) -> None:
        """Do without the word of dead nodes on VMs that their owner shows.

        Args:
            dead: Nodes that the cluster has given up, by name.
            owners: Who owns the group of each VM by the cluster's word, by folded VM id.
        """
        gone = {host for name in dead if (host := self._names.get(host_key(name)))} & self._silent
        for vm in self._vms:
            owner = self._names.get(host_key(owners.get(id_key(vm), "")))
            if owner is not None and self._hosts(vm) == [owner]:
                self._concerned[vm] -= gone

    def sightings(self) -> Mapping[str, Sighting]:
        """Return what was seen, for each VM."""
        return {vm: self._sighting(vm) for vm in self._vms}

    def _hosts(self, vm: str) -> list[str]:
        rows = self._rows[vm]
        return [host for host in self._everyone if host in rows and rows[host].present]

    def _sighting(self, vm: str) -> Sighting:
        rows, hosts = self._rows[vm], self._hosts(vm)
        # What the VM's own host says of it comes first: others may remember older migrations.
        told = [rows[host] for host in hosts] or list(rows.values())
        all_rows = list(rows.values())
        queued = any((row.group_status or 0) & GROUP_QUEUED_FLAG for row in all_rows)
        moving = queued or any(_moves(row) for row in all_rows)
        failed = next((row for row in told if row.failure), None) if not moving else None
        blackouts = [row.blackout_s for row in (*told, *all_rows) if row.blackout_s is not None]
        pulses = [row.heartbeat for row in told if row.present]
        states = [row.state for row in told if row.present and row.state is not None]
        percents = [n for row in all_rows for n in (row.progress, row.job_percent) if n is not None]
        return Sighting(
            vm=vm,
            hosts=tuple(hosts),
            state=vm_state(states[0]) if states else VmState.UNKNOWN,
            answered=all(host in rows for host in self._concerned[vm]),
            moving=moving,
            queued=queued,
            percent=max(0, min(100, max(percents, default=0))) if moving else 0,
            failure_code=failed.failure if failed else None,
            failure_text=failed.failure_text if failed else "",
            blackout_s=blackouts[0] if blackouts else None,
            heartbeat=heartbeat(pulses[0]) if pulses else None,
        )


def _moves(row: MoveRow) -> bool:
    return (
        row.migration_state in MIGRATION_STATES_MOVING
        or row.job_state in JOB_STATES_MOVING
        or bool(MIGRATING_STATUS.intersection(row.status))
    )
