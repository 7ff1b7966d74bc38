"""Waiting for a turn to plan, and looking less often while nothing is begun."""

from __future__ import annotations

import threading

import pytest

from balancer.clock import VirtualClock
from balancer.service import turns
from balancer.service.stop import LOOK_EVERY_S, PATIENT_S, Reason, Stop
from balancer.service.turns import Turns


def test_no_more_than_so_many_have_a_turn_and_the_others_give_signs_of_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(turns, "LOOK_S", 0.01)
    two = Turns(2)
    lock, inside, most = threading.Lock(), [0], [0]
    beats = threading.Event()
    release = threading.Event()

    def plan() -> None:
        with two.turn(beats.set):
            with lock:
                inside[0] += 1
                most[0] = max(most[0], inside[0])
            assert release.wait(30)
            with lock:
                inside[0] -= 1

    threads = [threading.Thread(target=plan) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert beats.wait(30)
    release.set()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert most == [2]


def test_a_turn_that_ends_in_an_error_is_given_back() -> None:
    one = Turns(1)
    with pytest.raises(ZeroDivisionError), one.turn(bool):
        raise ZeroDivisionError
    with one.turn(bool):
        pass


def asked_in(seconds: float, stop: Stop, clock: VirtualClock) -> None:
    for _ in range(int(seconds)):
        clock.sleep(1.0)
        stop()


def test_whoever_only_plans_asks_the_cluster_less_often_and_at_once_when_it_is_to_act() -> None:
    clock, looks, beats = VirtualClock(), list[int](), list[int]()

    def look() -> tuple[Reason, ...]:
        looks.append(1)
        return ()

    stop = Stop(clock, look, lambda: beats.append(1))
    asked_in(20, stop, clock)
    assert len(looks) == 20 / LOOK_EVERY_S
    looks.clear()
    with stop.patient():
        asked_in(20, stop, clock)
        assert len(looks) == 20 / PATIENT_S
    looks.clear()
    clock.sleep(LOOK_EVERY_S)
    stop()
    assert len(looks) == 1
    stop.beat()
    assert len(looks) == 1
    assert len(beats) == 42


def test_a_reason_that_comes_meanwhile_is_found() -> None:
    clock = VirtualClock()
    reasons: list[Reason] = []
    stop = Stop(clock, lambda: tuple(reasons))
    with stop.patient():
        assert not stop()
        reasons.append(Reason("frozen", "frozen by Bob"))
        asked_in(PATIENT_S + 1, stop, clock)
        assert stop()
