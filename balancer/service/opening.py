"""Opening the store of a service: a database server that is not there yet is waited for.

So is a clock that is not set yet, as after the start of a machine.
"""

from __future__ import annotations

from collections.abc import Callable

from balancer.clock import Clock
from balancer.errors import RefusedError
from balancer.service.events import Event, EventKind
from balancer.service.log import log_event
from balancer.service.readiness import Manager
from balancer.store.address import Address
from balancer.store.faults import StoreUnreachableError
from balancer.store.store import Store

# A start waits so long for its database; then the service manager starts us again, for ever.
WAIT_S, AGAIN_S = 600.0, 10.0
MORE_TIME_S = 40.0
# Workers on several machines time each other's leases out, and a lease lasts a minute.
CLOCK_OFF_MAX_S = 15.0


def opened(
    address: Address, manager: Manager, clock: Clock, told_to_stop: Callable[[float], bool]
) -> Store | None:
    """Open the store; under a service manager wait for its server. None if told to stop meanwhile.

    `told_to_stop` waits for up to so many seconds.

    Raises:
        StoreUnreachableError: The server does not answer, or does not let us log in.
        UnusableStoreError: What is there is no store of ours.
        RefusedError: Our clock and the server's do not agree.
    """
    until_s = clock.monotonic_s() + (WAIT_S if manager.listens else 0.0)
    while True:
        try:
            return _opened(address, clock)
        except (StoreUnreachableError, RefusedError) as error:
            if clock.monotonic_s() >= until_s:
                raise
            # Nobody listens to events yet.
            log_event(Event(clock.now(), EventKind.STORE_FAILED, text=error.message))
            manager.status(f"waiting for the database: {error.message}")
            manager.patience(MORE_TIME_S)
        if told_to_stop(AGAIN_S):
            return None


def _opened(address: Address, clock: Clock) -> Store:
    store = Store.open(address)
    ahead_s = store.ahead_s(clock)
    if abs(ahead_s) > CLOCK_OFF_MAX_S:
        store.close()
        raise RefusedError(
            f"this machine's clock is {ahead_s:.0f} s ahead of the database server's",
            remedy="have both set by the same time service: leases end by their clocks",
        )
    return store
