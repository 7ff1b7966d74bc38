"""Thirty recorded days of a real fleet, replayed under our policy and under others.

`python -m benchmarks.replay`: the default policy beside doing nothing, beside a greedy balancer
that acts on every reading as Ganeti's does, and beside our planner given the demand of the
day to come, which is the best that it could do. The exit status tells whether the aims were kept.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from balancer.backtest import Decide, Moment, Recording, Tally, by_policy, nothing, replay
from balancer.backtest.decide import EFFORT, behind_of
from balancer.backtest.recording import VM_STATES
from balancer.hindsight import Hindsight
from balancer.judged import plan_and_judge
from balancer.model.cluster import Cluster, Host, HostState, MigrationSettings, Vm, VmState
from balancer.policy.load import load_policy
from balancer.policy.policy import Policy

DATA = Path(__file__).parent / "data" / "traces.npz"
POLICY = Path(__file__).parents[1] / "policies" / "default.yaml"
GIB = 2**30
STEP_S, DAY_STEPS = 300, 288
HOSTS, COPIES = 8, 4
CPU_MEAN, MEMORY_MEAN = 0.40, 0.70
HEADINGS = (
    "| seed | who decides | host-hours over | excess h | moves | a VM and week | GiB "
    "| undone | P95 off mean | CPU s |"
)
GREEDY_MOVES = 20  # a step, as our policy has it


def recording(seed: int, days: int = 30) -> Recording:
    """Return 30 days of 200 VMs on 8 hosts.

    Each traced VM is there four times, seven days apart and not equally large; memory is drawn as
    fleets have it. At the start memory is even and CPU is as it comes.
    """
    rng = np.random.default_rng(seed)
    with np.load(DATA) as data:
        share, vcpus, began_s = data["share"] / 255.0, data["vcpus"], int(data["began_s"])
    apart = 7 * DAY_STEPS
    shares = np.vstack([np.roll(share, copy * apart, axis=1) for copy in range(COPIES)])
    cores = np.tile(np.minimum(vcpus, 8), COPIES) * rng.choice([0.5, 1.0, 2.0], size=len(shares))
    work = (shares * cores[:, None]).T[: days * DAY_STEPS]
    gib = rng.choice([2, 4, 8, 16, 32], size=len(shares), p=[0.1, 0.25, 0.35, 0.2, 0.1])
    host_cores = float(np.ceil(work.sum(axis=1).mean() / HOSTS / CPU_MEAN))
    host_gib = int(np.ceil(gib.sum() / HOSTS / MEMORY_MEAN))
    place = np.zeros(len(shares), dtype=np.int64)
    held = np.zeros(HOSTS)
    for vm in rng.permutation(len(shares)):
        place[vm] = int(held.argmin())
        held[place[vm]] += gib[vm]
    settings = MigrationSettings(concurrent=2)
    hosts = tuple(
        Host(f"HV{n + 1:02d}", host_cores, host_gib * GIB, migration=settings) for n in range(HOSTS)
    )
    vms = tuple(
        Vm(f"{n:04x}", f"vm-{n:03d}", hosts[place[n]].name, 0.0, int(gib[n]) * GIB)
        for n in range(len(shares))
    )
    count = len(work)
    return Recording(
        base=Cluster(f"traces, seed {seed}", hosts, vms),
        at_s=began_s + STEP_S * np.arange(count, dtype=float),
        work=work,
        memory=np.tile(gib * float(GIB), (count, 1)),
        place=np.tile(place, (count, 1)),
        vm_states=np.full(work.shape, VM_STATES.index(VmState.RUNNING), dtype=np.int8),
        blocked=({},) * count,
        fixed=np.zeros((count, HOSTS)),
        states=np.full((count, HOSTS), HostState.UP.value),
    )


def greedy(policy: Policy) -> Decide:
    """Return who moves, reading by reading, whatever evens out the hosts most: steepest descent."""

    def decide(moment: Moment) -> dict[str, str]:
        record, at = moment.recording, moment.at
        hosts = {host.name: n for n, host in enumerate(record.base.hosts)}
        place = np.array([hosts[vm.host] for vm in moment.cluster.vms])
        size = np.stack([record.work[at], record.memory[at]])
        room = np.array([record.base.hosts[0].cpu_cores, record.base.hosts[0].memory_bytes])
        load = np.stack([np.bincount(place, row, minlength=len(hosts)) for row in size])
        load, size = load / room[:, None], size / room[:, None]
        to: dict[str, str] = {}
        for _ in range(GREEDY_MOVES):
            found = _steepest(load, size, place)
            if found is None:
                break
            vm, target = found
            load[:, place[vm]] -= size[:, vm]
            load[:, target] += size[:, vm]
            place[vm] = target
            to[record.base.vms[vm].id] = record.base.hosts[target].name
        return to

    del policy
    return decide


def _steepest(load: np.ndarray, size: np.ndarray, place: np.ndarray) -> tuple[int, int] | None:
    """Return the move that lowers the sum of squared loads most, if by more than rounding."""
    here = load[:, place]
    gain = 2 * size[:, :, None] * (here[:, :, None] - size[:, :, None] - load[:, None, :])
    total = gain.sum(axis=0)
    fits = (load[1][None, :] + size[1][:, None]) <= 0.96
    total = np.where(fits, total, -np.inf)
    total[np.arange(len(place)), place] = -np.inf
    vm, target = np.unravel_index(int(total.argmax()), total.shape)
    return (int(vm), int(target)) if total[vm, target] > 1e-3 else None


def clairvoyant(policy: Policy) -> Decide:
    """Return who decides as our planner does, but with the demand of the day to come."""

    def decide(moment: Moment) -> dict[str, str]:
        record, at = moment.recording, moment.at
        day = record.work[at : at + DAY_STEPS]
        demand = np.quantile(day, 0.9, axis=0)
        hosts = {host.name: n for n, host in enumerate(record.base.hosts)}
        place = np.array([hosts[vm.host] for vm in moment.cluster.vms])
        for number in range(len(hosts)):
            on = place == number
            together = float(np.quantile(day[:, on].sum(axis=1), 0.9)) if on.any() else 0.0
            demand[on] *= min(1.0, together / max(1e-9, demand[on].sum()))
        vms = tuple(
            replace(vm, cpu_used_cores=float(cores))
            for vm, cores in zip(moment.cluster.vms, demand, strict=True)
        )
        known = replace(
            moment.cluster,
            vms=vms,
            hosts=tuple(replace(host, cpu_used_cores=None) for host in moment.cluster.hosts),
        )
        past = replace(behind_of(moment, policy).past, lasting=None, short_of="")
        made = plan_and_judge(
            moment.cluster, policy, behind=Hindsight(known, past), sha256="replayed", effort=EFFORT
        )
        return {one.vm: one.target for one in made.plan.migrations}

    return decide


def measured(seed: int, days: int, every_s: float, policy: Policy) -> list[Tally]:
    record = recording(seed, days)
    deciders = {
        "nothing": (nothing, every_s),
        policy.name: (by_policy(policy), every_s),
        "greedy, every reading": (greedy(policy), STEP_S),
        "knowing tomorrow": (clairvoyant(policy), every_s),
    }
    tallies: list[Tally] = []
    for label, (decide, step_s) in deciders.items():
        began_s = time.process_time()
        tally = replay(
            record, policy, decide, label=label, every_s=step_s, calendar=policy.calendar
        )
        tallies.append(tally)
        print(_row(seed, tally, time.process_time() - began_s), flush=True)
    return tallies


def _row(seed: int, tally: Tally, cpu_s: float) -> str:
    return (
        f"| {seed} | {tally.label} | {tally.overload_hours:.1f} | {tally.excess_hours:.2f} "
        f"| {tally.migrations} | {tally.migrations_per_vm_week:.3f} | {tally.gib:,.0f} "
        f"| {tally.thrash} | {100 * tally.imbalance_p95:.0f} % | {cpu_s:.0f} |"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--every", type=float, default=900.0, help="seconds between decisions")
    parser.add_argument("--policy", type=Path, default=POLICY)
    asked = parser.parse_args(arguments)
    policy = load_policy(asked.policy)
    print(HEADINGS)
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    kept = True
    for seed in asked.seeds:
        idle, ours, busy, _ = measured(seed, asked.days, asked.every, policy)
        kept &= ours.thrash == 0 and ours.overload_hours < idle.overload_hours
        kept &= ours.migrations < busy.migrations
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
