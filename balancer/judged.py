"""A plan with the judge's consent: no plan leaves the planner otherwise.

Apart from the cycle, so that a command that plans from a file waits for neither store nor hosts
to be imported.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from balancer.errors import InternalError
from balancer.formats.snapshot import snapshot_sha256
from balancer.judge import Finding, goal_faults, judge, unseen_on_the_way
from balancer.model.cluster import Cluster
from balancer.model.past import Past
from balancer.model.plan import Plan
from balancer.planner import plan
from balancer.policy.consistency import rule_warnings
from balancer.policy.policy import Policy

if TYPE_CHECKING:
    from balancer.hindsight import Hindsight

# A plan speaks of the moment its snapshot was taken, and ages from then on: so the same snapshot
# gives the same plan to the byte whenever it is planned on, and one that was planned on late is as
# stale as it should be. Of a snapshot that does not say its age the worst is assumed.
UNDATED = datetime(1970, 1, 1, tzinfo=UTC)


def moment_of(cluster: Cluster) -> datetime:
    """Return the time that plans on this snapshot carry as theirs."""
    return cluster.taken_at or UNDATED


@dataclass(frozen=True, slots=True)
class Judged:
    """A plan that the judge has no finding against, and warnings about the rules it went by."""

    plan: Plan
    warnings: tuple[str, ...]


def plan_and_judge(
    cluster: Cluster,
    policy: Policy,
    *,
    behind: Hindsight | None = None,
    seed: int = 0,
    max_migrations: int | None = None,
    time_limit_s: float | None = None,
    elapsed_s: Callable[[], float] | None = None,
    interrupted: Callable[[], bool] | None = None,
    sha256: str = "",
    effort: float | None = None,
) -> Judged:
    """Plan, and let nothing out that the independent judge objects to.

    With hindsight both go by the demand that follows from history, not by the last reading; the
    plan is bound to the reading.

    Raises:
        InputError: Rules contradict each other.
        InternalError: The planner made a plan that the judge refuses; nothing was done.
    """
    seen, past = (cluster, None) if behind is None else (behind.cluster, behind.past)
    made = plan(
        seen,
        policy,
        now=moment_of(cluster),
        seed=seed,
        past=past,
        max_migrations=max_migrations,
        snapshot_sha256=sha256 or snapshot_sha256(cluster),
        elapsed_s=elapsed_s,
        time_limit_s=time_limit_s,
        interrupted=interrupted,
        effort=effort,
    )
    notes = () if behind is None else behind.notes
    warnings = (*notes, *rule_warnings(cluster, policy))
    made = judged(seen, policy, made, max_migrations, past)
    _refuse(tuple(goal_faults(seen, policy, made)))
    if unseen := unseen_on_the_way(seen, policy, made):
        text = f"{unseen} failures of hosts that may come while the plan is under way"
        warnings = (*warnings, f"{text} are looked at for its end only: there are too many")
    return Judged(made, warnings)


def judged(
    cluster: Cluster,
    policy: Policy,
    made: Plan,
    max_migrations: int | None = None,
    past: Past | None = None,
) -> Plan:
    """Return the plan unchanged if the judge has nothing against it."""
    _refuse(judge(cluster, policy, made, max_migrations=max_migrations, past=past))
    return made


def _refuse(findings: tuple[Finding, ...]) -> None:
    if findings:
        told = "; ".join(f"{one.subject}: {one.message}" for one in findings[:3])
        raise InternalError(
            f"the planner made an illegal plan ({len(findings)} findings): {told}",
            remedy="nothing was done; report it together with the snapshot (balancer observe -o)",
        )
