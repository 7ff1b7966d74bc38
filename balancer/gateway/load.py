"""What a host and its VMs use, from the counters of one reading. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from balancer.gateway.names import counter_key
from balancer.gateway.states import vm_state
from balancer.gateway.wire import HostAnswer, VmRow, VpRow

_NONE = (0.0, 0)


def vm_cores(answer: HostAnswer) -> Mapping[str, float]:
    """Return the logical processors each VM of a host uses, by id.

    What the virtual processors of its name do. Where names cannot tell (two VMs have the same,
    or not every processor has a counter) the VM's own coarse percentage counts.
    """
    rows = answer.vms.data or []
    processors = answer.cpu.data.lp_count if answer.cpu.data else 0
    counters = _counters(answer.vps.data or [] if answer.vps.ok else [])
    keys = [counter_key(vm.name) for vm in rows]
    bearers = Counter(keys)
    cores: dict[str, float] = {}
    for vm, key in zip(rows, keys, strict=True):
        percent, count = counters.get(key, _NONE)
        if not vm_state(vm.state).is_load:
            cores[vm.id] = 0.0
        elif bearers[key] == 1 and count and count == vm.vcpus:
            cores[vm.id] = percent / 100.0
        else:
            cores[vm.id] = vm.cpu_percent_of_host / 100.0 * processors
    return cores


def usable_memory_bytes(available_bytes: int, vms: Sequence[VmRow]) -> int:
    """Return what VMs may use: what the balancer has left, and what VMs that count hold."""
    return available_bytes + sum(
        vm.memory_assigned_bytes for vm in vms if vm_state(vm.state).is_load
    )


def _counters(rows: Sequence[VpRow]) -> Mapping[str, tuple[float, int]]:
    """Return percent and number of the processors of each VM name; names may differ in case."""
    found: dict[str, tuple[float, int]] = {}
    for row in rows:
        key = counter_key(row.name)
        percent, count = found.get(key, _NONE)
        found[key] = (percent + row.run_percent, count + row.count)
    return found
