"""Where one thing at a time is carried out on one cluster: a cycle, a plan, a request."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime

from balancer import cycle as cycles
from balancer.clock import Clock
from balancer.cycle import Cycle, Watcher, run_cycle
from balancer.errors import BalancerError, ExitCode, HeldError, InputError, RefusedError
from balancer.execute.charge import Charge
from balancer.execute.executor import exit_code
from balancer.execute.held import Held
from balancer.execute.progress import Progress
from balancer.execute.recover import recover
from balancer.execute.window import MayStart
from balancer.gateway.port import Gateway, Observation
from balancer.model.outcome import MigrationState, RunReport
from balancer.model.plan import Plan, Status
from balancer.policy.policy import Mode, Policy
from balancer.service.events import EventKind, Value
from balancer.service.hooks import HookResult, run_hook
from balancer.service.stop import AbandonedError, Stop
from balancer.service.telling import Teller
from balancer.service.turns import PLANNING
from balancer.store.faults import StoreError
from balancer.store.leases import Lease
from balancer.store.store import Store
from balancer.unattended import HooksPart

SCHEDULE = "schedule"  # what triggers a cycle that nobody asked for
INTERRUPTED = "interrupted"  # how a run ended that its own executor did not end


@dataclass(frozen=True, slots=True)
class Desk:
    """What carrying something out takes.

    Attributes:
        stop: Tells whether to begin nothing more.
        progress: Takes note of how far a run is, each poll.
        seen: Takes note of a cycle's reading: hosts that fall silent, a freeze.
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
    progress: Callable[[Progress], None]
    hooks: HooksPart
    seen: Callable[[Observation], None] = lambda _: None
    planned: Callable[[Plan, tuple[str, ...]], None] = lambda *_: None
    reported: Callable[[RunReport], None] = lambda _: None
    poll_s: float = 2.0

    @property
    def charge(self) -> Charge:
        """Return what acting on the cluster takes of it."""
        return Charge(
            policy=self.policy,
            gateway=self.gateway,
            store=self.store,
            clock=self.clock,
            lease=self.lease,
            interrupted=self.stop,
            on_progress=self.watch,
            on_interrupt=self.stop.how,
            poll_s=self.poll_s,
            turn=self._turn,
        )

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Be within while planning, when it is our turn."""
        with PLANNING.turn(self.stop.beat), self.stop.patient():
            yield

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


class _Herald(Watcher):
    """Tells about a cycle, or about a run alone, and runs the hooks around it."""

    def __init__(self, desk: Desk, on_plan: Callable[[Plan], None] = lambda _: None) -> None:
        self._desk = desk
        self._on_plan = on_plan

    def seen(self, observation: Observation) -> None:
        """Pass it on."""
        self._desk.seen(observation)

    def planned(self, plan: Plan, notes: tuple[str, ...]) -> None:
        """Tell what the plan amounts to."""
        self._desk.of(plan=plan.id).tell.planned(plan)
        self._on_plan(plan)
        self._desk.planned(plan, notes)

    def held(self, held: Held) -> None:
        """Tell why nothing is carried out."""
        self._desk.tell(
            EventKind.CYCLE_SKIPPED, held.cause.text, data={"why": held.cause.why.value}
        )

    def before_run(self, plan: Plan) -> None:
        """Run the hook, which may say no."""
        desk = self._desk = self._desk.of(plan=plan.id)
        variables = _variables(desk, plan)
        if desk.hooks.after_run:
            desk.store.brackets.open(desk.lease, plan.id, variables, desk.clock.now())
        if desk.hooks.before_run:
            result = _hook(desk, "before_run", variables)
            if not result.ok:
                desk.store.brackets.close(desk.lease)
                raise RefusedError(
                    f"the hook before the run says no: {result.text}",
                    remedy="nothing was moved; the hook's exit code 0 lets the run begin",
                )
        many = len(plan.migrations)
        desk.tell(EventKind.RUN_STARTED, f"{many} migrations", data={"migrations": many})

    def progress(self, progress: Progress) -> None:
        """Tell the news, and pass it on."""
        self._desk.watch(progress)

    def after_run(self, plan: Plan, report: RunReport) -> None:
        """Tell how it ended, and run the hook."""
        desk = self._desk
        desk.tell.ended(report)
        desk.reported(report)
        if desk.hooks.after_run:
            states = [one.state for one in report.migrations]
            _hook_after(desk, _variables(desk, plan) | _outcome(report.end.value, states))

    def run_failed(self, plan: Plan, error: Exception) -> None:
        """Run the hook after a run that was refused or cut short, unless others act by now.

        Whoever has the cluster then brings the run to its end, and has the hook run after that; a
        service that has to end at once has no time for one.
        """
        desk = self._desk
        if desk.hooks.after_run and not isinstance(error, HeldError | AbandonedError):
            end = "refused" if isinstance(error, RefusedError | InputError) else "failed"
            outcome = {"BALANCER_END": end, "BALANCER_DONE": "", "BALANCER_FAILED": ""}
            with suppress(StoreError):  # what went wrong may be just that; then it is run again
                _hook_after(desk, _variables(desk, plan) | outcome, beat=desk.stop.beat)


def carry_out(
    desk: Desk,
    plan: Plan,
    *,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    by_hand: bool = False,
) -> RunReport:
    """Execute a plan between its hooks, and tell about it.

    Raises:
        RefusedError: The hook before the run failed, or it is not safe now.
        InputError, UnreachableError, HeldError, StoreError: As `execute` does.
    """
    return cycles.carry_out(
        desk.charge,
        plan,
        max_migrations=max_migrations,
        may_start=may_start,
        by_hand=by_hand,
        watcher=_Herald(desk),
    )


def end_left(desk: Desk) -> None:
    """Have the hook run after a run that its executor did not bring to its end.

    Raises:
        RefusedError, LeaseLostError, FencedError: As `recover` does.
    """
    left = desk.store.brackets.of(desk.cluster)
    if left is None:
        return
    journal = desk.store.journal
    recover(desk.charge)
    if journal.open_runs(desk.cluster):
        return  # we are asked to stop: the next start goes on with it
    if desk.hooks.after_run:
        run = next((one for one in journal.runs(desk.cluster) if one.plan == left.plan), None)
        states = [] if run is None else [move.state for move in journal.moves(run.id)]
        outcome = _outcome(INTERRUPTED, states)
        _hook_after(desk.of(plan=left.plan), {**left.variables, **outcome}, beat=desk.stop.beat)
    else:
        desk.store.brackets.close(desk.lease)


def _variables(desk: Desk, plan: Plan) -> dict[str, str]:
    hosts = sorted({host for each in plan.migrations for host in (each.source, each.target)})
    return {
        "BALANCER_CLUSTER": desk.cluster,
        "BALANCER_PLAN": plan.id,
        "BALANCER_MIGRATIONS": str(len(plan.migrations)),
        "BALANCER_HOSTS": ",".join(hosts),
    }


def _outcome(end: str, states: Sequence[MigrationState]) -> dict[str, str]:
    return {
        "BALANCER_END": end,
        "BALANCER_DONE": str(states.count(MigrationState.DONE)),
        "BALANCER_FAILED": str(states.count(MigrationState.FAILED)),
    }


def _hook_after(
    desk: Desk, variables: Mapping[str, str], *, beat: Callable[[], object] | None = None
) -> None:
    """Run the hook after a run; only then the run is behind us."""
    _hook(desk, "after_run", variables, beat=beat)
    desk.store.brackets.close(desk.lease)


def _hook(
    desk: Desk,
    name: str,
    variables: Mapping[str, str],
    *,
    beat: Callable[[], object] | None = None,
) -> HookResult:
    command = desk.hooks.before_run if name == "before_run" else desk.hooks.after_run
    said = {"BALANCER_HOOK": name, **variables}
    result = run_hook(command, said, desk.hooks.timeout, beat=beat or desk.stop)
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
    late_s: float = 0.0,
    max_migrations: int | None = None,
    may_start: MayStart | None = None,
    on_plan: Callable[[Plan], None] = lambda _: None,
) -> Cycle:
    """Run one cycle as far as `mode` lets it go, and tell about it.

    `late_s` is how long ago it was due.

    Raises:
        BalancerError: What stopped it; told as well.
    """
    began = desk.clock.now()
    desk = desk.of(cycle=cycle_id(desk.cluster, began))
    desk.tell(EventKind.CYCLE_STARTED, data={"trigger": trigger, "late_s": late_s})
    try:
        cycled = run_cycle(
            desk.charge,
            mode,
            max_migrations=max_migrations,
            may_start=may_start,
            unattended=trigger == SCHEDULE,
            watcher=_Herald(desk, on_plan),
        )
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


def ended(cycled: Cycle) -> Ended:
    """Return how a cycle that somebody asked for ended."""
    if cycled.report is not None:
        return Ended(exit_code(cycled.report.end), cycled.report.end.value)
    if (held := cycled.held) is not None:
        text = f"nothing is moved: {held.cause}\n  remedy: {held.remedy}"
        return Ended(ExitCode.ANSWER_IS_NO, text, refused=True)
    infeasible = cycled.plan is not None and cycled.plan.status is Status.INFEASIBLE
    code = ExitCode.ANSWER_IS_NO if infeasible else ExitCode.DONE
    return Ended(ExitCode.INTERRUPTED if cycled.result == "stopped" else code, cycled.result)
