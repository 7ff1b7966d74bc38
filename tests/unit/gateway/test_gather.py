"""Calling hosts in turn and side by side, also those that never come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from balancer.errors import UnreachableError
from balancer.gateway.gather import Gather, InParallel, again, in_turn, while_waiting
from balancer.gateway.port import ReplyLostError


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """An event that calls may wait for; it comes when the test is over."""
    event = threading.Event()
    yield event
    event.set()


def fail(error: Exception) -> Callable[[], str]:
    def call() -> str:
        raise error

    return call


@pytest.mark.parametrize("gather", [in_turn, InParallel(2, 5.0)], ids=["in turn", "in parallel"])
def test_answers_and_failures_by_host_in_the_order_asked(gather: Gather) -> None:
    lost, gone = ReplyLostError("lost"), UnreachableError("gone")
    calls = {"b": lambda: "B", "a": fail(lost), "c": fail(gone), "d": lambda: "D"}
    outcomes = gather(calls)
    assert outcomes == {"b": "B", "a": lost, "c": gone, "d": "D"}
    assert list(outcomes) == ["b", "a", "c", "d"]
    assert gather({}) == {}


@pytest.mark.parametrize("gather", [in_turn, InParallel(2, 5.0)], ids=["in turn", "in parallel"])
def test_a_fault_of_ours_is_not_taken_for_one_of_the_host(gather: Gather) -> None:
    with pytest.raises(ZeroDivisionError):
        gather({"a": fail(ZeroDivisionError())})


def test_hosts_are_called_side_by_side() -> None:
    together = threading.Barrier(3, timeout=5)
    outcomes = InParallel(3, 10.0)(dict.fromkeys("abc", together.wait))
    assert sorted(str(one) for one in outcomes.values()) == ["0", "1", "2"]


def test_no_more_threads_than_allowed() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1

    InParallel(3, 10.0)({str(n): call for n in range(20)})
    assert most <= 3


def test_a_call_that_hangs_costs_its_deadline_and_holds_up_nobody(never: threading.Event) -> None:
    gather = InParallel(2, 0.2)
    calls: dict[str, Callable[[], object]] = {f"hung{n}": never.wait for n in range(3)}
    calls |= {f"good{n}": (lambda: True) for n in range(10)}
    started = time.monotonic()
    outcomes = gather(calls)
    assert time.monotonic() - started < 1.5
    assert {name for name, one in outcomes.items() if one is True} == {
        f"good{n}" for n in range(10)
    }
    assert all(isinstance(outcomes[f"hung{n}"], ReplyLostError) for n in range(3))


def test_a_host_that_hangs_gets_no_second_thread_until_it_comes_back() -> None:
    release, calls = threading.Event(), []
    gather = InParallel(4, 0.1)

    def call() -> str:
        calls.append(threading.current_thread())
        release.wait(10)
        return "late"

    assert isinstance(gather({"a": call})["a"], ReplyLostError)
    for _ in range(3):
        refused = gather({"a": call})["a"]
        assert isinstance(refused, UnreachableError)
        assert "still hangs" in refused.message
    assert len(calls) == 1
    release.set()
    calls[0].join(5)
    assert gather({"a": call}) == {"a": "late"}


def test_two_callers_take_turns_at_one_host() -> None:
    gather, inside, overlaps = InParallel(4, 5.0), threading.Lock(), []

    def call() -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(True)
            return
        time.sleep(0.02)
        inside.release()

    callers = [threading.Thread(target=lambda: gather({"a": call})) for _ in range(5)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(5)
    assert overlaps == []
    assert not any(caller.is_alive() for caller in callers)


def test_who_waits_for_a_host_that_is_given_up_is_told(never: threading.Event) -> None:
    gather, entered = InParallel(4, 0.3), threading.Event()
    first: list[object] = []

    def hang() -> None:
        entered.set()
        never.wait()

    caller = threading.Thread(target=lambda: first.append(gather({"a": hang})["a"]))
    caller.start()
    assert entered.wait(5)
    outcome = gather({"a": lambda: None})["a"]
    caller.join(5)
    assert isinstance(first[0], ReplyLostError)
    assert isinstance(outcome, UnreachableError)


@pytest.mark.parametrize("gather", [in_turn, InParallel(2, 5.0)], ids=["in turn", "in parallel"])
def test_a_host_called_twice_in_a_round_is_called_once_at_a_time_and_in_order(
    gather: Gather,
) -> None:
    inside, order = threading.Lock(), []

    def call(word: str) -> str:
        assert inside.acquire(blocking=False)
        order.append(word)
        time.sleep(0.02)
        inside.release()
        return word

    calls = {"a": lambda: call("first"), again("a"): lambda: call("second"), "b": lambda: "other"}
    assert gather(calls) == {"a": "first", again("a"): "second", "b": "other"}
    assert order == ["first", "second"]


def test_one_thread_carries_on_with_the_next_call_and_all_are_made() -> None:
    calls = {str(n): (lambda n=n: n) for n in range(200)}
    assert InParallel(3, 5.0)(calls) == {str(n): n for n in range(200)}


def test_a_call_that_hangs_gives_its_place_to_those_that_wait(never: threading.Event) -> None:
    gather = InParallel(1, 0.2)
    outcomes = gather({"a": never.wait, again("a"): lambda: True, "b": lambda: True})
    assert isinstance(outcomes["a"], ReplyLostError)
    assert isinstance(outcomes[again("a")], UnreachableError)
    assert outcomes["b"] is True


def test_who_waits_for_hosts_beats_meanwhile_and_only_in_its_own_thread(
    never: threading.Event,
) -> None:
    gather = InParallel(4, 0.5)
    beats: list[int] = []
    calls: dict[str, Callable[[], object]] = {f"hung{n}": never.wait for n in range(3)}

    def beat() -> None:
        beats.append(threading.get_ident())
        if len(beats) == 2:
            time.sleep(0.05)  # however long it takes, calls go on

    with while_waiting(beat, every_s=0.02):
        outcomes = gather(calls)
        other = threading.Thread(target=lambda: gather({"hung": never.wait}))
        told = len(beats)
        other.start()
        other.join()
    assert all(isinstance(one, ReplyLostError) for one in outcomes.values())
    assert told >= 5
    assert set(beats) == {threading.get_ident()}
    assert len(beats) == told
    gather({"hung9": never.wait})
    assert len(beats) == told


def test_a_beat_that_raises_ends_the_waiting(never: threading.Event) -> None:
    def beat() -> None:
        raise ZeroDivisionError

    gather = InParallel(4, 30.0)
    with pytest.raises(ZeroDivisionError), while_waiting(beat, every_s=0.02):
        gather({"hung": never.wait})
    assert gather({"good": lambda: 1}) == {"good": 1}
