"""One cluster, for as long as the daemon runs: read, balance, serve requests, each when it is due.

`turn` does what is due and says how soon it wants to be called again. It is a plain method on a
clock, so that days of it pass in a test in seconds; only `LoopThread` knows of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from balancer.clock import Clock
from balancer.config import ClusterPart, ServicePart
from balancer.cycle import Cycle
from balancer.errors import (
    BalancerError,
    ExitCode,
    HeldError,
    RefusedError,
    UnreachableError,
)
from balancer.execute.progress import OnInterrupt, Progress
from balancer.execute.recover import recover
from balancer.execute.tenure import Tenure
from balancer.gateway.gather import while_waiting
from balancer.gateway.port import FencedError, Gateway, Observation, ReplyLostError
from balancer.policy.policy import Mode, Policy
from balancer.service.asked import Asked
from balancer.service.desk import SCHEDULE, Desk, cycle, end_left
from balancer.service.events import Bus, EventKind, Value
from balancer.service.holding import Holding
from balancer.service.memory import Memory
from balancer.service.pending import Pending
from balancer.service.ramp import cap
from balancer.service.rolling import goes_on
from balancer.service.schedule import Schedule
from balancer.service.sight import Sight
from balancer.service.stop import AbandonedError, Reason, Stop
from balancer.service.telling import Teller
from balancer.service.timetable import first_due
from balancer.service.verbs import VERBS, Verb
from balancer.store.faults import StoreError
from balancer.store.leases import Lease, LeaseLostError
from balancer.store.requests import Request
from balancer.store.store import Store

CYCLED = "cycled"  # the mark that tells when the last cycle began
STANDBY_S = 10.0  # between attempts to become the executor
TROUBLE_S = 30.0  # after the store or the cluster failed us
HELD_AGAIN_S = 60.0  # after a cycle that others who act keep from acting for a while
IDLE_S = 20.0  # the longest rest: the lease is to be renewed
CAMPAIGN_EVERY_S = 60.0  # between looks whether a campaign may go on
STEP = timedelta(seconds=5)  # back: more than a clock that is being disciplined
_IN_A_MOMENT = 0.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What the configuration says about one cluster, read and checked."""

    part: ClusterPart
    service: ServicePart
    policy: Policy
    schedule: Schedule
    connect: Callable[[], Gateway]
    login: str | None = field(default=None, repr=False)  # the password, to notice another one

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self.part.name


class Stopping:
    """Whether the whole service is to stop: not, as configured, or at once."""

    def __init__(self) -> None:
        self.how: OnInterrupt | None = None
        self.abandon = False


