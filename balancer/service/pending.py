"""The plan that was recommended and waits for an answer."""

from __future__ import annotations

from datetime import datetime

from balancer.clock import Clock
from balancer.errors import InputError
from balancer.formats.plan import parse_plan
from balancer.model.plan import Plan
from balancer.service.events import EventKind, Value
from balancer.service.memory import Memory
from balancer.service.telling import Teller
from balancer.store.standing import Verdict
from balancer.store.store import Store


class Pending:
    """Tells that a plan waits, and what becomes of it."""

    def __init__(self, store: Store, clock: Clock, tell: Teller, memory: Memory) -> None:
        self._store, self._clock, self._tell = store, clock, tell
        self._memory = memory
        self._plan: Plan | None = None

    @property
    def expires_at(self) -> datetime | None:
        """Return until when the plan waits; None if none does."""
        return None if self._plan is None else self._plan.expires_at

    def waits(self, plan: Plan) -> None:
        """Have a plan wait, in place of the one before."""
        self._plan = plan
        self._memory.note(pending=plan.id)
        many, until = len(plan.migrations), f"{plan.expires_at:%Y-%m-%d %H:%M} UTC"
        text = f"{many} migrations wait for `balancer approve {plan.id}` until {until}"
        data: dict[str, Value] = {"migrations": many, "expires_at": plan.expires_at.isoformat()}
        self._tell.of(plan=plan.id)(EventKind.APPROVAL_WANTED, text, data=data)

    def recall(self) -> None:
        """Go by what is remembered: another may have recommended a plan, or followed it up."""
        known = self._memory.known.pending
        if known == ("" if self._plan is None else self._plan.id):
            return
        self._plan = None
        if known:
            try:
                document = self._store.plans.get(known).document
            except InputError:
                self._memory.note(pending="")  # it was too old to be kept
            else:
                self._plan = parse_plan(document, f"plan {known}")

    def follow(self) -> None:
        """Tell what became of it."""
        plan = self._plan
        if plan is None:
            return
        approval = self._store.approvals.of(plan.id)
        told = self._tell.of(plan=plan.id)
        if approval is not None and approval.verdict is Verdict.REJECTED:
            text = f"rejected by {approval.by}: {approval.reason or 'no reason given'}"
            told(EventKind.PLAN_REJECTED, text, data={"by": approval.by})
        elif approval is None and self._clock.now() >= plan.expires_at:
            told(EventKind.PLAN_EXPIRED, "nobody answered within the plan's life")
        elif approval is None:
            return
        self._plan = None
        self._memory.note(pending="")
