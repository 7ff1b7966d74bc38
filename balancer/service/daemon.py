"""`balancer run` and `balancer worker`: all clusters in one process, for as long as it takes.

On a SQLite store each cluster has its loop here. On PostgreSQL `run` has each cluster's timetable
only, and asks for visits; a crew, here or in other processes, makes them.

The main thread only looks on: it takes signals, tells the service manager that all is in motion,
wakes loops that are asked for something, and renews leases while their loops are busy. Nothing it
does waits for a cluster, so one slow cluster delays no other.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from sqlalchemy.engine import URL

from balancer.clock import Clock, SystemClock
from balancer.errors import BalancerError, ExitCode, InputError
from balancer.execute.progress import OnInterrupt
from balancer.service import housekeeping
from balancer.service.events import Bus, EventKind
from balancer.service.heap import keep_small
from balancer.service.loop import ClusterLoop, Setup
from balancer.service.observability import Observability, set_up_logging, subscribe_all
from balancer.service.opening import opened
from balancer.service.readiness import Manager
from balancer.service.reload import Plant, difference, read_plant
from balancer.service.telling import Teller
from balancer.service.thread import LoopThread, Turning
from balancer.store.address import named, where
from balancer.store.store import Store

if TYPE_CHECKING:
    from balancer.service.fleet import Fleet

TICK_S = 1.0  # of the main thread
# With a thread a cluster, whoever only has to write a line should not wait long for one that
# computes: Python's own 5 ms, for each call into the database, add up to seconds.
SWITCH_S = 0.0005
# A loop that is silent for so long hangs: every call to a host has a deadline well below, and the
# planner and the executor ask at least as often whether to stop.
STUCK_S = 300.0
FAREWELL_S = 10.0  # for loops to end once they have been told to at once
MORE_TIME_S = 30.0  # asked of the service manager each tick of a stop
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(slots=True)
class _Watched:
    """A loop with its thread."""

    loop: Turning
    thread: LoopThread


def keep_leases(loops: Iterable[Turning], store: Store, clock: Clock) -> None:
    """Renew the leases that are almost due in one transaction: each by itself is ten a second.

    Raises:
        StoreError: The store failed at it.
    """
    due = {loop: lease for loop in loops if (lease := loop.to_renew(STUCK_S)) is not None}
    if not due:
        return
    began_s = clock.monotonic_s()
    ours = store.leases.renew_all(tuple(due.values()), clock.now())
    for loop, lease in due.items():
        if lease.cluster in ours:
            loop.renewed(lease, began_s)


class Daemon:
    """All that runs in the process. `run` returns when it has been told to stop."""

    def __init__(
        self,
        file: Path | None,
        only: str | None = None,
        clock: Clock | None = None,
        *,
        leads: bool = True,
        works: bool = False,
    ) -> None:
        """Run the clusters of the configuration in `file`, or only the one named `only`.

        It `leads` where it keeps the timetables, and `works` where it makes a fleet's visits.
        """
        self._leads, self._works = leads, works
        self._fleet: Fleet | None = None
        self._stuck: set[str] = set()
        self._file = file
        self._only = only
        self._clock = clock or SystemClock()
        self._manager = Manager()
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._bus = Bus()
        self._tell = Teller(self._bus, self._clock)
        self._watched: dict[str, _Watched] = {}
        self._leaving: list[_Watched] = []  # of clusters that are no longer configured
        self._over = threading.Event()

    def run(self) -> ExitCode:
        """Run until SIGTERM or SIGINT.

        Raises:
            InputError: Configuration, a policy or the store are missing or wrong.
        """
        keep_small()
        set_up_logging(self._clock)
        sys.setswitchinterval(SWITCH_S)
        plant = read_plant(self._file, self._clock, self._only)
        self._refuse_lonely(plant)
        with self._taking_signals():
            store = opened(plant.config.store, self._manager, self._clock, self._told_to_stop)
            if store is not None:
                with store:
                    self._run(plant, store)
        return ExitCode.DONE

    def _told_to_stop(self, wait_s: float) -> bool:
        return self._next_signal(wait_s) in (signal.SIGTERM, signal.SIGINT)

    def _run(self, plant: Plant, store: Store) -> None:
        set_up_logging(self._clock, level=plant.config.document.service.log_level)
        eyes = subscribe_all(self._bus, plant.config, store, self._clock, worker=not self._leads)
        self._plant = plant
        self._tell(EventKind.DAEMON_STARTED, f"configuration {plant.config.file}")
        try:
            self._join_fleet(plant, store)
            self._start(plant.setups.values(), store)
            aside = self._aside(store)
            self._tell(
                EventKind.DAEMON_READY,
                f"{len(plant.setups)} clusters",
                data={"clusters": len(plant.setups)},
            )
            self._manager.ready()  # last: who is told may ask /readyz at once
            self._live(store, eyes)
            self._stop()
            for thread in aside:
                thread.join(FAREWELL_S)
            self._tell(EventKind.DAEMON_STOPPED)
        finally:
            eyes.close()

    # Beginning

    def _refuse_lonely(self, plant: Plant) -> None:
        if self._works and not isinstance(plant.config.store, URL):
            raise InputError(
                f"workers share a store in PostgreSQL, and {plant.config.store} is a file",
                remedy="set store: postgresql://USER@HOST/DATABASE; with a file `balancer run` "
                "does everything itself",
            )

    def _join_fleet(self, plant: Plant, store: Store) -> None:
        url = plant.config.store
        if isinstance(url, URL):
            from balancer.service.fleet import Fleet  # noqa: PLC0415 -- needs the extra `fleet`

            self._fleet = Fleet(plant, store, url, self._clock, self._bus, works=self._works)

    def _loop(self, setup: Setup, store: Store) -> Turning:
        if self._fleet is not None:
            return self._fleet.dispatch(setup)
        return ClusterLoop(setup, store, self._clock, self._bus)

    def _start(self, setups: Iterable[Setup], store: Store) -> None:
        for setup in setups if self._leads else ():
            loop = self._loop(setup, store)
            watched = self._watched[setup.name] = _Watched(loop, LoopThread(loop))
            watched.thread.start()

    def _aside(self, store: Store) -> tuple[threading.Thread, ...]:
        """Start what works beside the loops."""
        works = {"leases": self._keep_leases}
        if self._leads:
            works["housekeeping"] = self._keep_house
        threads = tuple(
            threading.Thread(target=work, args=(store,), name=name, daemon=True)
            for name, work in works.items()
        )
        for thread in threads:
            thread.start()
        return threads

    def _keep_leases(self, store: Store) -> None:
        while not self._over.wait(TICK_S * 5):
            with contextlib.suppress(Exception):  # each loop finds out and tells; this goes on
                keep_leases(self._turning(), store, self._clock)

    def _turning(self) -> tuple[Turning, ...]:
        """Return what should show signs of life now."""
        visits = () if self._fleet is None else self._fleet.busy()
        return (*(watched.loop for watched in tuple(self._watched.values())), *visits)

    def _keep_house(self, store: Store) -> None:
        wait_s = housekeeping.FIRST_S
        while not self._over.wait(wait_s):
            retention = self._plant.config.document.service.retention
            try:
                housekeeping.tidy(store, retention, self._clock, self._tell, self._over.is_set)
            except BalancerError as error:
                self._tell(EventKind.STORE_FAILED, error.message)
            except Exception as error:  # noqa: BLE001 -- without it the store grows for ever
                text = f"internal error: {type(error).__name__}: {error}"
                self._tell(EventKind.STORE_FAILED, text)
            wait_s = housekeeping.EVERY_S

    # Living

    def _live(self, store: Store, eyes: Observability) -> None:
        """Look on until told to stop."""
        while (number := self._next_signal()) is None or number == signal.SIGHUP:
            if number == signal.SIGHUP:
                self._reload(store, eyes)
            if self._in_motion():
                self._manager.alive()
            self._wake_asked(store)
            self._leaving = [one for one in self._leaving if not one.thread.join(0.0)]
            self._manager.status(self._status())

    def _next_signal(self, wait_s: float | None = None) -> int | None:
        try:
            return self._signals.get(timeout=self._tick_s() if wait_s is None else wait_s)
        except queue.Empty:
            return None

    def _tick_s(self) -> float:
        watchdog_s = self._manager.watchdog_s
        return TICK_S if watchdog_s is None else min(TICK_S, watchdog_s / 4)

    def _in_motion(self) -> bool:
        """Tell whether every loop makes progress, and tell of one that has stopped to."""
        now_s = self._clock.monotonic_s()
        silent = {
            loop.name: (loop, now_s - loop.beat_s)
            for loop in self._turning()
            if now_s - loop.beat_s > STUCK_S
        }
        for name in silent.keys() - self._stuck:
            loop, silent_s = silent[name]
            text = f"no sign of life for {silent_s:.0f} s while {loop.busy_with}"
            told = Teller(self._bus, self._clock, name)
            told(EventKind.LOOP_STUCK, text, data={"since_s": silent_s})
        self._stuck = set(silent)
        return not silent

    def _wake_asked(self, store: Store) -> None:
        try:
            asked = store.requests.asked()
        except BalancerError:
            return  # the loops tell of it
        for name in asked & self._watched.keys():
            self._watched[name].thread.wake()

    def _status(self) -> str:
        loops = self._turning()
        leads = sum(loop.leads for loop in loops)
        busy = [f"{loop.name}: {loop.busy_with}" for loop in loops if loop.busy_with]
        parts = [f"{len(self._plant.setups)} clusters, {leads} of them led"]
        parts += [f"STUCK: {', '.join(sorted(self._stuck))}"] if self._stuck else []
        return "; ".join([*parts, *busy[:3]])

    # Another configuration

    def _reload(self, store: Store, eyes: Observability) -> None:
        self._manager.reloading(self._clock.monotonic_s())
        try:
            text = self._follow(read_plant(self._file, self._clock, self._only), store, eyes)
            self._tell(EventKind.CONFIGURATION_RELOADED, text[0], data=text[1])
        except BalancerError as error:
            text_ = f"the configuration is not changed: {error}"
            self._tell(EventKind.CONFIGURATION_REFUSED, text_)
            self._manager.status("reload refused, the old configuration stays in force; see log")
        self._manager.ready()

    def _follow(
        self, plant: Plant, store: Store, eyes: Observability
    ) -> tuple[str, dict[str, str | int | float | bool | None]]:
        """Go by another plant from here on; return what that changed."""
        if plant.config.store != self._plant.config.store:
            raise InputError(
                f"the store is another one: {named(where(plant.config.store))}",
                remedy="restart the service to use another store",
            )
        change = difference(self._plant, plant)
        eyes.reload(plant.config)
        self._plant = plant
        if self._fleet is not None:
            self._fleet.follow(change)
        for name in change.removed if self._leads else ():
            watched = self._watched.pop(name)
            watched.loop.stopping.how = OnInterrupt(plant.config.document.service.stop)
            watched.thread.leave()
            self._leaving.append(watched)
        for setup in change.changed if self._leads else ():
            self._watched[setup.name].loop.replace(setup)
            self._watched[setup.name].thread.wake()
        self._start(change.added, store)
        return str(change), {
            "added": len(change.added),
            "removed": len(change.removed),
            "changed": len(change.changed),
        }

    # Ending

    def _stop(self) -> None:
        """Let every loop end as configured; after that, or a second signal, at once."""
        service = self._plant.config.document.service
        self._manager.stopping()
        self._tell(EventKind.DAEMON_STOPPING, f"migrations in flight: {service.stop}")
        left = [*self._watched.values(), *self._leaving]
        for watched in left:
            watched.loop.stopping.how = OnInterrupt(service.stop)
            watched.thread.leave()
        if self._fleet is not None:
            self._fleet.leave(OnInterrupt(service.stop))
        end_s = self._clock.monotonic_s() + service.stop_within
        again = (None, signal.SIGHUP)
        while (
            (left or self._visiting())
            and self._clock.monotonic_s() < end_s
            and self._next_signal() in again
        ):
            left = [one for one in left if not one.thread.join(0.0)]
            self._manager.patience(MORE_TIME_S)
            self._manager.alive()
            names = ", ".join([*(one.loop.name for one in left), *self._visiting()])
            self._manager.status(f"stopping; waiting for {names}" if names else "stopping")
        for watched in left:
            watched.loop.stopping.abandon = True
        end_s = self._clock.monotonic_s() + FAREWELL_S
        for watched in left:
            watched.thread.join(end_s - self._clock.monotonic_s())
        if self._fleet is not None:
            self._fleet.close(max(1.0, end_s - self._clock.monotonic_s()))
        self._over.set()

    def _visiting(self) -> list[str]:
        """Return the clusters that a crew of ours still visits."""
        return [] if self._fleet is None else [loop.name for loop in self._fleet.busy()]

    @contextmanager
    def _taking_signals(self) -> Iterator[None]:
        """Queue signals for the main thread, which is the only one to look at them."""

        def take(number: int, frame: FrameType | None) -> None:
            del frame
            self._signals.put(number)  # may be called within itself, unlike other queues

        before = {number: signal.signal(number, take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
