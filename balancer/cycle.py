"""The whole program on one screen: observe, plan, judge, execute, record.

The command line and the service run this same cycle; they differ in who asks and who watches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.held import Held, held_back
from balancer.execute.progress import Progress
from balancer.execute.recover import recover
from balancer.execute.window import MayStart
from balancer.formats.plan import plan_to_json
from balancer.formats.snapshot import snapshot_sha256
from balancer.gateway.port import Observation
from balancer.hindsight import hindsight
from balancer.judged import plan_and_judge
from balancer.model.outcome import RunReport
from balancer.model.plan import Migration, Plan
from balancer.policy.heed import heeding
from balancer.policy.policy import Mode


class Watcher:
    """Who looks on while a cycle runs; this one looks away."""

    def seen(self, observation: Observation) -> None:
        """Take note of what the cluster looks like."""

    def planned(self, plan: Plan, notes: tuple[str, ...]) -> None:
        """Take note of a plan, and of what to know about it."""

    def held(self, held: Held) -> None:
        """Take note of why nothing is carried out now."""

    def before_run(self, plan: Plan) -> None:
        """Take note that a plan is carried out now; an error raised here calls that off."""

    def progress(self, progress: Progress) -> None:
        """Take note of how far the migrations are."""

    def after_run(self, plan: Plan, report: RunReport) -> None:
        """Take note of how a run ended."""

    def run_failed(self, plan: Plan, error: Exception) -> None:
        """Take note that a run was refused, or cut short, after `before_run` let it begin."""


NOBODY = Watcher()


@dataclass(frozen=True, slots=True)
class Cycle:
    """What one cycle saw, decided and did, and in a word how it ended.

    `result` is "observed", "recommended", "held", "stopped", the status of a plan that has no
    migrations, or the end of the run. `plan` and `report` are None where it did not come to that;
    `held` is what keeps us from acting.
    """

    result: str
    seen: Observation
    plan: Plan | None = None
    report: RunReport | None = None
    held: Held | None = None

    @property
    def migrations(self) -> tuple[Migration, ...]:
        """Return what the plan would move."""
        return () if self.plan is None else self.plan.migrations


def run_cycle(
    charge: Charge,
    mode: Mode,
    *,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    unattended: bool = False,
    watcher: Watcher = NOBODY,
) -> Cycle:
    """Bring a cluster within its policy, or go as far towards it as `mode` allows.

    Raises:
        HeldError: Another executor holds the cluster.
        RefusedError: An earlier run left a VM astray, or it is not safe now.
        UnreachableError: Nobody who can be believed answered for it.
    """
    notes = recover(replace(charge, on_progress=watcher.progress))
    seen = charge.gateway.observe()
    charge.store.history.record(seen.cluster, charge.clock.now())
    watcher.seen(seen)
    if mode is Mode.OBSERVE:
        return Cycle("observed", seen)
    held = held_back(seen, charge.policy) if mode is Mode.AUTO else None
    if held is not None and held.passes:  # planned for once it is over
        watcher.held(held)
        return Cycle("held", seen, held=held)
    asides = charge.store.asides.active(charge.lease.cluster, charge.clock.now())
    cluster, policy = heeding(seen.cluster, charge.policy, asides)
    with charge.turn():
        behind = hindsight(charge.store, cluster, policy, charge.clock.now(), unattended=unattended)
        judged = plan_and_judge(
            cluster,
            policy,
            behind=behind,
            max_migrations=max_migrations,
            interrupted=charge.interrupted,
            sha256=snapshot_sha256(seen.cluster),
        )
    made = judged.plan
    charge.store.plans.save(made, plan_to_json(made))
    watcher.planned(made, (*notes, *seen.notes, *judged.warnings))
    if not made.migrations:
        return Cycle(made.status.value, seen, made)
    if mode is Mode.RECOMMEND or held is not None:
        if held is not None:
            watcher.held(held)
        return Cycle("recommended" if held is None else "held", seen, made, held=held)
    if charge.interrupted():
        return Cycle("stopped", seen, made)
    report = carry_out(charge, made, may_start=may_start, watcher=watcher)
    return Cycle(report.end.value, seen, made, report)


def carry_out(
    charge: Charge,
    plan: Plan,
    *,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    by_hand: bool = False,
    watcher: Watcher = NOBODY,
) -> RunReport:
    """Execute a plan: the last step of a cycle, or all of it where the plan is there already.

    `by_hand` says that a person asked for these very migrations.

    Raises:
        RefusedError, InputError, UnreachableError, HeldError, StoreError: As `execute` does.
    """
    watcher.before_run(plan)
    try:
        report = execute(
            plan,
            replace(charge, on_progress=watcher.progress),
            max_migrations=max_migrations,
            may_start=may_start,
            by_hand=by_hand,
        )
    except Exception as error:
        watcher.run_failed(plan, error)
        raise
    watcher.after_run(plan, report)
    return report
