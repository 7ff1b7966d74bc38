"""Being the executor of a cluster: the lease in the store, and the same lease in the cluster.

Two executors with one store are kept apart by the store, two with a store each by a text that the
cluster keeps: "holder|fence|expires", and "|ended" once its holder has let go. It is written by
compare and set, and our number is raised above the highest that any host has seen. Until that is
there we may read but not act.

Both are kept by the thread that acts: at every poll, and every few seconds while it waits for
hosts (`gather.while_waiting`), of which several may hang at once, each until its deadline. A
thread that is stuck for good keeps nothing, nor does one that was told of a newer executor.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from balancer.clock import Clock
from balancer.errors import HeldError, UnreachableError
from balancer.gateway.control import Control, ControlName
from balancer.gateway.gather import while_waiting
from balancer.gateway.port import FencedError, Gateway, ReplyLostError
from balancer.store.faults import StoreError
from balancer.store.leases import LEASE_TTL_S, Lease, LeaseLostError, holder_name
from balancer.store.standing import SILENT
from balancer.store.store import Store

RENEW_SHARE = 1 / 3
EARLY_SHARE = 1 / 4  # by whoever renews many at once, before each does by itself
# The cluster's own copy is renewed less often: each time is a call to a node. Another executor
# with a store of its own waits so long for one that died; one with the same store need not.
CLUSTER_TTL_S = 180.0
OVERDUE_SHARE = 2 / 3  # of its life after which whoever waits has it renewed beside
_ENDED = "|ended"


@dataclass(frozen=True, slots=True)
class Written:
    """A lease as the cluster keeps it. There is no "|" in a holder's name.

    One that has ended keeps nobody out. It stays there to tell a store that is restored its age.
    """

    holder: str
    fence: int
    expires_at: datetime
    ended: bool = False

    def __str__(self) -> str:
        text = f"{self.holder}|{self.fence}|{self.expires_at.isoformat()}"
        return text + _ENDED * self.ended

    @property
    def written_at(self) -> datetime:
        """Return when it was written."""
        return self.expires_at - timedelta(seconds=0 if self.ended else CLUSTER_TTL_S)


def read_written(text: str) -> Written | None:
    """Return the lease that a text says, or None for what we did not write."""
    holder, _, rest = text.partition("|")
    fence, _, rest = rest.partition("|")
    expires = rest.removesuffix(_ENDED)
    try:
        until = datetime.fromisoformat(expires).astimezone(UTC)
        return Written(holder, int(fence), until, ended=expires != rest)
    except ValueError:
        return None


def in_a_thread(act: Callable[[], None]) -> None:
    """Have something done that may wait for hosts, without waiting for it."""
    threading.Thread(target=act, name="lease in the cluster", daemon=True).start()


class Tenure:
    """Our hold on one cluster; safe for use by several threads."""

    def __init__(
        self,
        cluster: str,
        store: Store,
        gateway: Gateway,
        clock: Clock,
        *,
        serves: bool = False,
        holder: str = "",
        aside: Callable[[Callable[[], None]], None] = in_a_thread,
    ) -> None:
        self.cluster = cluster
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._serves = serves
        self._holder = holder or holder_name()
        self._store_name = self._name = ""  # as the cluster has it; the store tells with a lease
        self._aside = aside
        self._lock = threading.RLock()
        self._writing = threading.Lock()  # into the cluster; not waited for
        self._lease: Lease | None = None
        self._written = ""  # what the cluster holds of ours
        self._tried = 0  # the tenure we last wrote under, whether or not it arrived
        self._noted = 0  # the number in the cluster, once the store knows of it
        self._renewed_s = self._written_s = 0.0

    @property
    def lease(self) -> Lease | None:
        """Return the lease in the store, if we have it."""
        return self._lease

    @property
    def confirmed(self) -> bool:
        """Tell whether the cluster knows that it is us who may act."""
        return self._lease is not None and bool(self._written)

    def follow(self, gateway: Gateway) -> None:
        """Use another gateway from here on."""
        with self._lock:
            self._gateway = gateway

    def take(self) -> Lease:
        """Take the lease in the store unless we have it.

        Raises:
            HeldError: Somebody else has it.
        """
        with self._lock:
            return self._lease or self._acquire(above=0)

    def _acquire(self, above: int) -> Lease:
        now = self._clock.now()
        if not self._store_name:
            self._store_name = f" of store {self._store.marks.identity(now)}"
            self._name = (self._holder + self._store_name).replace("|", " ")
        self._lease = lease = self._store.leases.acquire(
            self.cluster, self._holder, LEASE_TTL_S, now, serves=self._serves, above=above
        )
        self._renewed_s = self._clock.monotonic_s()
        self._written = ""
        return lease

    def confirm(self) -> Lease:
        """Write the lease into the cluster unless it is there; return the lease.

        Raises:
            HeldError: An executor with another store has the cluster; ours is let go.
            UnreachableError: The cluster does not answer; the lease in the store stays ours.
        """
        with self._lock:
            lease = self.take()
            if self._written:
                return lease
            control = self._gateway.read_control()
            self._refuse_other(control, lease)
            self._note_forgotten(control, lease)
            if control.fence >= lease.fence:
                self._store.leases.release(lease)
                lease = self._acquire(above=control.fence)
            try:
                self._write(control.lease, lease)
            except FencedError:
                self._let_go()
                raise
            return lease

    def _refuse_other(self, control: Control, lease: Lease) -> None:
        other = read_written(control.lease)
        if other is None or other.ended or other.expires_at <= self._clock.now():
            return
        # One with our store, whose lease there is ours now, was put out by that. One with a copy of
        # our store has the same name for it, but our store knows nothing of what it wrote.
        same = other.holder.endswith(self._store_name) and other.fence <= lease.written
        if same or self._is_mine(other, lease):
            return
        self._let_go()
        seconds = (other.expires_at - self._clock.now()).total_seconds()
        raise HeldError(
            f"cluster {self.cluster} is held by {other.holder}, which has another store",
            remedy=f"run one of the two; if it died, its hold ends in {seconds:.0f} s",
        )

    def _note_forgotten(self, control: Control, lease: Lease) -> None:
        """Take note that our store knows less than it did: it was restored, if only minutes later.

        Whoever writes into the cluster has renewed in the store right before. What was written in
        the future tells nothing: a clock was set back.
        """
        other = read_written(control.lease)
        if other is None or lease.after is None or self._is_mine(other, lease):
            return
        is_later = lease.after < other.written_at <= self._clock.now()
        if is_later and other.holder.endswith(self._store_name):
            self._store.marks.set(self.cluster, SILENT, lease.after)

    def _is_mine(self, other: Written, lease: Lease) -> bool:
        """Tell whether we wrote it under this lease; who has another may have our name as well."""
        ours = other.holder == self._name and self._tried == lease.tenure
        return ours and lease.tenure <= other.fence <= lease.fence

    def _write(self, expected: str, lease: Lease) -> None:
        """Compare and set; who loses lets go."""
        began_s, expires = self._clock.monotonic_s(), self._clock.now()
        expires += timedelta(seconds=CLUSTER_TTL_S)
        text = str(Written(self._name, lease.fence, expires))
        self._tried = lease.tenure
        try:
            found = self._set(expected, text, lease)
        except ReplyLostError as error:
            raise UnreachableError(error.message, remedy=error.remedy) from error
        if found != text:
            self._let_go()
            raise HeldError(
                f"cluster {self.cluster} was taken by another executor at the same moment",
                remedy="run one of the two",
            )
        with self._lock:
            if self._lease is None:
                return
            if self._noted != lease.fence:
                self._store.leases.wrote(lease)
                self._noted = lease.fence
            self._written, self._written_s = text, began_s

    def _set(self, expected: str, text: str, lease: Lease) -> str:
        """Write over `expected`, or over what we wrote ourselves when a reply got lost."""
        found = self._gateway.write_control(ControlName.LEASE, expected, text, lease.fence)
        other = None if found == text else read_written(found)
        if other is not None and self._is_mine(other, lease):
            found = self._gateway.write_control(ControlName.LEASE, found, text, lease.fence)
        return found

    def keep(self) -> None:
        """Renew what is due.

        Raises:
            LeaseLostError: A newer executor has the cluster, by the store or by the cluster.
        """
        with self._lock:
            self._renew()
        if self._is_due(RENEW_SHARE):
            self._keep_written()

    def beat(self) -> None:
        """Renew what is due, without waiting for anybody; who has lost the cluster finds out later.

        For the thread that acts, while it waits for hosts.
        """
        with contextlib.suppress(HeldError, StoreError):
            self.keep_in_store()
        if self._is_due(OVERDUE_SHARE) and not self._writing.locked():
            self._aside(self._keep_written_quietly)

    def almost_due(self) -> Lease | None:
        """Return our lease if it is to be renewed before long; None while somebody is at it.

        For a thread that renews those of many clusters at once, and tells each by `renewed`.
        """
        age_s = self._clock.monotonic_s() - self._renewed_s
        return self._lease if age_s >= LEASE_TTL_S * EARLY_SHARE else None

    def renewed(self, lease: Lease, at_s: float) -> None:
        """Take note that this very lease was renewed in the store, begun `at_s` by our clock."""
        if not self._lock.acquire(blocking=False):
            return  # whoever is at it renews by itself, should that be due
        try:
            if self._lease is not None and self._lease.tenure == lease.tenure:
                self._renewed_s = max(self._renewed_s, at_s)
        finally:
            self._lock.release()

    def keep_in_store(self) -> None:
        """Renew in the store alone, unless somebody is at it: never waits for the cluster.

        For a thread that keeps the leases of many clusters while their loops are busy.

        Raises:
            LeaseLostError: A newer executor has the cluster.
        """
        if not self._lock.acquire(blocking=False):
            return
        try:
            self._renew()
        finally:
            self._lock.release()

    def _renew(self, *, at_once: bool = False) -> None:
        now_s = self._clock.monotonic_s()
        due = at_once or now_s - self._renewed_s >= LEASE_TTL_S * RENEW_SHARE
        if self._lease is None or not due:
            return
        try:
            self._lease = self._store.leases.renew(self._lease, self._clock.now())
        except LeaseLostError:
            self._lease, self._written = None, ""
            raise
        self._renewed_s = now_s

    def _is_due(self, share: float) -> bool:
        """Tell whether that much of the life of what the cluster holds of ours is over."""
        elapsed_s = self._clock.monotonic_s() - self._written_s
        return self.confirmed and elapsed_s >= CLUSTER_TTL_S * share

    def _keep_written(self) -> None:
        """Renew what the cluster holds, unless another thread is at it."""
        if not self._writing.acquire(blocking=False):
            return
        try:
            self._rewrite()
        except UnreachableError:
            return  # the fence keeps others out, and what cannot be reached cannot be moved
        except LeaseLostError:
            raise
        except HeldError as error:
            raise LeaseLostError(error.message, remedy=error.remedy) from error
        finally:
            self._writing.release()

    def _rewrite(self) -> None:
        """Write with our number of now: lost replies raise it, perhaps at this very moment."""
        turned_away = -1
        while (lease := self._renewed_now()) is not None and self._written:
            try:
                self._write(self._written, lease)
            except FencedError:
                if lease.fence == turned_away:
                    self._let_go()
                    raise
                turned_away = lease.fence
            else:
                return

    def _renewed_now(self) -> Lease | None:
        with self._lock:
            self._renew(at_once=True)
            return self._lease

    def _keep_written_quietly(self) -> None:
        with contextlib.suppress(HeldError, StoreError):
            self._keep_written()

    def release(self) -> None:
        """Let go, in the cluster as well if it answers."""
        with self._lock:
            lease, written = self._lease, self._written
            if lease is not None and written:
                with contextlib.suppress(HeldError, ReplyLostError, StoreError, UnreachableError):
                    self._renew(at_once=True)
                    lease = self._lease or lease
                    ended = Written(self._name, lease.fence, self._clock.now(), ended=True)
                    self._set(written, str(ended), lease)
            self._let_go()

    def _let_go(self) -> None:
        lease, self._lease, self._written = self._lease, None, ""
        if lease is not None:
            with contextlib.suppress(StoreError):
                self._store.leases.release(lease)


@contextmanager
def holding(
    cluster: str,
    store: Store,
    gateway: Gateway,
    clock: Clock,
    *,
    aside: Callable[[Callable[[], None]], None] = in_a_thread,
) -> Iterator[Tenure]:
    """Be the executor of a cluster for the duration of a with-block, as a command is.

    Raises:
        HeldError: Somebody else is.
        UnreachableError: The cluster does not answer.
    """
    tenure = Tenure(cluster, store, gateway, clock, aside=aside)
    tenure.confirm()
    try:
        with while_waiting(tenure.beat):
            yield tenure
    finally:
        tenure.release()
