"""Everybody who listens, in one place: log, audit log, metrics, health, notifications.

`set_up_logging` comes first thing in the process, `subscribe_all` once the configuration and the
store are there. What listens may fail or hang without hurting whoever tells: see `events`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import IO

from balancer.clock import Clock, SystemClock
from balancer.config import Config, read_address, read_password, read_store_password
from balancer.errors import InputError, Place
from balancer.service import log
from balancer.service.audit import AuditLog
from balancer.service.events import Bus, Event, Weight
from balancer.service.health import Health, serve
from balancer.service.metrics import Metrics
from balancer.service.notify import Notifier, addresses, apprise_sender
from balancer.service.redact import Secrets
from balancer.service.schedule import Schedule
from balancer.service.web import WebServer
from balancer.store.store import Store

NO_ADDRESS = "none"

# Every secret that the process has read, for everything that it writes.
SECRETS = Secrets()


def set_up_logging(clock: Clock, *, level: str = "info", stream: IO[str] | None = None) -> None:
    """Send the log to `stream`, by default stderr: JSON, or words on a terminal."""
    log.set_up(clock, level=level, stream=stream, secrets=SECRETS)


class Observability:
    """The listeners of one process; `close` lets them finish."""

    def __init__(
        self, bus: Bus, config: Config, store: Store, clock: Clock, *, worker: bool = False
    ) -> None:
        self.metrics = Metrics()
        self.health = Health()
        self._clock = clock
        self._bus = bus
        self._web: WebServer | None = None
        self._notifiers: tuple[Notifier, ...] = ()
        # What can refuse comes first: nothing is subscribed where something is wrong.
        self._notifiers = self._made_notifiers(config)
        try:
            self._web = self._served(config, worker=worker)
        except InputError:
            self._close_notifiers(self._notifiers)
            raise
        self.watch(config)
        quick = {
            "log": log.log_event,
            "metrics": self.metrics.hear,
            "health": self.health.hear,
            "notify": self._notify,
        }
        self.metrics.listen_for((*quick, "audit"))
        for name, listener in quick.items():
            bus.subscribe(name, listener)
        bus.subscribe("audit", AuditLog(store, SECRETS).hear, aside=True)

    @property
    def port(self) -> int | None:
        """Return the port of the health endpoint; None where there is none."""
        return None if self._web is None else self._web.port

    def reload(self, config: Config) -> None:
        """Follow a changed configuration; the health address stays until a restart.

        Raises:
            InputError: A notification cannot be set up; then all stay as they were.
        """
        before, self._notifiers = self._notifiers, self._made_notifiers(config)
        self._close_notifiers(before)
        self.watch(config)
        log.set_level(config.document.service.log_level)

    def watch(self, config: Config) -> None:
        """Have the metrics and the health of exactly the configured clusters."""
        learn(config)
        self.health.watch(part.name for part in config.document.clusters)
        self.metrics.watch(longest_pauses_s(config), self._clock.now().timestamp())

    def close(self) -> None:
        """Let everybody hear what is still to be heard, each for some seconds at most."""
        self._bus.close()
        self._close_notifiers(self._notifiers)
        if self._web is not None:
            self._web.close()

    def _notify(self, event: Event) -> None:
        for notifier in self._notifiers:
            notifier.hear(event)

    def _made_notifiers(self, config: Config) -> tuple[Notifier, ...]:
        senders = []
        for index, part in enumerate(config.document.service.notify):
            place = f"{config.file}: service.notify.{index}"
            text = read_address(config, part)
            found = addresses(text or "")
            if not found:
                raise InputError(
                    "a notification without an address",
                    place=Place(str(config.file), key=f"service.notify.{index}"),
                    remedy="give url_file or url_env; it holds one Apprise address a line",
                )
            SECRETS.learn(*found)
            senders += [(part, apprise_sender(address, place)) for address in found]
        return tuple(
            Notifier(
                send,
                self._clock,
                at_least=Weight(part.at_least),
                clusters=part.clusters,
                every_s=part.every,
                secrets=SECRETS,
                told=self.metrics.notified,
            )
            for part, send in senders
        )

    def _close_notifiers(self, notifiers: tuple[Notifier, ...]) -> None:
        for notifier in notifiers:
            notifier.close()

    def _served(self, config: Config, *, worker: bool) -> WebServer | None:
        service = config.document.service
        address = service.worker.health if worker else service.health
        if address is None or address == NO_ADDRESS:
            return None
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal():
            raise InputError(
                f"{address!r} is no address to serve health at",
                place=Place(
                    str(config.file), key="service.worker.health" if worker else "service.health"
                ),
                remedy="write ADDRESS:PORT, for example 127.0.0.1:9733, or none",
            )
        return serve(host.strip("[]"), int(port), self.health, self.metrics, self._clock)


def subscribe_all(
    bus: Bus, config: Config, store: Store, clock: Clock | None = None, *, worker: bool = False
) -> Observability:
    """Have everybody listen who should; whoever calls closes what is returned at the end.

    Raises:
        InputError: The health address or a notification cannot be set up.
    """
    return Observability(
        bus, config, store, SystemClock() if clock is None else clock, worker=worker
    )


def learn(config: Config) -> None:
    """Never write the passwords of this configuration."""
    with suppress(InputError):
        SECRETS.learn(read_store_password(config))
    for part in config.document.clusters:
        with suppress(InputError):  # whoever connects says so, with the reason
            SECRETS.learn(read_password(config, part.connection))


def longest_pauses_s(config: Config) -> Mapping[str, float]:
    """Return for each cluster the longest pause between two cycles, in seconds."""
    clusters = config.document.clusters
    return {part.name: Schedule(part.schedule, part.name).longest_pause_s for part in clusters}
