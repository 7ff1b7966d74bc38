"""Taking hosts back: resumed without the platform's failback, and refilled if asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from balancer.errors import InputError, RefusedError
from balancer.execute.charge import Charge
from balancer.execute.clear import ARRIVES_S
from balancer.execute.context import Context
from balancer.execute.executor import execute
from balancer.execute.leaving import hosts_named
from balancer.execute.pause import set_paused
from balancer.execute.progress import NewsKind, only_news
from balancer.execute.recover import recover_into
from balancer.execute.window import anytime
from balancer.formats.plan import plan_to_json
from balancer.gateway.names import host_key
from balancer.gateway.port import MoveRefusedError, ReplyLostError
from balancer.judge import judge
from balancer.model.cluster import Cluster, HostState
from balancer.model.drain import DrainReport, DrainState, Kind, Left, Thing
from balancer.model.outcome import MigrationState, RunEnd
from balancer.model.plan import Plan
from balancer.planner import bring_back

OnPlan = Callable[[Plan], None]

AGAIN = "`balancer resume --restore` again"


def ignore(plan: Plan) -> None:
    """Take no notice of a plan."""
    del plan


def resume(
    hosts: tuple[str, ...], charge: Charge, *, restore: bool = False, on_plan: OnPlan = ignore
) -> DrainReport:
    """Let VMs land on hosts again; with `restore` bring back what their last drain took away.

    A drain of these hosts that is not over is given up. What comes back is planned and judged as
    ever, with rules, thresholds and reserve in force; only caps a run and windows do not hold.

    Raises:
        InputError: No such host.
        RefusedError: A host is down or silent, or somebody has frozen the cluster.
        UnreachableError: The cluster cannot be read.
        HeldError: Another executor has the cluster.
    """
    context = charge.context()
    recover_into(context, charge)
    seen = charge.gateway.observe()
    hosts = hosts_named(seen.cluster, hosts)
    _check(seen.cluster, hosts)
    if restore and seen.control is not None and seen.control.frozen:
        raise RefusedError(
            f"{seen.cluster.name} is frozen: {seen.control.freeze.strip()}",
            remedy="thaw it first: `balancer thaw`, or resume without --restore",
        )
    work = Resuming(charge, context, hosts, on_plan)
    started_at = context.now
    work.give_up_drains()
    left = [] if seen.estate is None else work.resume()
    if restore and not left:
        work.bring_back()
    work.tell()
    return work.report(started_at, tuple(left), stopped=restore and charge.interrupted())


def _check(cluster: Cluster, hosts: tuple[str, ...]) -> None:
    for name in hosts:
        state = cluster.host_by_name[name].state
        if state in (HostState.DOWN, HostState.UNKNOWN):
            raise RefusedError(
                f"{name} cannot be resumed: it is {state.value}",
                remedy="wait until it answers and has joined its cluster",
            )


@dataclass
class Resuming:
    """Hosts on their way back."""

    charge: Charge
    context: Context
    hosts: tuple[str, ...]
    on_plan: OnPlan
    moved: Counter[Kind] = field(default_factory=Counter)
    left: list[Left] = field(default_factory=list)
    plans: list[str] = field(default_factory=list)

    def give_up_drains(self) -> None:
        """Close drains of these hosts that are not over: whoever resumes a host wants it back."""
        context = self.context
        for record in context.store.drains.open(context.lease.cluster):
            if set(record.order.hosts) & set(self.hosts):
                context.store.drains.enter(
                    context.lease, record.id, DrainState.CANCELLED, context.now, reason="resumed"
                )

    def resume(self) -> list[Left]:
        """Resume every host that is paused; return those that would not."""
        estate = self.context.gateway.observe().estate
        left: list[Left] = []
        for host in self.hosts:
            node = estate.node(host) if estate is not None else None
            if node is not None and not node.paused:
                self.context.tell(NewsKind.NOTED, host, f"{host} is not paused", note=True)
            elif not set_paused(self.context, host, paused=False):
                why = "it could not be resumed"
                left.append(Left(host, Kind.ROLE, host, why, "Resume-ClusterNode tells more"))
            else:
                self._note_resumed(host)
        self.left += left
        return left

    def _note_resumed(self, host: str) -> None:
        context = self.context
        for record in context.store.drains.of_host(context.lease.cluster, host)[:1]:
            context.store.drains.resumed(context.lease, record.id, host, context.now)

    def bring_back(self) -> None:
        """Move back what the last drain of each host took away."""
        drains, context = self.context.store.drains, self.context
        records = {host: drains.of_host(context.lease.cluster, host) for host in self.hosts}
        things = {
            (thing.kind, thing.key): thing
            for host, some in records.items()
            for record in some
            for thing in drains.things(record.id)
            if thing.host == host
        }
        if not things:
            text = "nothing is known of what was there: no drain of ours took it away"
            context.tell(NewsKind.NOTED, context.lease.cluster, text, note=True)
            return
        self._bring_back_vms({one.key: one.host for one in things.values() if one.kind is Kind.VM})
        if not self.charge.interrupted():
            self._bring_back_rest([one for one in things.values() if one.kind is not Kind.VM])
        if self.charge.interrupted() or self.left:
            return  # asked for again, it goes on with the rest
        for host, some in records.items():
            for record in some:
                context.renew()
                drains.returned(context.lease, record.id, host, context.now)

    def report(
        self, started_at: datetime, unresumed: tuple[Left, ...], *, stopped: bool
    ) -> DrainReport:
        """Return what became of it."""
        context = self.context
        end = RunEnd.DONE if not self.left else RunEnd.IN_PART
        if stopped:
            end = RunEnd.CANCELLED
        return DrainReport(
            cluster=context.lease.cluster,
            hosts=self.hosts,
            end=end,
            started_at=started_at,
            ended_at=context.now,
            expected_s=0.0,
            moved=tuple(sorted(self.moved.items())),
            left=tuple(self.left),
            paused=tuple(one.host for one in unresumed),
            plans=tuple(self.plans),
            notes=tuple(context.notes),
        )

    def tell(self) -> None:
        """Pass on the news that no run carries."""
        if news := self.context.take_news():
            self.charge.on_progress(only_news(self.context.now, news))

    def _bring_back_vms(self, homes: dict[str, str]) -> None:
        context = self.context
        seen = context.gateway.observe().cluster
        plan, policy = bring_back(seen, self.charge.policy, homes, now=context.now)
        if findings := judge(seen, policy, plan):
            raise RefusedError(
                f"the judge does not pass the plan of the return: {findings[0].message}",
                remedy="report it together with the snapshot (balancer observe -o)",
            )
        self.left += [
            Left(one.host, Kind.VM, one.name, one.reason, "`balancer move` it when it may go")
            for one in plan.not_moved
        ]
        if not plan.migrations:
            return
        self.on_plan(plan)
        context.store.plans.save(plan, plan_to_json(plan))
        self.plans.append(plan.id)
        try:
            charge = replace(self.charge, policy=policy, lease=context.lease)
            report = execute(plan, charge, may_start=anytime, by_hand=True)
        except InputError as error:  # the cluster has changed since it was planned
            context.tell(NewsKind.NOTED, context.lease.cluster, error.message, note=True)
            self.left += [
                Left(one.source, Kind.VM, one.name, error.message, AGAIN) for one in plan.migrations
            ]
            return
        context.notes.extend(note for note in report.notes if note not in context.notes)
        for one in report.migrations:
            if one.state is MigrationState.DONE:
                self.moved[Kind.VM] += 1
            else:
                why = one.reason or one.state.value
                self.left.append(Left(one.source, Kind.VM, one.name, why, AGAIN))

    def _bring_back_rest(self, things: list[Thing]) -> None:
        """Ask for the move of everything else, and look for it to arrive.

        A VM that stood still and was started meanwhile is no role any more and stays.
        """
        asked = [thing for thing in self._away(things) if self._ask(thing)]
        since_s = self.context.now_s
        while (away := self._away(asked)) and not self.charge.interrupted():
            if self.context.now_s - since_s > ARRIVES_S:
                break
            self.context.renew()
            self.context.clock.sleep(self.charge.poll_s)
        self.moved.update(thing.kind for thing in asked if thing not in away)
        self.left += [
            Left(thing.host, thing.kind, thing.name, "it did not arrive", "look at its group")
            for thing in away
        ]

    def _ask(self, thing: Thing) -> bool:
        context = self.context
        context.renew()
        for record in context.store.drains.of_host(context.lease.cluster, thing.host)[:1]:
            subject = f"{thing.kind.value} {thing.key}"
            context.store.drains.moving(
                context.lease, record.id, subject, thing.host, "back", context.now
            )
        try:
            gateway, is_volume = context.gateway, thing.kind is Kind.VOLUME
            move = gateway.move_volume if is_volume else gateway.move_group
            context.act_anywhere(lambda fence: move(thing.key, thing.host, fence))
        except ReplyLostError:
            return True  # looking tells
        except MoveRefusedError as error:
            self.left.append(
                Left(thing.host, thing.kind, thing.name, error.message, "move it by hand")
            )
            return False
        return True

    def _away(self, things: list[Thing]) -> list[Thing]:
        """Return those of the things that are there but not on their hosts."""
        seen = self.context.gateway.observe()
        if seen.estate is None:
            return []
        owners = {role.id: role.owner for role in seen.estate.roles}
        owners |= {volume.name: volume.owner for volume in seen.estate.volumes}
        return [
            thing
            for thing in things
            if thing.key in owners and host_key(owners[thing.key]) != host_key(thing.host)
        ]
