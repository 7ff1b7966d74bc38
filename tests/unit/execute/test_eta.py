"""The estimate of the end: the plan's schedule, shifted by how late the run is."""

from __future__ import annotations

import dataclasses

from balancer.execute.eta import eta_s
from balancer.execute.move import Move
from balancer.model.cluster import Transport
from balancer.model.outcome import MigrationState
from balancer.model.plan import Migration


def move(id_: str, start_s: float, duration_s: float, **more: object) -> Move:
    migration = Migration(
        id_, id_, id_, "h1", "h2", Transport.TCP, 1, start_s, duration_s, "because"
    )
    made = Move(1, 1, migration, True, Transport.TCP, duration_s, 0.0)
    return dataclasses.replace(made, **more)  # type: ignore[arg-type]


RUNNING = MigrationState.RUNNING


def test_before_anything_it_is_the_plan() -> None:
    assert eta_s([move("a", 0, 10), move("b", 10, 30)], 0.0, 0.0) == 40.0


def test_on_time_it_is_what_the_plan_has_left() -> None:
    moves = [move("a", 0, 10, state=RUNNING, asked_s=100.0), move("b", 10, 30)]
    assert eta_s(moves, 4.0, 104.0) == 36.0


def test_what_waits_is_expected_to_be_as_late_as_what_runs() -> None:
    late = move("a", 0, 10, state=RUNNING, asked_s=100.0, percent=25)
    assert eta_s([late], 10.0, 110.0) == 30.0  # a quarter took 10 s
    assert eta_s([late, move("b", 10, 30)], 10.0, 110.0) == 60.0


def test_a_queued_move_has_everything_before_it() -> None:
    queued = move("a", 0, 10, state=RUNNING, asked_s=100.0, queued=True)
    assert eta_s([queued], 50.0, 150.0) == 10.0


def test_between_two_moves_the_next_is_expected_at_once() -> None:
    done = move("a", 0, 10, state=MigrationState.DONE, asked_s=100.0)
    assert eta_s([done, move("b", 10, 30)], 25.0, 125.0) == 30.0


def test_at_the_end_nothing_is_left() -> None:
    assert eta_s([move("a", 0, 10, state=MigrationState.FAILED, asked_s=1.0)], 5.0, 6.0) == 0.0
    assert eta_s([], 0.0, 0.0) == 0.0
