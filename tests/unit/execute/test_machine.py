"""The state table: no state without an end, and nothing outside the table."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import InternalError
from balancer.execute.machine import IN_FLIGHT, TABLE, Event, next_state
from balancer.model.outcome import FINAL, MigrationState


@pytest.mark.parametrize("state", list(MigrationState))
def test_every_state_either_is_final_or_ends_by_itself(state: MigrationState) -> None:
    if state in FINAL:
        assert state not in TABLE
        return
    row = TABLE[state]
    assert row.limit_s(0.0) > 0
    assert row.limit_s(1000.0) >= row.limit_s(0.0)
    assert Event.TIMEOUT in row.exits


@pytest.mark.parametrize("state", list(TABLE))
def test_time_alone_leads_to_an_end(state: MigrationState) -> None:
    seen: list[MigrationState] = []
    while state not in FINAL:
        assert state not in seen, "a circle of timeouts"
        seen.append(state)
        state = next_state(state, Event.TIMEOUT)


@given(st.sampled_from(MigrationState), st.sampled_from(Event))
def test_what_the_table_does_not_list_is_our_own_error(state: MigrationState, event: Event) -> None:
    if state in TABLE and event in TABLE[state].exits:
        assert next_state(state, event) is TABLE[state].exits[event]
        return
    with pytest.raises(InternalError, match=state.value):
        next_state(state, event)


def test_only_a_retry_leads_back_and_only_from_where_something_was_learnt() -> None:
    back = [
        (state, event)
        for state, row in TABLE.items()
        for event, after in row.exits.items()
        if after is MigrationState.PLANNED
    ]
    assert {event for _, event in back} == {Event.RETRY}
    assert MigrationState.CANCELLING not in {state for state, _ in back}


def test_only_planned_leads_to_asking() -> None:
    asking = [
        state for state, row in TABLE.items() if MigrationState.INTENDED in row.exits.values()
    ]
    assert asking == [MigrationState.PLANNED]
    assert MigrationState.PLANNED not in IN_FLIGHT


def test_all_states_can_be_reached_from_planned() -> None:
    reached, left = {MigrationState.PLANNED}, [MigrationState.PLANNED]
    while left:
        row = TABLE.get(left.pop())
        for state in row.exits.values() if row else ():
            if state not in reached:
                reached.add(state)
                left.append(state)
    assert reached == set(MigrationState)
