"""Where one thing at a time is carried out on one cluster: a cycle, a plan, a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from balancer.clock import Clock
from balancer.cycle import plan_and_judge
from balancer.errors import BalancerError, ExitCode, RefusedError
from balancer.execute.executor import execute, exit_code
from balancer.execute.progress import Progress
from balancer.execute.recover import recover
from balancer.execute.window import MayStart
from balancer.formats.plan import plan_to_json
from balancer.gateway.port import Gateway, Observation
from balancer.model.outcome import RunReport
from balancer.model.plan import Plan, Status
from balancer.policy.policy import Mode, Policy
from balancer.service.events import EventKind, Value
from balancer.service.hooks import HookResult, run_hook
from balancer.service.stop import Stop
from balancer.service.telling import Teller
from balancer.store.leases import Lease
from balancer.store.store import Store
from balancer.unattended import HooksPart


@dataclass(frozen=True, slots=True)
class Desk:
    """What carrying something out takes.

    Attributes:
        stop: Tells whether to begin nothing more.
        seen: Takes note of each reading: history, hosts that fall silent, a freeze.
        progress: Takes note of how far a run is, each poll.
        planned: Takes note of a plan that is going to be carried out, and what to know about it.
        reported: Takes note of how a run ended.
        poll_s: Seconds between looks at what is in flight.
    """

    cluster: str
    policy: Policy
    gateway: Gateway
    store: Store
    clock: Clock
    lease: Lease
    tell: Teller
    stop: Stop
    seen: Callable[[Observation], None]
    progress: Callable[[Progress], None]
    hooks: HooksPart
    planned: Callable[[Plan, tuple[str, ...]], None] = lambda *_: None
    reported: Callable[[RunReport], None] = lambda _: None
    poll_s: float = 2.0

    def of(self, *, cycle: str | None = None, plan: str | None = None) -> Desk:
        """Return a desk whose events belong to a cycle or a plan."""
        return dataclasses.replace(self, tell=self.tell.of(cycle=cycle, plan=plan))

    def watch(self, progress: Progress) -> None:
        """Tell the news of a run and take note of where it is."""
        self.tell.progress(progress)
        self.progress(progress)


@dataclass(frozen=True, slots=True)
class Ended:
    """How something that was asked for ended: what the command says and exits with."""

    exit_code: ExitCode
    text: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Cycled:
    """What came of a cycle; `result` is one word."""

    result: str
    plan: Plan | None = None
    report: RunReport | None = None


def carry_out(
    desk: Desk,
    plan: Plan,
    *,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
) -> RunReport:
    """Execute a plan between its hooks, and tell about it.

    Raises:
        RefusedError: The hook before the run failed, or it is not safe now.
        InputError, UnreachableError, HeldError, StoreError: As `execute` does.
    """
    desk = desk.of(plan=plan.id)
    variables = _variables(desk, plan)
    if desk.hooks.before_run:
        result = _hook(desk, "before_run", variables)
        if not result.ok:
            raise RefusedError(
                f"the hook before the run says no: {result.text}",
                remedy="nothing was moved; the hook's exit code 0 lets the run begin",
            )
    many = len(plan.migrations)
    desk.tell(EventKind.RUN_STARTED, f"{many} migrations", data={"migrations": many})
    report = execute(
        plan,
        desk.policy,
        desk.gateway,
        desk.store,
        desk.clock,
        lease=desk.lease,
        interrupted=desk.stop,
        on_progress=desk.watch,
        max_migrations=max_migrations,
        on_interrupt=desk.stop.how,
        may_start=may_start,
        poll_s=desk.poll_s,
    )
    desk.tell.ended(report)
    desk.reported(report)
    if desk.hooks.after_run:
        _hook(desk, "after_run", variables | _outcome(report))
    return report


def _variables(desk: Desk, plan: Plan) -> dict[str, str]:
    hosts = sorted({host for each in plan.migrations for host in (each.source, each.target)})
    return {
        "BALANCER_CLUSTER": desk.cluster,
        "BALANCER_PLAN": plan.id,
        "BALANCER_MIGRATIONS": str(len(plan.migrations)),
        "BALANCER_HOSTS": ",".join(hosts),
    }


def _outcome(report: RunReport) -> dict[str, str]:
    done = sum(one.state.value == "done" for one in report.migrations)
    failed = sum(one.state.value == "failed" for one in report.migrations)
    return {
        "BALANCER_END": report.end.value,
        "BALANCER_DONE": str(done),
        "BALANCER_FAILED": str(failed),
    }


def _hook(desk: Desk, name: str, variables: Mapping[str, str]) -> HookResult:
    command = desk.hooks.before_run if name == "before_run" else desk.hooks.after_run
    said = {"BALANCER_HOOK": name, **variables}
    result = run_hook(command, said, desk.hooks.timeout, beat=desk.stop)
    kind = EventKind.HOOK_RAN if result.ok else EventKind.HOOK_FAILED
    data: dict[str, Value] = {
        "hook": name,
        "seconds": result.seconds,
        "exit_code": result.exit_code,
    }
    desk.tell(kind, result.text or f"the hook {name} ran", subject=name, data=data)
    return result


def cycle(
    desk: Desk,
    mode: Mode,
    *,
    trigger: str,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    on_plan: Callable[[Plan], None] = lambda _: None,
) -> Cycled:
    """Run one cycle as far as `mode` lets it go, and tell about it.

    Raises:
        BalancerError: What stopped it; told as well.
    """
    began = desk.clock.now()
    desk = desk.of(cycle=cycle_id(desk.cluster, began))
    desk.tell(EventKind.CYCLE_STARTED, data={"trigger": trigger})
    try:
        cycled = _cycle(desk, mode, max_migrations, may_start, on_plan)
    except BalancerError as error:
        data = {"seconds": _since(desk, began), "exit_code": int(error.exit_code)}
        desk.tell(EventKind.CYCLE_FAILED, error.message, data=data)
        raise
    told: dict[str, Value] = {"seconds": _since(desk, began), "result": cycled.result}
    desk.tell(EventKind.CYCLE_ENDED, cycled.result.replace("_", " "), data=told)
    return cycled


def cycle_id(cluster: str, began: datetime) -> str:
    """Return what a cycle is called in events: readable, and unique enough to search for."""
    return f"{cluster}-{began:%Y%m%dT%H%M%S}"


def _since(desk: Desk, began: datetime) -> float:
    return (desk.clock.now() - began).total_seconds()


def _cycle(
    desk: Desk,
    mode: Mode,
    max_migrations: int | None,
    may_start: MayStart | None,
    on_plan: Callable[[Plan], None],
) -> Cycled:
    notes = recover(
        desk.cluster,
        desk.gateway,
        desk.store,
        desk.clock,
        lease=desk.lease,
        interrupted=desk.stop,
        on_progress=desk.watch,
        poll_s=desk.poll_s,
    )
    seen = desk.gateway.observe()
    desk.seen(seen)
    if mode is Mode.OBSERVE:
        return Cycled("observed")
    judged = plan_and_judge(
        seen.cluster, desk.policy, max_migrations=max_migrations, interrupted=desk.stop
    )
    made = judged.plan
    desk.store.plans.save(made, plan_to_json(made))
    desk.of(plan=made.id).tell.planned(made)
    on_plan(made)
    desk.planned(made, (*notes, *seen.notes, *judged.warnings))
    if not made.migrations:
        return Cycled(made.status.value, made)
    if mode is Mode.RECOMMEND:
        return Cycled("recommended", made)
    if desk.stop():
        return Cycled("stopped", made)
    report = carry_out(desk, made, may_start=may_start)
    return Cycled(report.end.value, made, report)


def ended(cycled: Cycled) -> Ended:
    """Return how a cycle that somebody asked for ended."""
    if cycled.report is not None:
        return Ended(exit_code(cycled.report.end), cycled.report.end.value)
    infeasible = cycled.plan is not None and cycled.plan.status is Status.INFEASIBLE
    code = ExitCode.ANSWER_IS_NO if infeasible else ExitCode.DONE
    return Ended(ExitCode.INTERRUPTED if cycled.result == "stopped" else code, cycled.result)
