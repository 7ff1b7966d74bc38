"""Crashes on purpose: a store and a gateway that die at the k-th thing they are asked to do."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from balancer.gateway.control import Control, ControlName
from balancer.gateway.port import Gateway, MoveRequest, Observation, SettingAnswer, Sighting
from balancer.model.cluster import AutoBalancer, Transport
from balancer.store.drains import Drains
from balancer.store.journal import Journal
from balancer.store.store import Store

T = TypeVar("T")


class PowerCut(BaseException):
    """Not an error of the program: nothing in it may catch this."""


@dataclass
class Trap:
    """Counts points at which the power may go; it goes at number `at` (from 1)."""

    at: int | None = None
    count: int = 0
    acts: list[tuple[str, ...]] = field(default_factory=list)

    def point(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise PowerCut

    def around(self, act: Callable[[], T]) -> T:
        self.point()
        result = act()
        self.point()
        return result


class TrappedGateway:
    """Passes everything on; every act is recorded and has a point before and after it."""

    def __init__(self, inner: Gateway, trap: Trap) -> None:
        self._inner = inner
        self._trap = trap

    def observe(self) -> Observation:
        return self._inner.observe()

    def look(self, vms: Collection[str]) -> Mapping[str, Sighting]:
        return self._inner.look(vms)

    def start(self, request: MoveRequest, fence: int) -> None:
        def act() -> None:
            self._trap.acts.append(("start", request.vm, request.target))
            self._inner.start(request, fence)

        self._trap.around(act)

    def cancel(self, vm: str, source: str, fence: int) -> None:
        def act() -> None:
            self._trap.acts.append(("cancel", vm))
            self._inner.cancel(vm, source, fence)

        self._trap.around(act)

    def read_transport(self, host: str) -> Transport:
        return self._inner.read_transport(host)

    def write_transport(
        self, host: str, expected: Transport, value: Transport, fence: int
    ) -> SettingAnswer:
        def act() -> SettingAnswer:
            self._trap.acts.append(("write", host, value.value))
            return self._inner.write_transport(host, expected, value, fence)

        return self._trap.around(act)

    def read_control(self) -> Control:
        return self._inner.read_control()

    def write_control(self, name: ControlName, expected: str, value: str, fence: int) -> str:
        def act() -> str:
            self._trap.acts.append(("control", name.value, value))
            return self._inner.write_control(name, expected, value, fence)

        return self._trap.around(act)

    def set_node(self, name: str, *, paused: bool, fence: int) -> None:
        def act() -> None:
            self._trap.acts.append(("pause" if paused else "resume", name))
            self._inner.set_node(name, paused=paused, fence=fence)

        self._trap.around(act)

    def move_group(self, group: str, target: str, fence: int) -> None:
        def act() -> None:
            self._trap.acts.append(("group", group, target))
            self._inner.move_group(group, target, fence)

        self._trap.around(act)

    def move_volume(self, name: str, target: str, fence: int) -> None:
        def act() -> None:
            self._trap.acts.append(("volume", name, target))
            self._inner.move_volume(name, target, fence)

        self._trap.around(act)

    def write_auto_balancer(
        self, expected: AutoBalancer, value: AutoBalancer, fence: int
    ) -> SettingAnswer:
        def act() -> SettingAnswer:
            self._trap.acts.append(("auto balancer", value.value))
            return self._inner.write_auto_balancer(expected, value, fence)

        return self._trap.around(act)

    def close(self) -> None:
        self._inner.close()


class TrappedJournal(Journal):
    """A journal with a point before and after every write."""

    trap: Trap

    def begin_run(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedJournal, self).begin_run(*args, **kwargs))

    def move(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedJournal, self).move(*args, **kwargs))

    def intend_setting(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedJournal, self).intend_setting(*args, **kwargs))

    def setting(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedJournal, self).setting(*args, **kwargs))

    def end_run(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedJournal, self).end_run(*args, **kwargs))


class TrappedDrains(Drains):
    """Drains with a point before and after every write."""

    trap: Trap

    def begin(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedDrains, self).begin(*args, **kwargs))

    def enter(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedDrains, self).enter(*args, **kwargs))

    def moving(self, *args: Any, **kwargs: Any) -> Any:
        return self.trap.around(lambda: super(TrappedDrains, self).moving(*args, **kwargs))


def trapped(store: Store, trap: Trap) -> None:
    """Set traps in the store's journal."""
    plain = store.journal
    journal = TrappedJournal(plain._engine, plain._reading_engine, plain._location)
    journal.trap = trap
    store.journal = journal
    drains = TrappedDrains(plain._engine, plain._reading_engine, plain._location)
    drains.trap = trap
    store.drains = drains
