"""The cluster as a plan should see it: with what VMs need, not with what the last reading says.

A VM's demand is a percentile of its recent readings, without the highest of them, so that a
spike moves nobody; where its past days or weeks repeat themselves, it is what the coming hours
have been before. VMs that peak at different times are not added up as if they peaked at once:
on each host, demands are scaled to what that host's VMs together have shown.

Memory is always the last reading's: it is what has to fit and to be copied now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from balancer.demand.readings import HOUR_S, Floats, Readings
from balancer.demand.season import Seasons, persistence
from balancer.model.cluster import Cluster
from balancer.model.past import Trouble
from balancer.policy.capacity import fixed_cores, in_play, usable
from balancer.policy.policy import Policy
from balancer.policy.quantities import format_duration
from balancer.policy.stability import HistoryPolicy

READINGS_MIN = 3  # of a VM; with fewer, its last reading stands

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Outlook:
    """What history makes of a snapshot.

    Attributes:
        cluster: The snapshot with the CPU demand of each VM in the place of its last reading.
        lasting: Where something has been wrong for the hold time, or is about to be by season;
            None where there is no history to tell.
        short_of: Why there is too little history to act on load; empty if there is enough.
        notes: What to know about it, in sentences.
    """

    cluster: Cluster
    lasting: Mapping[Trouble, frozenset[str]] | None = None
    short_of: str = ""
    notes: tuple[str, ...] = ()


def outlook(
    cluster: Cluster, policy: Policy, readings: Readings, season: Seasons | None, now_s: float
) -> Outlook:
    """Return the cluster with the demand that `policy` wants to be planned with.

    Args:
        cluster: The snapshot.
        policy: Its `history` says how; without it the snapshot is returned as it is.
        readings: Of the policy's window; more does no harm.
        season: What repeats itself, where somebody has looked.
        now_s: Seconds since 1970.
    """
    how = policy.history
    if how is None:
        return Outlook(cluster)
    vms = tuple(vm.id for vm in cluster.vms)
    window = readings.since(now_s - how.window_s).of(vms)
    age_s = now_s - float(readings.at_s[0]) if len(readings.at_s) else 0.0
    if age_s < how.at_least_s or len(window.at_s) < READINGS_MIN:
        text = (
            f"history goes back {format_duration(max(0.0, age_s))}; load is not acted on before it "
            f"goes back {format_duration(how.at_least_s)}"
        )
        return Outlook(cluster, short_of=text)
    hosts = _Hosts.of(cluster)
    demand, known = _needed(window, hosts, how.percentile)
    told = np.zeros(len(vms), dtype=bool)
    if season is not None:
        demand = _believed(demand, season, hosts, vms, how)
        demand, told = _seasonal(demand, window, season, vms, how, now_s)
    demand = np.where(known | told, demand, hosts.work)
    lasting = _lasting(cluster, policy, hosts, window, how.hold_s)
    lasting = _with_expected(lasting, cluster, policy, hosts, demand, told)
    said = f"demand is from {len(window.at_s)} readings of {format_duration(how.window_s)}"
    if told.any():
        said += f"; {int(told.sum())} of {len(vms)} VMs follow a season or trend"
    return Outlook(_planned_with(cluster, hosts, demand), lasting, notes=(said,))


@dataclass(frozen=True)
class _Hosts:
    """The hosts of a snapshot as arrays, and where each VM is."""

    home: Ints  # (N,)
    is_load: npt.NDArray[np.bool_]  # (N,)
    work: Floats  # (N,) as last read
    memory: Floats  # (N,)
    speed: Floats  # (H,)
    fixed: Floats  # (H,) cores that are no VM's

    @staticmethod
    def of(cluster: Cluster) -> _Hosts:
        index = {host.name: at for at, host in enumerate(cluster.hosts)}
        home = np.array([index[vm.host] for vm in cluster.vms], dtype=np.int64)
        speed = np.array([host.cpu_speed for host in cluster.hosts])
        load = np.array([vm.is_load for vm in cluster.vms], dtype=bool)
        cores = np.array([vm.cpu_demand_cores for vm in cluster.vms], dtype=float)
        memory = np.array([float(vm.memory_needed_bytes) for vm in cluster.vms])
        fixed = np.array([fixed_cores(cluster, host) for host in cluster.hosts])
        return _Hosts(home, load, cores * speed[home], memory, speed, fixed)

    def sums(self, rows: Floats) -> Floats:
        """Return (T, H) sums over the VMs of each host, of (T, N) rows; NaN counts as nothing."""
        one = np.zeros((len(self.home), len(self.speed)))
        one[np.flatnonzero(self.is_load), self.home[self.is_load]] = 1.0
        summed: Floats = np.nan_to_num(rows) @ one
        return summed


def _needed(
    window: Readings, hosts: _Hosts, percentile: float
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return each VM's share in what its host's VMs together need, and which were read enough."""
    known = (~np.isnan(window.work)).sum(axis=0) >= READINGS_MIN
    own = np.where(known, _percentile(window.work, percentile), 0.0)
    rows = np.where(np.isnan(window.work), own, window.work)  # a gap is no idleness
    together = _percentile(hosts.sums(np.where(known, rows, 0.0)), percentile)
    added = hosts.sums(own[None, :])[0]
    share = np.divide(together, added, out=np.ones_like(added), where=added > 0)
    return own * np.minimum(1.0, share)[hosts.home], known


