"""What a host and its VMs use, from the counters of one reading. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence

from balancer.gateway.names import counter_key
from balancer.gateway.states import vm_state
from balancer.gateway.wire import HostAnswer, VmRow, VpRow

_INSTANCE = re.compile(r"(?P<vm>.*):hv vp \d+", re.IGNORECASE | re.DOTALL)


def vm_cores(answer: HostAnswer) -> Mapping[str, float]:
    """Return the logical processors each VM of a host uses, by id.

    The sum over a VM's virtual processors, found by name. Where names cannot tell (two VMs
    have the same, or not every processor has a counter) the VM's own coarse percentage counts.
    """
    rows = answer.vms.data or []
    processors = answer.cpu.data.lp_count if answer.cpu.data else 0
    by_name = _by_vm_name(answer.vps.data or [] if answer.vps.ok else [])
    bearers = Counter(counter_key(vm.name) for vm in rows)
    cores: dict[str, float] = {}
    for vm in rows:
        percents = by_name.get(counter_key(vm.name), ())
        exact = bearers[counter_key(vm.name)] == 1 and percents and len(percents) == vm.vcpus
        if not vm_state(vm.state).is_load:
            cores[vm.id] = 0.0
        elif exact:
            cores[vm.id] = sum(percents) / 100.0
        else:
            cores[vm.id] = vm.cpu_percent_of_host / 100.0 * processors
    return cores


def usable_memory_bytes(available_bytes: int, vms: Sequence[VmRow]) -> int:
    """Return what VMs may use: what the balancer has left, and what VMs that count hold."""
    return available_bytes + sum(
        vm.memory_assigned_bytes for vm in vms if vm_state(vm.state).is_load
    )


def _by_vm_name(rows: Sequence[VpRow]) -> Mapping[str, list[float]]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if match := _INSTANCE.fullmatch(row.instance):
            found.setdefault(counter_key(match["vm"]), []).append(row.run_percent)
    return found