class ClusterLoop:
    """The life of one cluster in the daemon."""

    def __init__(
        self,
        setup: Setup,
        store: Store,
        clock: Clock,
        bus: Bus,
        *,
        stopping: Stopping | None = None,
        verbs: dict[str, Verb] | None = None,
        poll_s: float = 2.0,
        idle_s: float = IDLE_S,
    ) -> None:
        self.setup = setup
        self.stopping = stopping or Stopping()
        self.beat_s = clock.monotonic_s()
        self.busy_with = ""
        self._next_setup: Setup | None = None
        self._store, self._clock = store, clock
        self._poll_s, self._idle_s = poll_s, idle_s
        self._tell = Teller(bus, clock, setup.name)
        self._gateway = setup.connect()
        self._tenure = Tenure(setup.name, store, self._gateway, clock, serves=True)
        self._memory = self._made_memory()
        self._sight = Sight(store, clock, self._tell, self._memory)
        self._pending = Pending(store, clock, self._tell, self._memory)
        self._holding = Holding(self._tell)
        self._asked = Asked(store, clock, self._tell, VERBS if verbs is None else verbs)
        self._started = self._seen_at = clock.now()
        self._standing_by_for = ""
        self._recovered = False
        self._cycle_at: datetime | None = None
        self._scheduled_at: datetime | None = None  # when another schedule came into force
        self._sample_at = setup.schedule.first_sample(self._started)
        self._campaign_at = self._started

    @property
    def name(self) -> str:
        """Return the cluster's name."""
        return self.setup.name

    @property
    def leads(self) -> bool:
        """Tell whether we are the cluster's executor."""
        return self._tenure.confirmed

    def _made_memory(self) -> Memory:
        """Return what keeps each change from being told twice: of a daemon, by itself alone."""
        return Memory(self.name)

    def replace(self, setup: Setup) -> None:
        """Go by another setup from the next turn on."""
        self._next_setup = setup

    def to_renew(self, silent_max_s: float) -> Lease | None:
        """Return the lease if another thread should renew it now, while a turn takes long.

        Not for a turn without a sign of life for so long: whoever stands by shall have the cluster.
        """
        silent_s = self._clock.monotonic_s() - self.beat_s
        return self._tenure.almost_due() if silent_s <= silent_max_s else None

    def renewed(self, lease: Lease, at_s: float) -> None:
        """Take note that the lease was renewed in the store, begun `at_s` by the clock."""
        self._tenure.renewed(lease, at_s)

    def failed(self, error: Exception) -> None:
        """Tell of what should not have happened."""
        text = f"internal error: {type(error).__name__}: {error}"
        self._tell(EventKind.CYCLE_FAILED, text, data={"exit_code": int(ExitCode.OUR_FAULT)})

    def close(self) -> None:
        """Let go of the cluster."""
        self._tenure.release()
        self._gateway.close()

    def turn(self) -> float:
        """Do what is due, and return in how many seconds something is due again."""
        self._beat()
        try:
            with while_waiting(self._wait):
                return self._turn()
        except (FencedError, LeaseLostError) as error:
            self._recovered = False
            self._tenure.release()
            self._tell(EventKind.LEASE_LOST, error.message)
            return STANDBY_S
        except StoreError as error:
            self._recovered = False  # what was cut off is brought to an end first
            self._tell(EventKind.STORE_FAILED, error.message)
            return TROUBLE_S
        except RefusedError as error:  # what was left is not as it should be; told once
            data: dict[str, Value] = {"exit_code": int(error.exit_code)}
            self._tell(EventKind.CYCLE_FAILED, str(error), data=data)
            return TROUBLE_S
        finally:
            self.busy_with = ""
            self._beat()

    def _turn(self) -> float:
        self._follow_setup()
        self._follow_clock()
        lease = self._lead()
        if lease is None:
            return STANDBY_S
        if not self._tenure.confirmed:
            self._sample_if_due()
            return TROUBLE_S
        if not self._recovered:
            self._recover(lease)
        self._sight.look_at_freeze(None)
        self._pending.follow()
        if self.stopping.how is None and (request := self._asked.next(lease)) is not None:
            self._serve(request, lease)
            return _IN_A_MOMENT
        if self._campaign_is_due():
            return _IN_A_MOMENT
        if self._cycle_at is not None and self._clock.now() >= self._cycle_at:
            self._cycle(lease)
        self._sample_if_due()
        return self._rest_s()

    def _follow_setup(self) -> None:
        setup, self._next_setup = self._next_setup, None
        if setup is None:
            return
        before, self.setup = self.setup, setup
        if (setup.part, setup.login) != (before.part, before.login):
            old, self._gateway = self._gateway, setup.connect()
            self._tenure.follow(self._gateway)
            old.close()
        if setup.part.schedule != before.part.schedule:
            self._scheduled_at = self._clock.now()
        self._cycle_at = self._first_cycle() if self._recovered else None

    def _follow_clock(self) -> None:
        """Take up the schedule anew once the machine's clock was set back: what is due is not."""
        now, before = self._clock.now(), self._seen_at
        self._seen_at = now
        if before - now < STEP:
            return
        self._started = min(self._started, now)
        self._sample_at = now
        if self._recovered:
            self._cycle_at = self._first_cycle()

    # Who acts

    def _lead(self) -> Lease | None:
        """Return our lease, taken now if need be; None while somebody else has it."""
        try:
            self._tenure.keep()
            if self._tenure.confirmed:
                return self._tenure.lease
            self._tenure.take()
            try:
                lease = self._tenure.confirm()
            except UnreachableError:
                return self._tenure.lease  # we may read, and try again
        except LeaseLostError:
            raise
        except HeldError as error:
            if error.message != self._standing_by_for:
                self._standing_by_for = error.message
                self._tell(EventKind.STANDING_BY, error.message, data={"holder": error.message})
            return None
        self._standing_by_for, self._recovered = "", False
        self._tell_of(lease)
        return lease

    def _tell_of(self, lease: Lease) -> None:
        text = "this executor acts on the cluster from here on"
        self._tell(EventKind.LEASE_TAKEN, text, data={"fence": lease.fence})

    def _recover(self, lease: Lease) -> None:
        """Bring to an end what an earlier executor left, then take up the schedule."""
        self.busy_with = "bringing to an end what was left"
        desk = self._desk(lease, None)
        recover(desk.charge)
        end_left(desk)
        for request in self._asked.left(lease):
            self._serve(request, lease)
        self._cycle_at = self._first_cycle()
        self._recovered = True

    def _first_cycle(self) -> datetime | None:
        not_before = self._started + timedelta(seconds=self.setup.service.start_delay)
        last = self._store.marks.get(self.name, CYCLED)
        since = self._scheduled_at or (self._started if last is None else None)
        due = first_due(
            self.setup.schedule,
            self.setup.policy.calendar,
            self._store.marks,
            self._tell,
            self._clock.now(),
            last,
            not_before,
            since=since,
        )
        return due and max(due, not_before)

    # Reading

    def _sample_if_due(self) -> None:
        if self._clock.now() < self._sample_at:
            return
        before, self.busy_with = self.busy_with, "reading"
        began_s = self._clock.monotonic_s()
        self._put_off_sample()
        try:
            seen = self._gateway.observe()
        except (UnreachableError, ReplyLostError) as error:
            self._tell(EventKind.SAMPLE_FAILED, error.message)
            return
        finally:
            self.busy_with = before  # a run may go on
        self._sight.sampled(seen, self._clock.monotonic_s() - began_s)

    def _put_off_sample(self) -> None:
        self._sample_at = self.setup.schedule.next_sample(self._clock.now())

    def _seen(self, seen: Observation) -> None:
        """Take note of a reading that a cycle took: it is a sample like any other."""
        self._sight.noted(seen, 0.0)
        self._put_off_sample()

    def _progress(self, progress: Progress) -> None:
        del progress
        self._beat()
        self._sample_if_due()

    # Cycles

    def _cycle(self, lease: Lease) -> None:
        due = self._cycle_at or self._clock.now()
        began = self._clock.now()
        waits = False
        try:
            if why := self._why_not():
                self._tell(EventKind.CYCLE_SKIPPED, why[1], data={"why": why[0]})
                return
            self._store.marks.set(self.name, CYCLED, began)
            held = self._run_cycle(lease, (began - due).total_seconds()).held
            self._holding.noted(held)
            waits = held is not None and held.passes
        except (FencedError, LeaseLostError, StoreError, AbandonedError):
            raise
        except BalancerError:
            return  # told; the next one is due in its time
        finally:
            now = self._clock.now()
            again = self.setup.schedule.next_after(max(due, began), now)
            soon = now + timedelta(seconds=HELD_AGAIN_S)
            self._cycle_at = min(again or soon, soon) if waits else again

    def _run_cycle(self, lease: Lease, late_s: float) -> Cycle:
        self.busy_with = "balancing"
        mode = self._mode()
        is_auto = mode is Mode.AUTO
        desk = self._desk(lease, None)
        first_run = self.setup.service.auto.first_run
        most = cap(self._store.journal, self.name, first_run) if is_auto else None
        cycled = cycle(desk, mode, trigger=SCHEDULE, late_s=late_s, max_migrations=most)
        self._mode()  # tells at once if this run was one too many
        if cycled.result == "recommended" and cycled.plan is not None:
            self._pending.waits(cycled.plan)
        if cycled.plan is not None:
            self._memory.note(unresolved=len(cycled.plan.unresolved))
        return cycled

    def _mode(self) -> Mode:
        """Return what the policy says, or less after too many runs that failed."""
        mode = self.setup.policy.mode
        breaker = self._store.breakers.of(self.name) if mode is Mode.AUTO else None
        is_cautious = self._holding.cautious(breaker, self._clock.now())
        return Mode.RECOMMEND if is_cautious else mode

    def _why_not(self) -> tuple[str, str] | None:
        """Return a word and a sentence on why no cycle begins now."""
        if self.stopping.how is not None:
            return "interrupted", "the service stops"
        if frozen := self._sight.still_frozen(self._gateway):
            return "frozen", frozen
        policy, now = self.setup.policy, self._clock.now()
        if policy.mode is not Mode.AUTO or policy.calendar.is_open(now):
            return None
        opens = policy.calendar.next_opening(now)
        when = "" if opens is None else f"; the next opens at {opens:%Y-%m-%d %H:%M} UTC"
        return "window", f"no window is open{when}"

    # Requests

    def _serve(self, request: Request, lease: Lease) -> None:
        self.busy_with = f"request {request.id}: {request.verb}"
        frozen = self._sight.still_frozen(self._gateway)
        self._asked.serve(request, self._desk(lease, request), frozen)

    def _campaign_is_due(self) -> bool:
        """Ask for the next turns of a campaign once its window has opened."""
        now = self._clock.now()
        if now < self._campaign_at or self.stopping.how is not None or self._sight.frozen:
            return False
        self._campaign_at = now + timedelta(seconds=CAMPAIGN_EVERY_S)
        return goes_on(self._store, self.name, self.setup.policy.calendar, now)

    # Stopping what is carried out

    def _desk(self, lease: Lease, request: Request | None) -> Desk:
        stop = Stop(self._clock, lambda: self._reasons(lease, request), self._beat)
        return Desk(
            cluster=self.name,
            policy=self.setup.policy,
            gateway=self._gateway,
            store=self._store,
            clock=self._clock,
            lease=lease,
            tell=self._tell,
            stop=stop,
            seen=self._seen,
            progress=self._progress,
            hooks=self.setup.part.hooks,
            poll_s=self._poll_s,
        )

    def _reasons(self, lease: Lease, request: Request | None) -> Iterator[Reason]:
        """Yield why what is being carried out should begin nothing more."""
        if self.stopping.abandon:
            raise AbandonedError("the service has to end; the next start takes over what moves")
        self._tenure.keep()
        if self.stopping.how is not None:
            yield Reason("interrupted", "the service stops", self.stopping.how)
        self._sight.look_at_freeze(self._gateway)
        if self._sight.frozen:
            yield Reason("frozen", self._sight.frozen)
        yield from self._asked.reasons(lease, request)

    # Time

    def _rest_s(self) -> float:
        now = self._clock.now()
        dues = [self._sample_at, *([self._cycle_at] if self._cycle_at else [])]
        if (expires_at := self._pending.expires_at) is not None:
            dues.append(expires_at)
        return min(self._idle_s, max(0.0, (min(dues) - now).total_seconds()))

    def _wait(self) -> None:
        """Keep what we have while hosts are waited for: each ends by its deadline."""
        self._beat()
        self._tenure.beat()

    def _beat(self) -> None:
        self.beat_s = self._clock.monotonic_s()
