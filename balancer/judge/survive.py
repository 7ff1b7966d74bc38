"""Whether a plan keeps what room there is for failures: clause 12."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from balancer.judge.drill import Drill, Loss
from balancer.judge.finding import Code, Finding, gib
from balancer.judge.goal import awake, broken, stranded
from balancer.judge.order import Order
from balancer.model.cluster import Cluster
from balancer.policy.policy import Goal, Policy
from balancer.policy.said import Said
from balancer.policy.survival import restart_bytes

Place = Mapping[str, str]


def survival_faults(
    cluster: Cluster, policy: Policy, said: Sequence[Said], order: Order
) -> Iterator[Finding]:
    """Find that more restarts would find no host at the end than at the start.

    What empties a draining host or mends a hard rule comes first, unless the policy is firm.
    """
    if not policy.reserve.for_failures or not order.migrations:
        return
    drill = Drill(cluster, policy)
    before = {vm.id: vm.host for vm in cluster.vms}
    after = {vm: order.end(vm, host) for vm, host in before.items()}
    if _comes_first(cluster, policy, said, before, after):
        return
    was, ends = (lost(drill, place) for place in (before, after))
    if len(ends) > len(was):
        text = f"{_told(cluster, was, ends)}; {len(ends)} restarts would find no host at the end"
        yield Finding(Code.SURVIVAL_END, _named(ends[0]), f"{text}, {len(was)} do now")


def lost(drill: Drill, place: Place) -> list[Loss]:
    """Return what is lost once nothing moves; a host that is to sleep takes no restarts."""
    packs = drill.policy.goal is Goal.CONSOLIDATE
    return list(drill.losses(place, takers=awake(drill.cluster, place) if packs else None))


def _comes_first(
    cluster: Cluster, policy: Policy, said: Sequence[Said], before: Place, after: Place
) -> bool:
    if not policy.reserve.firm and stranded(cluster, after) < stranded(cluster, before):
        return True
    hard = [one.form for one in said if one.hard]
    return sum(broken(form, after) for form in hard) < sum(broken(form, before) for form in hard)


def _told(cluster: Cluster, was: Sequence[Loss], now: Sequence[Loss]) -> str:
    """Say the first loss that there was not before."""
    known = set(was)
    one = next((loss for loss in now if loss not in known), now[0])
    vm = cluster.vm_by_id[one.vm]
    return f"if {_named(one)} fails, {vm.name} ({gib(restart_bytes(vm))}) would find no host"


def _named(loss: Loss) -> str:
    return ", ".join(sorted(loss.failed))
