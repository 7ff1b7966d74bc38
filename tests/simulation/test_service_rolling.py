"""Maintenance by the daemon: campaigns over nights and restarts, drains that come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest

from balancer.clock import VirtualClock
from balancer.config import ServicePart
from balancer.execute.progress import OnInterrupt
from balancer.service import rolling
from balancer.service.events import Event, EventKind
from balancer.service.stop import AbandonedError
from balancer.store.campaigns import CampaignState, HostStep
from balancer.store.requests import RequestState
from balancer.unattended import AutoPart, SchedulePart
from tests.simulation.daemon import Daemon, setup
from tests.simulation.draining import holds, is_paused
from tests.simulation.small import Small
from tests.simulation.test_service import Meddler, slow_plan

K = EventKind
HOSTS = ("h1", "h2", "h3", "h4")
QUIET = "reserve: {memory: 10%}"  # a policy that wants nothing moved


def steps(daemon: Daemon) -> dict[str, HostStep]:
    campaign = daemon.store.campaigns.latest("small")
    return {} if campaign is None else {one.host: one.step for one in campaign.hosts}


ALL_DONE = dict.fromkeys(HOSTS, HostStep.DONE)


def test_the_daemon_walks_a_cluster_and_runs_the_commands(tmp_path: Path) -> None:
    said = tmp_path / "said"
    script = f'echo "$BALANCER_HOST $1" >> "{said}"'
    small = Small(each=2)
    daemon = Daemon(small, setup(small, QUIET))
    before = {host: holds(small, host) for host in HOSTS}
    request = daemon.ask(
        "rolling", options={"commands": [["/bin/sh", "-c", script, "patch", "ä {host}"]]}
    )
    daemon.run(hours=2)
    answered = daemon.store.requests.get(request)
    assert (answered.state, answered.exit_code) == (RequestState.DONE, 0)
    assert answered.text == "done: 4 of 4 hosts"
    assert steps(daemon) == ALL_DONE
    assert sorted(said.read_text("utf-8").split("\n")[:-1]) == [f"{one} ä {one}" for one in HOSTS]
    assert {event.subject for event in daemon.kinds(K.HOST_RESUMED)} == set(HOSTS)
    assert {host: holds(small, host) for host in HOSTS} == before


def test_a_command_that_fails_is_told_as_an_error_with_what_it_printed() -> None:
    small = Small(each=2)
    daemon = Daemon(small, setup(small, QUIET))
    command = ["/bin/sh", "-c", "echo no space left on {host}; exit 7"]
    request = daemon.ask("rolling", hosts=["h2"], options={"commands": [command]})
    daemon.run(hours=1)
    assert daemon.store.requests.get(request).exit_code == 4
    (failed,) = daemon.kinds(K.DRAIN_FAILED)
    assert "no space left on h2" in failed.text
    assert is_paused(small, "h2")
    over = daemon.ask("rolling", abandon=True)
    daemon.run(minutes=5)
    assert daemon.store.requests.get(over).exit_code == 0
    campaign = daemon.store.campaigns.latest("small")
    assert campaign is not None
    assert campaign.state is CampaignState.ABANDONED


NIGHTS = "windows: [{from: '02:00', to: '02:03', timezone: UTC}]"


def test_a_campaign_goes_on_by_itself_night_after_night_and_never_by_day() -> None:
    small = Small(each=4, clock=VirtualClock(datetime(2026, 7, 1, 1, 30, tzinfo=UTC)))
    seldom = SchedulePart(every=86_400.0, sample_every=3600.0)
    daemon = Daemon(small, setup(small, NIGHTS, schedule=seldom))
    asked = daemon.ask("rolling")
    daemon.run(minutes=10)
    assert daemon.store.requests.get(asked).exit_code == 4
    assert "no window is open" in daemon.store.requests.get(asked).text
    daemon.run(days=1, hours=1)
    for _ in range(2):  # how many hosts a night holds hangs on the moment it is begun
        small.clock.sleep(23 * 3600)
        daemon.run(hours=1)
    assert steps(daemon) == ALL_DONE
    times = daemon.times(K.MIGRATION_STARTED) + daemon.times(K.MIGRATION_DONE)
    assert {(at.hour, at.minute < 3) for at in times} == {(2, True)}
    assert len({at.date() for at in times}) >= 2, "one night is too short for four hosts"
    assert not any(is_paused(small, host) for host in HOSTS)


def test_a_window_that_is_too_short_is_asked_once_a_night_and_told_of_once() -> None:
    small = Small(each=2, clock=VirtualClock(datetime(2026, 7, 1, 1, 55, tzinfo=UTC)))
    seldom = SchedulePart(every=86_400.0, sample_every=3600.0)
    hour = NIGHTS.replace("02:03", "03:00")
    daemon = Daemon(small, setup(small, hour, schedule=seldom))
    daemon.ask("rolling", options={"commands": [["true"]], "work_s": 4000.0})
    daemon.run(minutes=70)
    small.clock.sleep(22.5 * 3600)
    daemon.run(hours=2)
    assert set(steps(daemon).values()) == {HostStep.WAITING}
    taken = [event for event in daemon.kinds(K.REQUEST_TAKEN) if event.data["verb"] == "rolling"]
    assert [(event.at.day, event.at.hour) for event in taken] == [(1, 1), (1, 2), (2, 2)]
    (told,) = daemon.kinds(K.DRAIN_FAILED)
    assert "no window is that long" in told.text


class OnlyOthers:
    """A command that fails on h1, and is over at once."""

    said: ClassVar[list[str]] = []

    def __init__(
        self, words: Sequence[str], variables: Mapping[str, str], timeout_s: float
    ) -> None:
        del words, timeout_s
        self.host = variables["BALANCER_HOST"]
        self.said.append(self.host)

    def ended(self) -> str:
        return "exit code 1" if self.host == "h1" else ""


def test_a_host_that_failed_has_no_other_turn_unless_somebody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(OnlyOthers, "said", [])
    monkeypatch.setattr(rolling, "start_command", OnlyOthers)
    small = Small(each=2, clock=VirtualClock(datetime(2026, 7, 1, 1, 55, tzinfo=UTC)))
    seldom = SchedulePart(every=86_400.0, sample_every=3600.0)
    daemon = Daemon(small, setup(small, NIGHTS, schedule=seldom))
    daemon.ask("rolling", options={"commands": [["patch"]], "failures_max": 2, "work_s": 40.0})
    daemon.run(minutes=15)
    assert steps(daemon)["h1"] is HostStep.FAILED
    assert HostStep.WAITING in steps(daemon).values(), "one night is too short for four hosts"
    small.clock.sleep(23.5 * 3600)
    daemon.run(minutes=30)
    assert steps(daemon) == ALL_DONE | {"h1": HostStep.FAILED}
    assert sorted(OnlyOthers.said) == list(HOSTS)
    assert is_paused(small, "h1")


@pytest.mark.parametrize("how", ["power", "stop"])
def test_a_campaign_goes_on_after_a_restart(how: str) -> None:
    small = Small(each=2)
    before = {host: holds(small, host) for host in HOSTS}
    daemon = Daemon(small, setup(small, QUIET))
    daemon.ask("rolling")

    def end(event: Event) -> None:
        if event.kind is K.HOST_RESUMED and not daemon.stopping.how:
            daemon.stopping.how = OnInterrupt.FINISH
            daemon.stopping.abandon = how == "power"

    daemon.bus.subscribe("end", end)
    if how == "power":
        with pytest.raises(AbandonedError):
            daemon.run(hours=1)
    else:
        daemon.run(minutes=20)
        daemon.loop.close()
    assert list(steps(daemon).values()).count(HostStep.DONE) == 1
    small.clock.sleep(61)
    after = Daemon(small, setup(small, QUIET), store=daemon.store)
    after.run(hours=1)
    assert steps(after) == ALL_DONE
    assert {host: holds(small, host) for host in HOSTS} == before


def test_a_drain_comes_before_a_rebalance_once_what_moves_has_arrived() -> None:
    """The real drain: nothing in flight is cancelled, and caps, budgets and windows do not hold."""
    small = Small(each=8)
    capped = slow_plan(small) + "\nlimits: {migrations_per_run: 8, bytes_per_run: 64 GiB}"
    service = ServicePart(auto=AutoPart(first_run=0))
    daemon = Daemon(small, setup(small, capped, service=service))
    asked: list[int] = []
    Meddler(daemon, lambda: asked.append(daemon.ask("drain", hosts=["h2"])))
    daemon.run(minutes=12)
    assert daemon.store.requests.get(asked[0]).exit_code == 0
    first = daemon.kinds(K.RUN_ENDED)[0]
    assert (first.data["end"], first.data["cancelled"], first.data["failed"]) == ("cancelled", 0, 0)
    begun, over = daemon.times(K.DRAIN_STARTED)[0], daemon.times(K.RUN_ENDED)[0]
    assert timedelta(0) <= begun - over < timedelta(seconds=30)
    assert holds(small, "h2") == set()
    assert is_paused(small, "h2")
    everything = daemon.count(K.MIGRATION_DONE)
    assert everything >= int(first.data["done"] or 0) + 8
    back = daemon.ask("resume", hosts=["h2"], restore=True)
    daemon.run(minutes=12)
    assert daemon.store.requests.get(back).exit_code == 0
    assert {f"v2{n}" for n in range(1, 9)} <= holds(small, "h2")
