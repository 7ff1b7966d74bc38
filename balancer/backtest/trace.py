"""Days of load for the VMs of one snapshot: from a CSV file, or from the store's history."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from balancer.backtest.recording import UNDER_WAY, VM_STATES, Recording, blocked_in
from balancer.demand.readings import Readings
from balancer.errors import InputError, Place
from balancer.model.cluster import Blocker, Cluster, VmState
from balancer.policy.capacity import fixed_cores
from balancer.policy.reading import name_of, read_bytes, text_of

BYTES_MAX = 1 << 30
COLUMNS = ("time", "vm", "cpu_used_cores", "memory_assigned_bytes")
_HEAD = ",".join(COLUMNS)
# One snapshot stands for all days: what was so at its moment only is left out.
PASSING = UNDER_WAY | {Blocker.OPERATION_RUNNING, Blocker.NOT_RUNNING}


def read_trace(base: Cluster, path: Path | str) -> Recording:
    """Return the recording of a CSV file: `time,vm,cpu_used_cores,memory_assigned_bytes`.

    A VM is named by its id, or by a name that only it has; the last column, and any value in it,
    may be left out. VMs of the snapshot that the file does not name use what the snapshot says.

    Raises:
        InputError: The file cannot be read, or a line of it makes no sense.
    """
    file = name_of(path)
    text = text_of(read_bytes(path, BYTES_MAX, "trace"), file, "trace")
    rows = list(_rows(base, csv.DictReader(io.StringIO(text, newline="")), file))
    if not rows:
        raise InputError("the trace has no lines", place=Place(file), remedy=f"it begins {_HEAD}")
    times = sorted({at for at, *_ in rows})
    if len(times) < 2:  # noqa: PLR2004 -- a time passes between two
        raise InputError(
            "one moment is no history",
            place=Place(file),
            remedy="give lines of two times or more",
        )
    row_of = {at: number for number, at in enumerate(times)}
    column = {vm.id: number for number, vm in enumerate(base.vms)}
    work = np.full((len(times), len(base.vms)), np.nan)
    memory = np.full(work.shape, np.nan)
    named = {vm for _, vm, *_ in rows}
    for at, vm, cores, held in rows:
        speed = base.host_by_name[base.vm_by_id[vm].host].cpu_speed
        work[row_of[at], column[vm]] = cores * speed
        memory[row_of[at], column[vm]] = math.nan if held is None else held
    for one in base.vms:
        if one.id not in named and one.is_load:
            speed = base.host_by_name[one.host].cpu_speed
            work[:, column[one.id]] = one.cpu_used_cores * speed
    return _recording(base, np.array(times), work, memory)


def from_readings(base: Cluster, readings: Readings) -> Recording:
    """Return what the store knows of the VMs of a snapshot, which are where the snapshot has them.

    Raises:
        InputError: There is too little of it.
    """
    if len(readings.at_s) < 2:  # noqa: PLR2004 -- a time passes between two
        raise InputError(
            f"there is no history of {base.name} to replay",
            remedy="let the service run for a while, or give snapshots or a trace",
        )
    mine = readings.of(tuple(vm.id for vm in base.vms))
    return _recording(base, mine.at_s, mine.work, mine.memory)


def _recording(base: Cluster, at_s: np.ndarray, work: np.ndarray, memory: np.ndarray) -> Recording:
    index = {host.name: number for number, host in enumerate(base.hosts)}
    usual = np.array([float(vm.memory_needed_bytes) for vm in base.vms])
    home = np.array([index[vm.host] for vm in base.vms], dtype=np.int64)
    at_rest = np.array([not vm.is_load for vm in base.vms])
    # A VM that used something ran, whatever it does in the snapshot; of one that runs there and
    # used nothing is only known that it did not run.
    ran = ~np.isnan(work)
    state = np.array([VM_STATES.index(vm.state) for vm in base.vms], dtype=np.int8)
    running = np.int8(VM_STATES.index(VmState.RUNNING))
    count = len(at_s)
    own = np.array([fixed_cores(base, host) for host in base.hosts])
    return Recording(
        base=base,
        at_s=np.asarray(at_s, dtype=np.float64),
        work=work,
        memory=np.where(np.isnan(memory), usual, memory),
        place=np.where(ran | at_rest, home, -1),
        vm_states=np.where(ran & at_rest, running, state),
        blocked=(blocked_in(base, PASSING),) * count,
        fixed=np.tile(own, (count, 1)),
        states=np.tile(np.array([host.state.value for host in base.hosts]), (count, 1)),
    )


def _rows(
    base: Cluster, reader: csv.DictReader[str], file: str
) -> Iterator[tuple[float, str, float, float | None]]:
    missing = [name for name in COLUMNS[:3] if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"the trace has no column {missing[0]!r}",
            place=Place(file, 1),
            remedy=f"the first line names the columns: {_HEAD}",
        )
    for row in reader:
        place = Place(file, reader.line_num)
        if short := next((name for name in COLUMNS[:3] if row[name] is None), None):
            raise InputError(
                f"the line ends before its {short}",
                place=place,
                remedy=f"write a value for each of {', '.join(COLUMNS[:3])}",
            )
        memory = row.get("memory_assigned_bytes") or ""
        yield (
            _time(row["time"], place),
            _vm(base, row["vm"], place),
            _number(row["cpu_used_cores"], "cpu_used_cores", place),
            _number(memory, "memory_assigned_bytes", place) if memory else None,
        )


def _time(text: str, place: Place) -> float:
    try:
        at = datetime.fromisoformat(text)
    except (ValueError, TypeError):
        raise InputError(
            f"{text!r} is no time",
            place=place,
            remedy="write times as 2026-11-26T02:00:00Z",
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _vm(base: Cluster, text: str, place: Place) -> str:
    word = (text or "").casefold()
    found = base.vms_by_folded_id.get(word) or base.vms_by_folded_name.get(word, ())
    if len(found) != 1:
        many = "several VMs are" if found else "no VM is"
        raise InputError(
            f"{many} called {text!r} in the snapshot",
            place=place,
            remedy="name VMs by their ids in the snapshot",
        )
    return found[0].id


def _number(text: str, key: str, place: Place) -> float:
    try:
        value = float(text)
    except (ValueError, TypeError):
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{key} is {text!r}", place=place, remedy="write a number of zero or more")
    return value
