"""The judgement of a whole plan."""

from __future__ import annotations

from balancer.judge.calm import calm_faults
from balancer.judge.during import (
    memory_faults,
    ratio_faults,
    reserve_faults,
    rule_during_faults,
)
from balancer.judge.end import end_faults, rule_end_faults
from balancer.judge.finding import Code, Finding
from balancer.judge.limits import limit_faults
from balancer.judge.migrations import chain_faults, migration_faults, unknown_names
from balancer.judge.order import order_faults, order_of
from balancer.judge.settings import settings_faults, transport_fault, transports_in_plan
from balancer.judge.survive import survival_faults
from balancer.judge.turns import hour_faults, turn_faults
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.model.plan import Plan
from balancer.policy.lifted import lifted
from balancer.policy.policy import Policy
from balancer.policy.said import what_is_said


def judge(
    cluster: Cluster,
    policy: Policy,
    plan: Plan,
    *,
    max_migrations: int | None = None,
    past: Past | None = None,
) -> tuple[Finding, ...]:
    """Judge `plan` on the snapshot it was made for; no finding means that it is legal.

    A plan whose migrations make no sense together (unknown names, a circle, a VM that is not
    where it should be) has no states to go through: then the findings are of that alone, with
    those on caps and settings.

    Args:
        cluster: The snapshot.
        policy: The policy in force.
        plan: The plan, from whatever source.
        max_migrations: The command line's cap, where one was given.
        past: What cool-downs and the day's budget go by; without it they are not judged.
    """
    found: list[Finding] = []
    cluster = lifted(cluster, policy)
    if plan.cluster.casefold() != cluster.name.casefold():
        text = f"the plan is for cluster {plan.cluster!r}, this is {cluster.name!r}"
        found.append(Finding(Code.WRONG_CLUSTER, plan.id, text))
    found += limit_faults(cluster, policy, plan, max_migrations)
    found += settings_faults(cluster, policy, plan)
    senseless = [*unknown_names(cluster, plan), *order_faults(plan.migrations)]
    senseless = senseless or list(chain_faults(cluster, plan))
    if senseless:
        return (*found, *senseless)
    if past is not None:
        found += calm_faults(cluster, policy, plan, past)
    found += migration_faults(cluster, plan)
    transports = transports_in_plan(cluster, plan)
    faults = (transport_fault(transports, migration) for migration in plan.migrations)
    found += filter(None, faults)
    order, said = order_of(plan.migrations), what_is_said(cluster, policy)
    found += end_faults(cluster, policy, order)
    found += rule_end_faults(cluster, said, order)
    found += memory_faults(cluster, policy, order)
    found += reserve_faults(cluster, order)
    found += ratio_faults(cluster, policy, order)
    found += rule_during_faults(cluster, said, order)
    found += turn_faults(said, order)
    found += survival_faults(cluster, policy, said, order)
    found += hour_faults(said, order, plan.created_at)
    return tuple(found)
