"""Records that nobody kept for long, or a backup: what stands open there waits for a person."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from balancer.execute.charge import Charge
from balancer.execute.recover import recover
from balancer.execute.tenure import CLUSTER_TTL_S, Tenure, holding
from balancer.gateway.simulator.windows import NodeState
from balancer.model.drain import DrainState, Order
from balancer.policy.policy import Policy
from balancer.service.events import Event, EventKind
from balancer.service.stop import AbandonedError
from balancer.store.backup import back_up
from balancer.store.campaigns import CampaignState
from balancer.store.leases import LEFT_ALONE
from balancer.store.requests import RequestState
from balancer.store.store import Store
from tests.simulation.daemon import Daemon, setup
from tests.simulation.draining import holds, is_paused
from tests.simulation.small import Small
from tests.stores import new_store

K = EventKind
QUIET = "reserve: {memory: 10%}"
LONG_S, SHORT_S = LEFT_ALONE.total_seconds() + 120.0, 1800.0


def killed(place: Path, verb: str, **asked: object) -> tuple[Daemon, int]:
    """Return a daemon that was killed while it carried something out, and the request."""
    small = Small(each=2)
    daemon = Daemon(small, setup(small, QUIET), store=Store.open(place))
    request = daemon.ask(verb, **asked)

    def kill(event: Event) -> None:
        daemon.stopping.abandon |= event.kind is K.MIGRATION_STARTED

    daemon.bus.subscribe("kill", kill)
    with pytest.raises(AbandonedError):
        daemon.run(hours=1)
    return daemon, request


def off_for(seconds: float) -> Callable[[Daemon, Path], Store]:
    """Return what a machine finds that was off for so long."""

    def found(daemon: Daemon, place: Path) -> Store:
        del place
        daemon.clock.sleep(seconds)
        return daemon.store

    return found


def restored(daemon: Daemon, place: Path) -> Store:
    """Return a backup of just now, put in place of the store."""
    copy = place.with_name("copy.db")
    back_up(place, copy, daemon.clock.now())
    daemon.clock.sleep(61)
    return Store.open(copy)


def copied(place: Path) -> Path:
    """Return a copy of the store that does not say that it is one, as a dump of PostgreSQL."""
    copy = place.with_name("dump.db")
    with (
        contextlib.closing(sqlite3.connect(place)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
    return copy


def dumped(daemon: Daemon, place: Path) -> Store:
    """Return a copy of just now, put in place of a store that has lived on for a while."""
    copy = copied(place)
    lived_on = Daemon(daemon.small, setup(daemon.small, QUIET), store=Store.open(place))
    lived_on.run(minutes=20)
    lived_on.loop.close()
    return Store.open(copy)


OUT_OF_DATE = pytest.mark.parametrize(
    "how", [off_for(LONG_S), restored, dumped], ids=["off", "restored", "dumped"]
)


@OUT_OF_DATE
def test_a_drain_waits_for_a_person(how: Callable[[Daemon, Path], Store], tmp_path: Path) -> None:
    before, request = killed(tmp_path / "s.db", "drain", hosts=["h1"])
    small = before.small
    waiting = before.ask("apply")
    after = Daemon(small, setup(small, QUIET), store=how(before, tmp_path / "s.db"))
    after.run(hours=1)
    assert after.count(K.DRAIN_STARTED) == after.count(K.RUN_STARTED) == 0
    (told,) = after.kinds(K.DRAIN_FAILED)
    assert "`balancer drain h1` carries it on" in told.text
    requests = after.store.requests
    assert requests.get(request).exit_code == 4
    assert requests.get(waiting).state is RequestState.REFUSED
    assert "ask again" in requests.get(request).text
    again = after.ask("drain", hosts=["h1"])
    after.run(minutes=20)
    assert requests.get(again).exit_code == 0
    assert holds(small, "h1") == set()


@OUT_OF_DATE
def test_a_campaign_waits_for_a_person(
    how: Callable[[Daemon, Path], Store], tmp_path: Path
) -> None:
    before, _ = killed(tmp_path / "s.db", "rolling")
    small = before.small
    after = Daemon(small, setup(small, QUIET), store=how(before, tmp_path / "s.db"))
    after.run(hours=1)
    assert after.count(K.MIGRATION_STARTED) == 0
    campaign = after.store.campaigns.latest("small")
    assert campaign is not None
    assert campaign.state is CampaignState.STOPPED
    assert "`balancer rolling` goes on with it" in campaign.reason
    assert len(after.kinds(K.DRAIN_FAILED)) == 2  # the campaign, and the drain of its first host
    again = after.ask("rolling")
    after.run(hours=1)
    assert after.store.requests.get(again).text == "done: 4 of 4 hosts"


def test_after_a_restart_everything_goes_on(tmp_path: Path) -> None:
    before, request = killed(tmp_path / "s.db", "drain", hosts=["h1"])
    before.clock.sleep(SHORT_S)
    after = Daemon(before.small, setup(before.small, QUIET), store=before.store)
    after.run(minutes=20)
    assert after.store.requests.get(request).exit_code == 0


@pytest.mark.parametrize("gently", [True, False])
def test_a_dump_of_minutes_ago_is_known_as_one(tmp_path: Path, *, gently: bool) -> None:
    small = Small()
    place = tmp_path / "s.db"
    with Store.open(place) as store:
        tenure = Tenure("small", store, small.gateway, small.clock)
        tenure.confirm()
        copy = copied(place)
        for _ in range(10):
            small.clock.sleep(30.0)
            tenure.keep()
        if gently:
            tenure.release()
        else:
            small.clock.sleep(CLUSTER_TTL_S)
    with Store.open(place) as store:  # who was there all along knows everything
        with holding("small", store, small.new_gateway(), small.clock):
            assert store.marks.left_alone("small") is None
        small.clock.sleep(1.0)
    with Store.open(copy) as store:
        taken = store.leases.current("small", small.clock.now() - timedelta(minutes=10))
        with holding("small", store, small.new_gateway(), small.clock):
            assert taken is not None
            assert store.marks.left_alone("small") == taken.expires_at


def test_a_node_is_not_resumed_for_a_drain_that_was_given_up_long_ago() -> None:
    small = Small()
    with new_store() as store:
        with store.leases.hold("small", "me", small.clock) as lease:
            now = small.clock.now()
            drain = store.drains.begin(lease, Order(("h1",)), (), now, 0.0)
            store.drains.enter(lease, drain, DrainState.UNDOING, now, pausing=["h1"])
        small.world.machines["h1"].node_state = NodeState.PAUSED
        small.clock.sleep(timedelta(days=3).total_seconds())
        with store.leases.hold("small", "me", small.clock) as lease:
            notes = recover(Charge(Policy(), small.gateway, store, small.clock, lease))
        assert is_paused(small, "h1")
        assert store.drains.get(drain).state is DrainState.FAILED
        assert any("`balancer resume h1` takes back" in note for note in notes)
