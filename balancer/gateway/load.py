"""What a host and its VMs use, from the counters of one reading. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from balancer.gateway.names import counter_key
from balancer.gateway.states import vm_state
from balancer.gateway.wire import HostAnswer, VmRow, VpRow


class Cores(NamedTuple):
    """Logical processors that a VM uses, and that it would use besides if it never had to wait."""

    used: float
    waited: float = 0.0


class _Counted(NamedTuple):
    """Sums over processors: percent that they ran and waited, and how many they are."""

    run: float = 0.0
    wait: float = 0.0
    processors: int = 0


def vm_cores(answer: HostAnswer) -> Mapping[str, Cores]:
    """Return the logical processors of each VM of a host, by id.

    What the virtual processors of its name do. Where names cannot tell (two VMs have the same,
    or not every processor has a counter) the VM's own coarse percentage counts, and nobody knows
    how long it waited.
    """
    rows = answer.vms.data or []
    processors = answer.cpu.data.lp_count if answer.cpu.data else 0
    counters = _counters(answer.vps.data or [] if answer.vps.ok else [])
    keys = [counter_key(vm.name) for vm in rows]
    bearers = Counter(keys)
    cores: dict[str, Cores] = {}
    for vm, key in zip(rows, keys, strict=True):
        counted = counters.get(key, _Counted())
        if not vm_state(vm.state).is_load:
            cores[vm.id] = Cores(0.0)
        elif bearers[key] == 1 and counted.processors and counted.processors == vm.vcpus:
            cores[vm.id] = Cores(counted.run / 100.0, _waited(counted))
        else:
            cores[vm.id] = Cores(vm.cpu_percent_of_host / 100.0 * processors)
    return cores


def _waited(counted: _Counted) -> float:
    """Return processors' worth of waiting, in hundredths.

    It is a product of two counters, each averaged by itself: what is more than processors have left
    besides running, or no number, did not happen.
    """
    most = max(0.0, 100.0 * counted.processors - counted.run)
    wait = counted.wait if math.isfinite(counted.wait) else 0.0
    return round(min(max(0.0, wait), most)) / 100.0


def usable_memory_bytes(available_bytes: int, vms: Sequence[VmRow]) -> int:
    """Return what VMs may use: what the balancer has left, and what VMs that count hold."""
    return available_bytes + sum(
        vm.memory_assigned_bytes for vm in vms if vm_state(vm.state).is_load
    )


def _counters(rows: Sequence[VpRow]) -> Mapping[str, _Counted]:
    """Return what the processors of each VM name did; names may differ in case."""
    found: dict[str, _Counted] = {}
    for row in rows:
        key = counter_key(row.name)
        run, wait, count = found.get(key, _Counted())
        found[key] = _Counted(run + row.run_percent, wait + row.wait_percent, count + row.count)
    return found
