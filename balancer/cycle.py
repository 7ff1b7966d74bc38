"""The whole program on one screen: observe, plan, judge, execute, record.

The command line and the service run this same cycle; they differ in who asks and who watches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from balancer.clock import Clock
from balancer.errors import InternalError
from balancer.execute.executor import execute
from balancer.execute.progress import Progress
from balancer.execute.recover import recover
from balancer.formats.plan import plan_to_json
from balancer.formats.snapshot import snapshot_sha256
from balancer.gateway.port import Gateway, Observation
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.outcome import RunReport
from balancer.model.plan import Plan
from balancer.planner import plan
from balancer.policy.policy import Policy
from balancer.policy.said import rule_warnings
from balancer.store.leases import holder_name
from balancer.store.store import Store


class Watcher:
    """Who looks on while a cycle runs; this one looks away."""

    def seen(self, observation: Observation) -> None:
        """Take note of what the cluster looks like."""

    def planned(self, plan: Plan, notes: tuple[str, ...]) -> None:
        """Take note of what is going to be done, and of what to know about it."""

    def progress(self, progress: Progress) -> None:
        """Take note of how far the migrations are."""


NOBODY = Watcher()


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw, decided and did; `report` is None where nothing was executed."""

    seen: Observation
    plan: Plan
    report: RunReport | None


def run_cycle(
    name: str,
    policy: Policy,
    gateway: Gateway,
    store: Store,
    clock: Clock,
    *,
    act: bool,
    max_migrations: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
    watcher: Watcher = NOBODY,
) -> Cycle:
    """Bring the cluster `name` within `policy`; without `act` only say how.

    Raises:
        HeldError: Another executor holds the cluster.
        UnreachableError: Nobody who can be believed answered for it.
    """
    with store.leases.hold(name, holder_name(), clock) as lease:
        notes = recover(name, gateway, store, clock, lease=lease, interrupted=interrupted)
        seen = gateway.observe()
        watcher.seen(seen)
        store.history.record(seen.cluster, clock.now())
        made = plan_and_judge(
            seen.cluster,
            policy,
            max_migrations=max_migrations,
            interrupted=interrupted,
        )
        store.plans.save(made.plan, plan_to_json(made.plan))
        watcher.planned(made.plan, (*notes, *seen.notes, *made.warnings))
        if not act or not made.plan.migrations or interrupted():
            return Cycle(seen, made.plan, None)
        report = execute(
            made.plan,
            policy,
            gateway,
            store,
            clock,
            lease=lease,
            interrupted=interrupted,
            on_progress=watcher.progress,
        )
        return Cycle(seen, made.plan, report)


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
    seed: int = 0,
    max_migrations: int | None = None,
    time_limit_s: float | None = None,
    elapsed_s: Callable[[], float] | None = None,
    interrupted: Callable[[], bool] | None = None,
    sha256: str = "",
) -> Judged:
    """Plan, and let nothing out that the independent judge objects to.

    Raises:
        InputError: Rules contradict each other.
        InternalError: The planner made a plan that the judge refuses; nothing was done.
    """
    made = plan(
        cluster,
        policy,
        now=moment_of(cluster),
        seed=seed,
        max_migrations=max_migrations,
        snapshot_sha256=sha256 or snapshot_sha256(cluster),
        elapsed_s=elapsed_s,
        time_limit_s=time_limit_s,
        interrupted=interrupted,
    )
    return Judged(judged(cluster, policy, made, max_migrations), rule_warnings(cluster, policy))


def judged(cluster: Cluster, policy: Policy, made: Plan, max_migrations: int | None = None) -> Plan:
    """Return the plan unchanged if the judge has nothing against it."""
    findings = judge(cluster, policy, made, max_migrations=max_migrations)
    if findings:
        told = "; ".join(f"{one.subject}: {one.message}" for one in findings[:3])
        raise InternalError(
            f"the planner made an illegal plan ({len(findings)} findings): {told}",
            remedy="nothing was done; report it together with the snapshot (balancer observe -o)",
        )
    return made
