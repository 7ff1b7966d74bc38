"""A cluster in our charge: what acting on it takes, whatever is done."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from balancer.clock import Clock
from balancer.execute.context import Context
from balancer.execute.progress import OnInterrupt, OnProgress, never, silent
from balancer.execute.window import MayStart, anytime
from balancer.gateway.port import Gateway
from balancer.policy.policy import Policy
from balancer.store.leases import Lease
from balancer.store.store import Store


def finish() -> OnInterrupt:
    """Have migrations in flight seen to their end."""
    return OnInterrupt.FINISH


@dataclass(frozen=True, slots=True)
class Charge:
    """One cluster, the one that `lease` is for, and all that acting on it takes.

    Attributes:
        interrupted: Tells whether to begin nothing more.
        on_progress: Told of every look, with the news since the last.
        on_interrupt: Tells what becomes of migrations in flight once it is interrupted.
        poll_s: Seconds between looks at what is in flight.
        turn: What to be within while planning, where other clusters plan as well.
    """

    policy: Policy
    gateway: Gateway
    store: Store
    clock: Clock
    lease: Lease
    interrupted: Callable[[], bool] = never
    on_progress: OnProgress = silent
    on_interrupt: Callable[[], OnInterrupt] = finish
    poll_s: float = 2.0
    turn: Callable[[], AbstractContextManager[None]] = nullcontext

    def context(self, may_start: MayStart = anytime) -> Context:
        """Return the context of an executor that begins now."""
        return Context(self.gateway, self.store, self.clock, self.lease, may_start)
