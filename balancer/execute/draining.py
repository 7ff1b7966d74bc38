"""One drain at work, from pausing to the last look.

    planned > pausing > moving > clearing > drained
    any of these > undoing > failed, cancelled

Each state is in the store before what it announces is done, and what is done is decided by
looking at the cluster, never by remembering. So whoever finds a drain that is not over, after a
crash at any point, does the same as its first executor would do next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace

from balancer.errors import InputError, RefusedError, UnreachableError
from balancer.execute.charge import Charge
from balancer.execute.clear import Clearing
from balancer.execute.context import Context
from balancer.execute.decide import PASSES
from balancer.execute.executor import execute
from balancer.execute.failures import Reaction, failure_of
from balancer.execute.leaving import check_may_leave, remains
from balancer.execute.pause import set_paused
from balancer.execute.progress import NewsKind, OnInterrupt, only_news
from balancer.execute.undoing import undo
from balancer.execute.view import DrainView
from balancer.execute.window import anytime
from balancer.formats.plan import plan_to_json
from balancer.gateway.port import Observation
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.drain import DrainState, Kind, Left, OnFailure, Order
from balancer.model.outcome import MigrationState, RunEnd, RunReport
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import Evacuation, Stuck
from balancer.planner import drain as plan_drain
from balancer.policy.heed import TRIED
from balancer.policy.rules import Avoid

ROUNDS_MAX = 12  # plans of one drain: what fails or changes on the way is planned anew
IDLE_MAX = 3  # of them in a row in which nothing moved
ENOUGH = 2  # failures of a VM to a target before another target is wanted
# A backup or somebody else's migration is waited for so long, once all others have left.
PASSES_MAX_S = 900.0
PASSES_POLL_S = 15.0

OnPlanned = Callable[[Evacuation], None]


@dataclass
class Draining:
    """One drain at work. `record` is its id in the store."""

    charge: Charge
    context: Context
    order: Order
    on_planned: OnPlanned
    record: int = 0
    failed: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[Kind] = field(default_factory=Counter)
    plans: list[str] = field(default_factory=list)
    left: tuple[Left, ...] = ()

    def plan(self, seen: Observation) -> Evacuation:
        """Plan what still has to be live migrated, and let nothing through that is not legal.

        Raises:
            InputError: A host is down or silent.
            RefusedError: The judge does not pass the plan.
        """
        rules = (*self.charge.policy.rules, *_lessons(self.failed))
        found = plan_drain(
            seen.cluster,
            replace(self.charge.policy, rules=rules),
            self.order.hosts,
            now=self.context.now,
            keep_reserve=self.order.keep_reserve,
            interrupted=self.charge.interrupted,
        )
        if findings := judge(found.cluster, found.policy, found.plan):
            raise RefusedError(
                f"the judge does not pass the plan of the drain: {findings[0].message}",
                remedy="report it together with the snapshot (balancer observe -o)",
            )
        return found

    def run(self, evacuation: Evacuation) -> RunEnd:
        """Do it all; return how it ended.

        Raises:
            HeldError: Another executor has the cluster; it carries the drain on.
            StoreError: The store cannot be written, so nothing may be done.
        """
        try:
            self._pause()
            self._enter(DrainState.MOVING)
            self._move(evacuation)
            if not self.charge.interrupted():
                self._enter(DrainState.CLEARING)
                sweep = Clearing(self.context, self.record, self.charge.policy, self.order.hosts)
                self.left = sweep.run(self.charge.interrupted, self.charge.poll_s)
                self.moved += sweep.moved
            self.left = self._last_look()
        except (InputError, RefusedError, UnreachableError) as error:
            return self.give_up(RunEnd.IN_PART, error.message)
        if not self.left:
            self._enter(DrainState.DRAINED)
            self._tell()
            return RunEnd.DONE
        if self.charge.interrupted():
            return self.give_up(RunEnd.CANCELLED, "asked to stop")
        return self.give_up(RunEnd.IN_PART, f"{len(self.left)} things are left")

    def give_up(self, end: RunEnd, why: str) -> RunEnd:
        """Leave the hosts as the order says, and the record closed once they are."""
        context = self.context
        record = context.store.drains.get(self.record)
        context.tell(NewsKind.STOPPED, context.lease.cluster, why, note=True)
        if not self.left:
            with suppress(UnreachableError):
                self.left = self._last_look()
        if self.order.on_failure is OnFailure.RESUME and record.paused:
            self._enter(DrainState.UNDOING, why)
            if not undo(context, record):  # the record stays open: every later start tries again
                named = " ".join(record.paused)
                text = f"not all of {named} could be resumed: the next cycle or command tries again"
                context.tell(NewsKind.FAILED, context.lease.cluster, text, note=True)
                self._tell()
                return end
        cancelled = end is RunEnd.CANCELLED
        self._enter(DrainState.CANCELLED if cancelled else DrainState.FAILED, why)
        self._tell()
        return end

    def _enter(self, state: DrainState, why: str = "", pausing: tuple[str, ...] = ()) -> None:
        context = self.context
        context.renew()
        context.store.drains.enter(
            context.lease, self.record, state, context.now, reason=why, pausing=pausing
        )

    def _pause(self) -> None:
        """Pause every host that nobody has paused yet; hosts that stand alone cannot be."""
        estate = self.context.gateway.observe().estate
        if estate is None:
            self._enter(DrainState.PAUSING)
            return
        nodes = {host: estate.node(host) for host in self.order.hosts}
        ours = tuple(host for host, node in nodes.items() if node is not None and not node.paused)
        self._enter(DrainState.PAUSING, pausing=ours)
        for host in ours:
            if not set_paused(self.context, host, paused=True):
                raise RefusedError(f"{host} could not be paused: VMs could land on it meanwhile")

    def _move(self, evacuation: Evacuation) -> None:
        """Live migrate round by round until nothing that runs is left or nothing helps."""
        waited_s: float | None = None
        idle = 0
        for number in range(ROUNDS_MAX):
            if number:
                evacuation = self._planned_anew()
            if self.charge.interrupted():
                return
            if evacuation.plan.migrations:
                idle = 0 if self._carry_out(evacuation) else idle + 1
                if idle < IDLE_MAX:
                    continue
            if not evacuation.stuck:
                return
            waited_s = self.context.now_s if waited_s is None else waited_s
            if not self._wait_for(evacuation, waited_s):
                return

    def _planned_anew(self) -> Evacuation:
        seen = self.context.gateway.observe()
        check_may_leave(seen, self.order.hosts)
        evacuation = self.plan(seen)
        if evacuation.plan.migrations:
            self.on_planned(evacuation)
        return evacuation

    def _carry_out(self, evacuation: Evacuation) -> int:
        """Carry one plan out; return how many VMs have moved.

        A target that is lost ends it once what is in flight has ended: there is another plan to
        be made, and to hold back what was to go there for minutes would only lose them.
        """
        context = self.context
        view = DrainView(context.gateway, self.order.hosts)
        targets = {one.target for one in evacuation.plan.migrations}
        context.store.plans.save(evacuation.plan, plan_to_json(evacuation.plan))
        self.plans.append(evacuation.plan.id)
        try:
            charge = replace(
                self.charge,
                policy=evacuation.policy,
                gateway=view,
                lease=context.lease,
                interrupted=lambda: self.charge.interrupted() or bool(view.lost(targets)),
                on_interrupt=self._how_to_stop,
            )
            report = execute(evacuation.plan, charge, may_start=anytime, by_hand=True)
        except (InputError, RefusedError) as error:  # the cluster has changed since it was planned
            context.tell(NewsKind.NOTED, context.lease.cluster, error.message, note=True)
            return 0
        self._learn(report)
        if lost := view.lost(targets):
            text = f"planned anew without {', '.join(lost)}"
            context.tell(NewsKind.NOTED, context.lease.cluster, text, note=True)
        context.notes.extend(note for note in report.notes if note not in context.notes)
        return sum(one.state is MigrationState.DONE for one in report.migrations)

    def _how_to_stop(self) -> OnInterrupt:
        if not self.charge.interrupted():
            return OnInterrupt.FINISH  # nobody asked: a target was lost
        return self.charge.on_interrupt()

    def _learn(self, report: RunReport) -> None:
        for one in report.migrations:
            if one.state is MigrationState.DONE:
                self.moved[Kind.VM] += 1
            elif one.state is MigrationState.FAILED:
                again = failure_of(one.code).reaction is Reaction.QUARANTINE
                self.failed[one.vm, one.target] += ENOUGH if again else 1

    def _wait_for(self, evacuation: Evacuation, since_s: float) -> bool:
        """Wait a little for what passes by itself; tell whether that helped."""
        passes = [one for one in evacuation.stuck if passes_by_itself(evacuation, one)]
        context = self.context
        if not passes or context.now_s - since_s >= PASSES_MAX_S:
            return False
        text = f"waiting for {', '.join(one.name for one in passes)}: {passes[0].reason}"
        context.tell(NewsKind.NOTED, context.lease.cluster, text)
        self._tell()
        while context.now_s - since_s < PASSES_MAX_S and not self.charge.interrupted():
            context.renew()
            context.clock.sleep(PASSES_POLL_S)
            seen = context.gateway.observe().cluster
            if any(not PASSES & {*_blocked(seen, one)} for one in passes):
                return True
        return False

    def _last_look(self) -> tuple[Left, ...]:
        """Return all that is still on the hosts, which are empty only if they say so themselves."""
        seen = self.context.gateway.observe()
        try:
            stuck = {one.vm: one for one in self.plan(seen).stuck}
        except (InputError, RefusedError):
            stuck = {}
        paused = bool(self.context.store.drains.get(self.record).paused)
        return remains(seen, self.order.hosts, stuck, self.left, clustered=paused)

    def _tell(self) -> None:
        """Pass on the news that no run carries."""
        if news := self.context.take_news():
            self.charge.on_progress(only_news(self.context.now, news))


def _lessons(failed: Counter[tuple[str, str]]) -> tuple[Rule, ...]:
    """Return rules that keep VMs from targets that did not take them."""
    return tuple(
        Avoid(
            vms=(Selector(SelectBy.EXACT, vm),),
            hosts=(Selector(SelectBy.EXACT, host),),
            origin=TRIED,
        )
        for (vm, host), times in sorted(failed.items())
        if times >= ENOUGH
    )


def passes_by_itself(evacuation: Evacuation, stuck: Stuck) -> bool:
    """Tell whether what keeps a VM ends by itself: a backup, somebody else's migration."""
    return bool(PASSES & {*_blocked(evacuation.cluster, stuck)})


def _blocked(cluster: Cluster, stuck: Stuck) -> tuple[str, ...]:
    vm = cluster.vm_by_id.get(stuck.vm)
    return vm.blocked_by if vm is not None else ()
