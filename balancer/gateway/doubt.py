"""Why a host's answer is not believed. Pure.

A host whose numbers cannot be true is worse than a silent one: a plan would be built on them.
Each check says in a sentence what is wrong; the host is then treated as if it had not answered.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import median

from balancer.gateway.names import id_key
from balancer.gateway.states import TRANSPORTS
from balancer.gateway.wire import ClusterAnswer, Fault, HostAnswer, Section

CORES_MAX = 4096  # twice what the largest supported host has
# The hypervisor's average may pass 100 by rounding; a busy virtual processor by a sample's jitter.
LP_PERCENT_MAX = 105.0
VP_PERCENT_MAX = 150.0
# The sections are read one after another while VMs grow and shrink.
MEMORY_SLACK = 1.05
CLOCK_SKEW_S_MAX = 300.0  # what Kerberos bears; beyond it no migration would be let in either

_NEEDED = ("os", "host", "cpu", "memory", "vms")


def fault_text(fault: Fault | None) -> str:
    """Return the typed parts of a fault, and its message, for people."""
    if fault is None:
        return "no reason given"
    code = f"0x{fault.hresult:08X}" if fault.hresult is not None else ""
    return " ".join(part for part in (code, fault.fqid, fault.message.strip()) if part) or (
        "no reason given"
    )


def failed_sections(answer: HostAnswer | ClusterAnswer) -> Mapping[str, str]:
    """Return the sections that did not come, and why."""
    found: dict[str, str] = {}
    for name in type(answer).model_fields:
        section = getattr(answer, name)
        if isinstance(section, Section) and (not section.ok or section.data is None):
            found[name] = fault_text(section.fault)
    return found


def why_doubt(answer: HostAnswer) -> str | None:
    """Return why `answer` cannot be planned on, or None when it can."""
    failed = failed_sections(answer)
    for name in _NEEDED:
        if name in failed:
            return f"its {name} section failed: {failed[name]}"
    return _doubt_host(answer) or _doubt_load(answer) or _doubt_vms(answer)


def _doubt_host(answer: HostAnswer) -> str | None:
    host = answer.host.data
    assert host is not None  # noqa: S101 -- a needed section
    if not 0 < host.logical_processors <= CORES_MAX:
        return f"it claims {host.logical_processors} logical processors"
    if host.memory_capacity_bytes <= 0:
        return f"it claims {host.memory_capacity_bytes} bytes of memory"
    if host.migration_option not in TRANSPORTS:
        return f"its migration performance option {host.migration_option} does not exist"
    if host.migrations_max < 0:
        return f"it claims to allow {host.migrations_max} migrations"
    return None


def _doubt_load(answer: HostAnswer) -> str | None:
    cpu, memory, host = answer.cpu.data, answer.memory.data, answer.host.data
    assert cpu is not None  # noqa: S101 -- needed sections
    assert memory is not None  # noqa: S101
    assert host is not None  # noqa: S101
    for name, percent in (("CPU", cpu.lp_run_percent), ("root CPU", cpu.root_run_percent)):
        if not _within(percent, LP_PERCENT_MAX):
            return f"it claims {percent} % of {name}"
    if not 0 < cpu.lp_count <= CORES_MAX or not 0 <= cpu.root_count <= CORES_MAX:
        return f"it counts {cpu.lp_count} logical and {cpu.root_count} root processors"
    if not 0 <= memory.available_bytes <= host.memory_capacity_bytes * MEMORY_SLACK:
        return f"it claims {memory.available_bytes} bytes of memory available"
    for vp in (answer.vps.data or []) if answer.vps.ok else []:
        if vp.count < 1 or not _within(vp.run_percent, VP_PERCENT_MAX * vp.count):
            return f"it claims {vp.run_percent} % for {vp.count} processors of {vp.name!r}"
    return None


def _doubt_vms(answer: HostAnswer) -> str | None:
    host, vms = answer.host.data, answer.vms.data
    assert host is not None  # noqa: S101 -- needed sections
    assert vms is not None  # noqa: S101
    for identifier, count in Counter(id_key(vm.id) for vm in vms).items():
        if count > 1 or not identifier:
            return f"it shows {count} VMs with the id {identifier!r}"
    for vm in vms:
        sizes = (vm.memory_assigned_bytes, vm.memory_demand_bytes, vm.memory_startup_bytes)
        numbers = (*sizes, vm.vcpus, vm.cpu_reserve_percent, vm.numa_nodes)
        if min(numbers) < 0 or not _within(vm.cpu_percent_of_host, LP_PERCENT_MAX):
            return f"it claims impossible numbers for the VM {vm.name!r} ({vm.id})"
    assigned = sum(vm.memory_assigned_bytes for vm in vms)
    if assigned > host.memory_capacity_bytes * MEMORY_SLACK:
        return (
            f"its VMs hold {assigned} bytes of memory, and the machine has "
            f"{host.memory_capacity_bytes}"
        )
    return None


def why_doubt_clock(answers: Mapping[str, HostAnswer], now: datetime) -> Mapping[str, str]:
    """Return the hosts whose clock is off from ours and from most of the others', and by how much.

    From both, so that neither our own wrong clock nor one host's makes all the others suspect.
    """
    skews: dict[str, float] = {}
    for name, answer in answers.items():
        told = _utc(answer.os.data.now_utc) if answer.os.data else None
        if told is not None:
            skews[name] = (told - now).total_seconds()
    off: dict[str, str] = {}
    for name, skew in skews.items():
        others = [other for key, other in skews.items() if key != name] or [0.0]
        if min(abs(skew), abs(skew - median(others))) > CLOCK_SKEW_S_MAX:
            off[name] = f"its clock is {skew:+.0f} s off, so its reading may be old"
    return off


def _utc(text: str) -> datetime | None:
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        return None
    return told if told.tzinfo else told.replace(tzinfo=UTC)


def _within(percent: float, most: float) -> bool:
    return math.isfinite(percent) and 0.0 <= percent <= most
