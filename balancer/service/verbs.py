"""What can be asked of whoever holds a cluster's lease, and how each is carried out.

A verb that pre-empts ends the rebalance that runs: nothing more of it begins, and once what moves
has arrived the verb has its turn. A verb that resumes goes on after a restart; of the others the
next start says how far they came.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from balancer.errors import ExitCode, InputError, RefusedError
from balancer.execute.executor import exit_code
from balancer.execute.window import MayStart, anytime
from balancer.formats.plan import parse_plan
from balancer.model.plan import Plan
from balancer.policy.policy import Mode, Policy
from balancer.service.desk import Desk, Ended, carry_out, cycle, ended
from balancer.service.events import EventKind
from balancer.service.maintenance import serve_drain, serve_resume
from balancer.service.rolling import ROLLING, serve_rolling
from balancer.store.requests import Request
from balancer.store.standing import Approval, Verdict
from balancer.store.store import Store


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: what carries it out, and how it gets on with others."""

    serve: Callable[[Desk, Request], Ended]
    preempts: bool = False
    resumes: bool = False


def stored_plan(store: Store, plan: str) -> Plan:
    """Return a plan that was kept.

    Raises:
        InputError: There is none with this id.
    """
    return parse_plan(store.plans.get(plan).document, f"plan {plan}")


def check_approvable(plan: Plan, approval: Approval | None, policy: Policy) -> None:
    """Refuse to approve, or to carry out as approved, a plan that something speaks against.

    Raises:
        RefusedError: It was rejected.
        InputError: It was made by another policy than the one in force.
    """
    if approval is not None and approval.verdict is Verdict.REJECTED:
        raise RefusedError(
            f"plan {plan.id} was rejected by {approval.by}: {approval.reason or 'no reason given'}",
            remedy="wait for the next plan, or make one: `balancer plan`",
        )
    if plan.policy_sha256 != policy.sha256:
        raise InputError(
            f"plan {plan.id} was made by another policy than the one in force now",
            remedy="approve the next plan, which goes by the present policy",
        )


def _may_start(request: Request) -> MayStart | None:
    return anytime if request.arguments.get("anytime") else None


def _count(request: Request, key: str) -> int | None:
    value: Any = request.arguments.get(key)
    return value if isinstance(value, int) else None


def _apply(desk: Desk, request: Request) -> Ended:
    """Execute the plan that was named, or a new one."""
    cap = _count(request, "max_migrations")
    if name := request.arguments.get("plan"):
        plan = stored_plan(desk.store, str(name))
        _followed(desk, request, plan)
        report = carry_out(
            desk,
            plan,
            max_migrations=cap,
            may_start=_may_start(request),
            by_hand=request.verb == "move",
        )
        return Ended(exit_code(report.end), report.end.value)
    return ended(
        cycle(
            desk,
            Mode.AUTO,
            trigger="request",
            max_migrations=cap,
            may_start=_may_start(request),
            on_plan=lambda plan: _followed(desk, request, plan),
        )
    )


def _followed(desk: Desk, request: Request, plan: Plan) -> None:
    desk.store.requests.planned(desk.lease, request.id, plan.id)


def _approve(desk: Desk, request: Request) -> Ended:
    """Execute a plan that somebody has approved."""
    plan = stored_plan(desk.store, str(request.arguments.get("plan", "")))
    approval = desk.store.approvals.of(plan.id)
    if approval is None:
        raise RefusedError(f"nobody has approved plan {plan.id}", remedy="`balancer approve`")
    check_approvable(plan, approval, desk.policy)
    _followed(desk, request, plan)
    told = desk.tell.of(plan=plan.id)
    told(EventKind.PLAN_APPROVED, f"approved by {approval.by}", data={"by": approval.by})
    report = carry_out(desk, plan, may_start=_may_start(request))
    return Ended(exit_code(report.end), report.end.value)


def _cancel(desk: Desk, request: Request) -> Ended:
    """Answer a cancellation that finds nothing to cancel: what runs takes it by itself."""
    del desk, request
    return Ended(ExitCode.DONE, "nothing is running")


VERBS: dict[str, Verb] = {
    "apply": Verb(_apply),
    "approve": Verb(_approve),
    "cancel": Verb(_cancel),
    "drain": Verb(serve_drain, preempts=True, resumes=True),
    "move": Verb(_apply),
    "resume": Verb(serve_resume),
    ROLLING: Verb(serve_rolling, preempts=True, resumes=True),
}
