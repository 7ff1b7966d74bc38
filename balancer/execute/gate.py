"""What a plan must pass before its first migration, on a fresh reading."""

from __future__ import annotations

import dataclasses
from datetime import datetime

from balancer.errors import InputError, RefusedError
from balancer.execute.decide import PASSES
from balancer.judge import Code, Finding, judge
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.model.plan import Plan
from balancer.policy.policy import Policy

# The plan no longer speaks of this cluster: what is wanted is another plan.
_STALE = frozenset(
    {
        Code.WRONG_CLUSTER,
        Code.UNKNOWN_VM,
        Code.UNKNOWN_HOST,
        Code.NOT_ON_SOURCE,
        Code.TRANSPORT,
    }
)

# Load moves all the time, and backups come and go (`_passes`). What they rule out is found again
# for each migration before it starts, so these leave out a part of the plan, not all of it.
_LOAD = frozenset(
    {
        Code.OVERLOAD,
        Code.MEMORY_END,
        Code.MEMORY_DURING,
        Code.SURVIVAL_END,
        Code.SURVIVAL_DURING,
    }
)

_SHOWN_MAX = 5
_REMEDY = "plan again: `balancer plan`"


def check_plan(plan: Plan, cluster: str, now: datetime) -> None:
    """Refuse a plan that is not for this cluster or has outlived its life.

    Raises:
        InputError: It is.
    """
    if plan.cluster.casefold() != cluster.casefold():
        raise InputError(
            f"plan {plan.id} is for cluster {plan.cluster!r}, not for {cluster!r}",
            remedy="name the plan's cluster, or plan for this one",
        )
    if now >= plan.expires_at:
        raise InputError(
            f"plan {plan.id} expired at {plan.expires_at:%Y-%m-%d %H:%M:%S} UTC", remedy=_REMEDY
        )


def check_legal(cluster: Cluster, policy: Policy, plan: Plan, past: Past | None) -> tuple[str, ...]:
    """Refuse a plan that the judge does not pass; return what it says of load, as sentences.

    `past` is what cool-downs and the day's budget go by: since the plan was made others may have
    been carried out. None where they do not bind.

    Raises:
        InputError: The cluster is no longer the one planned for.
        RefusedError: Carrying the plan out would break a rule or pass a limit.
    """
    findings = judge(cluster, policy, plan, past=past)
    stale = [finding for finding in findings if finding.code in _STALE]
    if stale:
        raise InputError(f"plan {plan.id} is out of date: {_text(stale)}", remedy=_REMEDY)
    hard = [
        finding
        for finding in findings
        if finding.code not in _LOAD and not _passes(finding, cluster, plan)
    ]
    if hard:
        raise RefusedError(f"plan {plan.id} is not safe now: {_text(hard)}", remedy=_REMEDY)
    return tuple(finding.message for finding in findings)


def _passes(finding: Finding, cluster: Cluster, plan: Plan) -> bool:
    """Tell whether a finding is about a VM that is only being worked on for a while."""
    migration = plan.migration_by_id.get(finding.subject)
    vm = cluster.vm_by_id.get(migration.vm) if migration is not None else None
    blocked = set(vm.blocked_by) if vm is not None else set()
    return finding.code is Code.IMMOVABLE and bool(blocked) and blocked <= PASSES


def restricted(plan: Plan, kept: frozenset[str]) -> Plan:
    """Return the plan with only the migrations `kept`, and the settings that they need."""
    migrations = tuple(each for each in plan.migrations if each.id in kept)
    hosts = {host for each in migrations for host in (each.source, each.target)}
    settings = tuple(change for change in plan.settings if change.host in hosts)
    return dataclasses.replace(plan, migrations=migrations, settings=settings)


def _text(findings: list[Finding]) -> str:
    shown = "; ".join(finding.message for finding in findings[:_SHOWN_MAX])
    more = len(findings) - _SHOWN_MAX
    return shown if more <= 0 else f"{shown}; and {more} more"