def _believed(
    demand: Floats, season: Seasons, hosts: _Hosts, vms: tuple[str, ...], how: HistoryPolicy
) -> Floats:
    """Return demands drawn towards the usual by as much as such deviations have not lasted.

    Of what repeats itself the season says more.
    """
    hourly = season.hourly.of(vms)
    usual, known = _needed(hourly, hosts, how.percentile)
    kept = persistence(hourly, round(how.ahead_s / HOUR_S))
    kept = np.where(known & ~season.repeats(vms), kept, 1.0)
    return usual + kept * (demand - usual)


def _percentile(rows: Floats, percentile: float) -> Floats:
    """Return the percentile of each column without its highest value; NaN is left out."""
    ordered = np.sort(rows, axis=0)  # NaN last
    count = (~np.isnan(rows)).sum(axis=0) - 1  # the highest does not count
    at = np.clip(np.ceil(percentile * count).astype(np.int64) - 1, 0, np.maximum(0, count - 1))
    found: Floats = ordered[at, np.arange(rows.shape[1])]
    return found


def _seasonal(
    demand: Floats,
    window: Readings,
    season: Seasons,
    vms: tuple[str, ...],
    how: HistoryPolicy,
    now_s: float,
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return demands with season and trend where there is one, and of which VMs.

    The profile says how the coming hours differ from the recent ones; the recent readings say at
    which level.
    """
    column, repeats = season.columns(vms), season.repeats(vms)
    drifts = (column >= 0) & (season.slope_per_s[column] != 0)
    hours = int(now_s // HOUR_S) + np.arange(max(1, round(how.ahead_s / HOUR_S)) + 1)
    past = np.unique((window.at_s // HOUR_S).astype(np.int64))
    ahead = season.at(hours)[:, column].max(axis=0)
    behind = season.at(past)[:, column].max(axis=0)
    moved = np.where(repeats, demand + ahead - behind, demand)
    moved = moved + np.where(drifts, season.slope_per_s[column] * how.ahead_s, 0.0)
    return np.maximum(0.0, moved), repeats | drifts


def _planned_with(cluster: Cluster, hosts: _Hosts, demand: Floats) -> Cluster:
    """Return the cluster with these demands, in work, and the hosts' own load as it was."""
    cores = demand / hosts.speed[hosts.home]
    vms = tuple(
        replace(vm, cpu_used_cores=float(used), cpu_wait_cores=None) if vm.is_load else vm
        for vm, used in zip(cluster.vms, cores, strict=True)
    )
    total = hosts.fixed + hosts.sums(demand[None, :])[0] / hosts.speed
    measured = tuple(
        host if host.cpu_used_cores is None else replace(host, cpu_used_cores=float(used))
        for host, used in zip(cluster.hosts, total, strict=True)
    )
    return replace(cluster, hosts=measured, vms=vms)


def _utilisations(
    cluster: Cluster, policy: Policy, hosts: _Hosts, work: Floats, memory: Floats
) -> tuple[Floats, Floats]:
    """Return (2, T, H) shares of the usable capacity, and (2, T, 1) means of the hosts in play."""
    able = [usable(host, policy) for host in cluster.hosts]
    cores = np.maximum(1e-9, [one.cpu_cores for one in able])
    room = np.maximum(1.0, [one.memory_bytes for one in able])
    used = np.stack([hosts.fixed + hosts.sums(work) / hosts.speed, hosts.sums(memory)])
    capacity = np.stack([cores, room])[:, None, :]
    play = np.array([in_play(host) for host in cluster.hosts], dtype=bool)
    total = capacity[:, :, play].sum(axis=2, keepdims=True)
    mean = used[:, :, play].sum(axis=2, keepdims=True) / np.maximum(total, 1e-9)
    return np.where(play, used / capacity, mean), mean


def _wrong(
    cluster: Cluster, policy: Policy, hosts: _Hosts, work: Floats, memory: Floats
) -> dict[Trouble, npt.NDArray[np.bool_]]:
    """Return for each trouble at which moments each host has it, (2, T, H)."""
    used, mean = _utilisations(cluster, policy, hosts, work, memory)
    limits = policy.thresholds
    most = np.array([limits.cpu, limits.memory])[:, None, None]
    return {
        Trouble.OVERLOAD: used > most,
        Trouble.UNEVEN: np.abs(used - mean) > limits.imbalance,
    }


def _lasting(
    cluster: Cluster, policy: Policy, hosts: _Hosts, window: Readings, hold_s: float
) -> dict[Trouble, frozenset[str]]:
    """Return the hosts that have had each trouble for the hold time, taken together.

    Each moment is looked at with the VMs where they are now: what has been mended since does
    not count, and what has only just been moved there does.
    """
    work = np.where(np.isnan(window.work), hosts.work, window.work)
    memory = np.where(np.isnan(window.memory), hosts.memory, window.memory)
    each_s = window.span_s / (len(window.at_s) - 1)
    found: dict[Trouble, frozenset[str]] = {}
    for trouble, wrong in _wrong(cluster, policy, hosts, work, memory).items():
        # A reading stands for the time since the one before it; the first has none.
        lasted_s = each_s * np.maximum(0, wrong.sum(axis=1) - 1)
        found[trouble] = _named(cluster, (lasted_s >= hold_s).any(axis=0) & wrong.any(axis=(0, 1)))
    return found


def _with_expected(
    lasting: Mapping[Trouble, frozenset[str]],
    cluster: Cluster,
    policy: Policy,
    hosts: _Hosts,
    demand: Floats,
    told: npt.NDArray[np.bool_],
) -> dict[Trouble, frozenset[str]]:
    """Add hosts that are about to be overloaded: a season need not last, it has lasted for days."""
    by_season = hosts.sums(np.where(told, demand, 0.0)[None, :])[0]
    mostly = by_season > 0.5 * hosts.sums(demand[None, :])[0]
    wrong = _wrong(cluster, policy, hosts, demand[None, :], hosts.memory[None, :])
    expected = _named(cluster, wrong[Trouble.OVERLOAD][0, 0] & mostly)
    return {**lasting, Trouble.OVERLOAD: lasting[Trouble.OVERLOAD] | expected}


def _named(cluster: Cluster, which: npt.NDArray[np.bool_]) -> frozenset[str]:
    return frozenset(
        host.name for host, is_one in zip(cluster.hosts, which.tolist(), strict=True) if is_one
    )
