from __future__ import annotations

import threading
from datetime import UTC, datetime

from balancer.service.events import Bus, Event, EventKind, Weight

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: EventKind = EventKind.NOTED, text: str = "") -> Event:
    return Event(AT, kind, text=text)


def test_every_kind_is_documented() -> None:
    for kind in EventKind:
        assert f"`{kind.value}`" in (EventKind.__doc__ or ""), kind


def test_listeners_hear_in_order() -> None:
    bus, heard = Bus(), list[str]()
    bus.subscribe("one", lambda e: heard.append(f"1{e.text}"))
    bus.subscribe("two", lambda e: heard.append(f"2{e.text}"))
    bus.tell(event(text="a"))
    bus.tell(event(text="b"))
    assert heard == ["1a", "2a", "1b", "2b"]


def test_a_listener_that_raises_hurts_nobody_and_is_told_of_sparingly() -> None:
    bus, heard = Bus(), list[Event]()

    def bad(told: Event) -> None:
        raise RuntimeError("no")

    bus.subscribe("bad", bad)
    bus.subscribe("good", heard.append)
    for n in range(100):
        bus.tell(event(text=str(n)))
    assert [e.text for e in heard if e.kind is EventKind.NOTED] == [str(n) for n in range(100)]
    troubles = [e for e in heard if e.kind is EventKind.LISTENER_FAILED]
    assert 2 <= len(troubles) <= 10
    assert troubles[0].data["listener"] == "bad"
    assert troubles[0].weight is Weight.WARNING


def test_two_bad_listeners_do_not_tell_of_each_other_for_ever() -> None:
    bus, calls = Bus(), list[Event]()

    def bad(told: Event) -> None:
        calls.append(told)
        raise RuntimeError("no")

    bus.subscribe("a", bad)
    bus.subscribe("b", bad)
    for _ in range(10):
        bus.tell(event())
    assert len(calls) < 60


def test_a_listener_that_hangs_aside_delays_nobody_and_its_losses_are_counted() -> None:
    bus, heard, go = Bus(), list[Event](), threading.Event()

    def hang(told: Event) -> None:
        go.wait(20)

    bus.subscribe("hangs", hang, aside=True, queue_max=4)
    bus.subscribe("good", heard.append)
    for _ in range(50):
        bus.tell(event())
    assert sum(e.kind is EventKind.NOTED for e in heard) == 50
    dropped = [e.data["dropped"] for e in heard if e.kind is EventKind.LISTENER_FAILED]
    assert dropped[-1] in range(16, 47)
    go.set()
    bus.close()


def test_close_lets_what_waits_be_heard() -> None:
    bus, heard = Bus(), list[str]()
    bus.subscribe("slow", lambda e: heard.append(e.text), aside=True)
    for n in range(500):
        bus.tell(event(text=str(n)))
    bus.close()
    assert heard == [str(n) for n in range(500)]
