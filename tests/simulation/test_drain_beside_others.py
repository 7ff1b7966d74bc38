"""Our drain beside somebody else's: refused on the same node, planned around on another."""

from __future__ import annotations

import pytest

from balancer.errors import RefusedError
from balancer.gateway.simulator.drains import OperatorDrain
from balancer.model.outcome import RunEnd
from tests.simulation.draining import empty, everything_is_somewhere, furnished, holds, is_paused
from tests.stores import new_store


def test_a_node_that_an_operator_drains_is_left_to_him() -> None:
    small = furnished()
    OperatorDrain("h1", at_s=0).enter(small.world)
    small.clock.sleep(1)
    with new_store() as store:
        with pytest.raises(RefusedError, match="somebody else's drain is at work on h1"):
            empty(small, store, "h1")
        assert store.journal.runs("small") == ()
        small.clock.sleep(300)
        report = empty(small, store, "h1")  # his is over, and so nothing is left to do
    assert (report.end, report.moved) == (RunEnd.DONE, ())
    assert is_paused(small, "h1")


def test_a_target_that_an_operator_begins_to_drain_is_planned_around() -> None:
    small = furnished(each=10)
    OperatorDrain("h2", at_s=30).enter(small.world)
    with new_store() as store:
        report = empty(small, store, "h1")
    assert report.end is RunEnd.DONE, report
    assert holds(small, "h1") == set()
    small.clock.sleep(900)
    small.world.advance()
    assert holds(small, "h2") == set(), "nothing of ours lands on it, and his drain ends"
    everything_is_somewhere(small)
