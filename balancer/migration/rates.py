"""How fast a live migration's memory travels, and what it takes from hosts and links.

Theory. On Hyper-V the transport is a setting of the host. SMB runs only when both ends have
it; a mixed pair silently falls back to plain TCP; otherwise the source decides (documented
behaviour of the Move-VM client; that the clustered path does the same is an assumption, kept
in `effective_transport` alone).

- TCP: one channel over one NIC (or team) of the migration network.
- Compression: the same NIC carrying compressed memory, so up to `COMPRESSION_RATIO` times as
  much memory, held back by spare CPU at both ends: it only ever takes idle cycles.
- SMB: all NICs of the network (multichannel), over RDMA when both ends have it, capped by the
  host's SMB bandwidth limit on what it sends; next to no CPU with RDMA.

Flows share links and CPU max-min fairly (`share`). All constants are priors from published
figures, wide apart as those are; learning replaces them per cluster later.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from balancer.model.cluster import Host, MigrationNetwork, Transport

EFFICIENCY_TCP = 0.95  # of link speed that one TCP stream sustains
EFFICIENCY_SMB = 0.90  # multichannel without RDMA, of all NICs together
EFFICIENCY_RDMA = 0.97
COMPRESSION_RATIO = 2.0  # of guest memory; published figures run from 1.5 to 3
COMPRESSION_BYTES_PER_CORE_S = 250e6  # of uncompressed input that one logical processor does
COMPRESSION_BYTES_PER_S_MAX = 1.25e9  # of input a host; reports say 1 to 1.5 GB/s
TCP_BYTES_PER_CORE_S = 600e6  # what a logical processor pushes through the stack
COMPRESSION_FLOOR_CORES = 0.2  # even a busy host leaves the compressor some idle cycles


def effective_transport(source: Transport, target: Transport) -> Transport:
    """Return the transport that a migration between hosts so set will really use."""
    if source is Transport.SMB:
        return Transport.SMB if target is Transport.SMB else Transport.TCP
    return source


def common_network(source: Host, target: Host) -> tuple[MigrationNetwork, MigrationNetwork] | None:
    """Return both ends of the network a migration takes: the source's first that both have."""
    of_target = {network.name: network for network in target.migration.networks}
    for network in source.migration.networks:
        if network.name in of_target:
            return network, of_target[network.name]
    return None


def spare_cores(host: Host, used_by_vms: float) -> float:
    """Return the logical processors that compression could use on `host`.

    Both the hypervisor's logical processors and the root partition's own processors must have
    something left: the compressor runs in the root partition.
    """
    used = host.cpu_used_cores if host.cpu_used_cores is not None else used_by_vms
    left = host.cpu_cores - used
    if host.root_cpu_cores is not None:
        left = min(left, host.root_cpu_cores - (host.root_cpu_used_cores or 0.0))
    return max(0.0, left)


@dataclass(frozen=True, slots=True)
class Flow:
    """One migration's demand on what hosts share.

    Attributes:
        cap_bytes_per_s: The most memory per second it could move alone.
        uses: For each shared resource, how much of it one byte per second of memory takes.
    """

    cap_bytes_per_s: float
    uses: Mapping[Hashable, float]


def flow(source: Host, target: Host, transport: Transport) -> Flow | None:
    """Return what a migration would demand, or None when the hosts share no network.

    Resources are keys `("out", host)`, `("in", host)` in wire bytes per second,
    `("smb", host)` for the SMB limit and `("zip", host)` in cores of compression.
    """
    ends = common_network(source, target)
    if ends is None:
        return None
    here, there = ends
    wire_per_byte = 1.0 / COMPRESSION_RATIO if transport is Transport.COMPRESSION else 1.0
    if transport is Transport.SMB:
        rdma = here.rdma and there.rdma
        efficiency = EFFICIENCY_RDMA if rdma else EFFICIENCY_SMB
        wire = min(here.link_bps * here.nics, there.link_bps * there.nics) / 8 * efficiency
    else:
        wire = min(here.link_bps, there.link_bps) / 8 * EFFICIENCY_TCP
    uses: dict[Hashable, float] = {
        ("out", source.name): wire_per_byte,
        ("in", target.name): wire_per_byte,
    }
    cap = wire / wire_per_byte
    if transport is Transport.SMB and source.migration.smb_limit_bytes_per_s is not None:
        uses["smb", source.name] = 1.0
        cap = min(cap, source.migration.smb_limit_bytes_per_s)
    if transport is Transport.COMPRESSION:
        cap = min(cap, COMPRESSION_BYTES_PER_S_MAX)
        uses["zip", source.name] = 1.0 / COMPRESSION_BYTES_PER_CORE_S
        uses["zip", target.name] = 1.0 / COMPRESSION_BYTES_PER_CORE_S
    return Flow(cap, uses)


def capacities(host: Host, spare: float) -> dict[Hashable, float]:
    """Return what `host` has of each shared resource, given its spare cores."""
    best = (
        max(
            (n.link_bps * n.nics / 8 * (EFFICIENCY_RDMA if n.rdma else EFFICIENCY_TCP))
            for n in host.migration.networks
        )
        if host.migration.networks
        else 0.0
    )
    of: dict[Hashable, float] = {
        ("out", host.name): best,
        ("in", host.name): best,
        ("zip", host.name): min(
            max(spare, COMPRESSION_FLOOR_CORES),
            COMPRESSION_BYTES_PER_S_MAX / COMPRESSION_BYTES_PER_CORE_S,
        ),
    }
    if host.migration.smb_limit_bytes_per_s is not None:
        of["smb", host.name] = host.migration.smb_limit_bytes_per_s
    return of


def share(flows: Sequence[Flow], capacity: Mapping[Hashable, float]) -> list[float]:
    """Return each flow's memory bytes per second under max-min fair sharing.

    Progressive filling: all flows grow alike until one hits its own cap or a resource it uses
    is full; it is frozen and the rest go on. O(flows x resources) a round.
    """
    rates = [0.0] * len(flows)
    left = dict(capacity)
    growing = set(range(len(flows)))
    while growing:
        load: dict[Hashable, float] = {}
        for index in growing:
            for key, use in flows[index].uses.items():
                load[key] = load.get(key, 0.0) + use
        step = min(flows[index].cap_bytes_per_s - rates[index] for index in growing)
        for key, use in load.items():
            step = min(step, left.get(key, 0.0) / use)
        step = max(0.0, step)
        for index in growing:
            rates[index] += step
            for key, use in flows[index].uses.items():
                left[key] = left.get(key, 0.0) - use * step
        full = {key for key in load if left.get(key, 0.0) <= 1e-6 * capacity.get(key, 0.0) + 1e-9}
        growing = {
            index
            for index in growing
            if rates[index] < flows[index].cap_bytes_per_s * (1 - 1e-9)
            and not full.intersection(flows[index].uses)
        }
    return rates


def cpu_cores(transport: Transport, bytes_per_s: float, *, rdma: bool) -> float:
    """Return the cores that one end spends on a migration at `bytes_per_s` of memory."""
    if transport is Transport.COMPRESSION:
        wire = bytes_per_s / COMPRESSION_RATIO
        return bytes_per_s / COMPRESSION_BYTES_PER_CORE_S + wire / TCP_BYTES_PER_CORE_S
    if transport is Transport.SMB and rdma:
        return 0.0
    return bytes_per_s / TCP_BYTES_PER_CORE_S
