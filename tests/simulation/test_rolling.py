"""Walking a whole cluster: every host once, stopped and taken up again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from balancer.clock import VirtualClock
from balancer.errors import InputError, UnreachableError
from balancer.execute import rolling
from balancer.execute.charge import Charge
from balancer.execute.resume import resume
from balancer.execute.roll import Wanted, abandon, roll
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.windows import NodeState
from balancer.model.drain import DrainReport
from balancer.model.outcome import MigrationState
from balancer.policy.policy import Policy
from balancer.policy.windows import Calendar, Span
from balancer.store.campaigns import Campaign, CampaignState, HostStep
from balancer.store.store import Store
from tests.simulation.draining import everything_is_somewhere, furnished, holds, is_paused
from tests.simulation.small import Small
from tests.stores import new_store

HOSTS = ("h1", "h2", "h3", "h4")


@dataclass
class Command:
    """A command of the administrator, on the virtual clock."""

    small: Small
    ends_s: float
    why: str

    def ended(self) -> str | None:
        return self.why if self.small.clock.monotonic_s() >= self.ends_s else None


@dataclass
class Party:
    """A world, its store, and what was run on hosts."""

    small: Small = field(default_factory=furnished)
    store: Store = field(default_factory=new_store)
    said: list[str] = field(default_factory=list)
    began: list[tuple[datetime, str]] = field(default_factory=list)
    variables: list[Mapping[str, str]] = field(default_factory=list)
    seconds: float = 60.0
    away_most: int = 0

    def start(
        self, words: Sequence[str], variables: Mapping[str, str], timeout_s: float
    ) -> Command:
        host = variables["BALANCER_HOST"]
        assert timeout_s > 0
        assert not holds(self.small, host), "a host is worked on while it holds something"
        assert is_paused(self.small, host)
        self.said.append(" ".join(words))
        self.began.append((self.small.clock.now(), host))
        self.variables.append(variables)
        self.away_most = max(self.away_most, sum(is_paused(self.small, one) for one in HOSTS))
        if words[0] == "reboot":
            self.reboot(host)
        why = "exit code 1" if words[0] == "fail" else ""
        return Command(self.small, self.small.clock.monotonic_s() + self.seconds, why)

    def reboot(self, host: str) -> None:
        """Let a host restart as they do: it answers for some seconds more, then for minutes not."""
        world = self.small.world
        machine = world.machines[host]

        def down(at_s: float) -> None:
            mishaps.power_off(world, machine, at_s)
            world.at(at_s + 120, back)

        def back(at_s: float) -> None:
            mishaps.power_on(world, machine, at_s)
            machine.node_state = NodeState.PAUSED  # as a real node comes back

        with world.present() as now_s:
            world.at(now_s + self.seconds + 8, down)

    def roll(
        self,
        *hosts: str,
        policy: Policy | None = None,
        interrupted: Callable[[], bool] = lambda: False,
        on_step: Any = lambda host, step, text: None,
        **options: Any,
    ) -> Campaign:
        with self.store.leases.hold("small", "me", self.small.clock) as lease:
            return roll(
                Wanted(hosts, options, "a test"),
                Charge(
                    policy or Policy(),
                    self.small.gateway,
                    self.store,
                    self.small.clock,
                    lease,
                    interrupted,
                ),
                self.start,
                on_step=on_step,
            )

    def moves(self) -> int:
        return sum(
            move.state is MigrationState.DONE
            for run in self.store.journal.runs("small", 1000)
            for move in self.store.journal.moves(run.id)
        )


def steps(campaign: Campaign) -> dict[str, HostStep]:
    return {one.host: one.step for one in campaign.hosts}


ALL_DONE = dict.fromkeys(HOSTS, HostStep.DONE)
PATCH = [["patch", "{host}", "--all"]]


def test_every_host_has_its_turn_and_everything_is_back() -> None:
    party = Party()
    before = {host: holds(party.small, host) for host in HOSTS}
    done = party.roll(commands=[*PATCH, ["reboot", "{host}"]])
    assert done.state is CampaignState.DONE
    assert steps(done) == ALL_DONE
    assert party.said[:2] == ["patch h1 --all", "reboot h1"]
    assert len(party.said) == 8
    assert party.variables[0] == {
        "BALANCER_HOST": "h1",
        "BALANCER_CLUSTER": "small",
        "BALANCER_CAMPAIGN": str(done.id),
    }
    assert party.away_most == 1
    assert {host: holds(party.small, host) for host in HOSTS} == before
    assert not any(is_paused(party.small, host) for host in HOSTS)
    everything_is_somewhere(party.small)


def test_two_at_once_are_worked_on_side_by_side() -> None:
    party = Party(seconds=600)
    before = {host: holds(party.small, host) for host in HOSTS}
    done = party.roll(commands=PATCH, at_once=2)
    assert steps(done) == ALL_DONE
    assert [one.batch for one in done.hosts] == [0, 0, 1, 1]
    assert party.away_most == 2
    (first, _), (second, _) = party.began[:2]
    assert second - first < timedelta(seconds=10)
    assert {host: holds(party.small, host) for host in HOSTS} == before


def test_a_host_that_cannot_be_given_back_takes_no_other_along(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    party = Party()
    started: list[str] = []

    def stepped(host: str, step: HostStep, text: str) -> None:
        if step is HostStep.DRAINING:
            started.append(host)
            party.small.world.guests[party.small.vm("v21")].assigned_devices = 1

    def silent(hosts: tuple[str, ...], *given: Any, **more: Any) -> DrainReport:
        if hosts == ("h2",):
            raise UnreachableError("h2 does not answer")
        return resume(hosts, *given, **more)

    monkeypatch.setattr(rolling, "resume", silent)
    done = party.roll("h1", "h2", commands=PATCH, at_once=2, failures_max=2, on_step=stepped)
    assert started == ["h1", "h2"]
    assert steps(done) == {"h1": HostStep.DONE, "h2": HostStep.FAILED}
    reason = next(one.reason for one in done.hosts if one.host == "h2")
    assert reason.startswith("v21: ")
    assert reason.endswith("not taken back: h2 does not answer")


def test_storage_spaces_direct_and_quorum_allow_one_at_a_time() -> None:
    party = Party()
    assert party.small.world.cluster is not None
    party.small.world.cluster.storage_direct = True
    assert [one.batch for one in party.roll(at_once=4).hosts] == [0, 1, 2, 3]
    party = Party()
    assert party.small.world.cluster is not None
    party.small.world.cluster.witness_online = None  # two of four votes are no majority
    done = party.roll(at_once=2)
    assert [one.batch for one in done.hosts] == [0, 1, 2, 3]
    assert steps(done) == ALL_DONE


def test_hosts_that_cannot_be_empty_together_when_it_comes_to_it_go_one_by_one() -> None:
    party = Party(furnished(hosts=4, each=4))

    def shrink(host: str, step: HostStep, text: str) -> None:
        for machine in party.small.world.machines.values() if step is HostStep.DONE else ():
            machine.memory_bytes = 30 * 2**30  # 26 for VMs of 4 GiB: six fit, eight do not

    done = party.roll(at_once=2, commands=PATCH, on_step=shrink)
    assert [one.batch for one in done.hosts] == [0, 0, 1, 1]
    assert steps(done) == ALL_DONE
    assert party.began[3][0] - party.began[2][0] > timedelta(seconds=60)


def test_without_restore_less_is_moved_and_nothing_twice_but_the_first() -> None:
    stays, returns = Party(), Party()
    assert steps(stays.roll(restore=False)) == ALL_DONE
    assert steps(returns.roll()) == ALL_DONE
    assert returns.moves() == 2 * 15  # v14 stands still
    assert stays.moves() == 15 + 3
    everything_is_somewhere(stays.small)


def test_a_failed_command_stops_it_and_leaves_the_host_paused() -> None:
    party = Party()
    stopped = party.roll(commands=[["fail", "{host}"]])
    assert (stopped.state, stopped.reason) == (CampaignState.STOPPED, "1 hosts failed")
    assert [one.step for one in stopped.hosts] == [HostStep.FAILED, *[HostStep.WAITING] * 3]
    first = stopped.hosts[0]
    assert first.reason == "fail: exit code 1; the host stays paused"
    assert is_paused(party.small, first.host)
    assert party.store.campaigns.open("small") == stopped
    with pytest.raises(InputError, match=r"a campaign over h1 h2 h3 h4, begun .* is not over"):
        party.roll("h1", "h2")
    done = party.roll(commands=PATCH)
    assert steps(done) == ALL_DONE
    assert not any(is_paused(party.small, host) for host in HOSTS)


def test_a_host_that_is_not_healthy_again_is_given_up_and_others_go_on_if_allowed() -> None:
    party = Party()
    reboot = party.reboot
    party.reboot = lambda host: reboot(host) if host != "h1" else die()  # type: ignore[method-assign]

    def die() -> None:
        with party.small.world.present() as now_s:
            mishaps.power_off(party.small.world, party.small.world.machines["h1"], now_s)

    done = party.roll(commands=[["reboot", "{host}"]], failures_max=2, healthy_s=900.0)
    assert done.state is CampaignState.DONE
    assert steps(done) == ALL_DONE | {"h1": HostStep.FAILED}
    assert "it was not healthy within 900 s" in done.hosts[0].reason


def test_stopped_it_goes_on_where_it_was_with_what_was_wanted() -> None:
    party = Party()
    first = party.roll(commands=PATCH, interrupted=lambda: len(party.said) >= 2)
    assert (first.state, first.reason) == (CampaignState.STOPPED, "asked to stop")
    done = party.roll()
    assert done.state is CampaignState.DONE
    assert len(party.said) == len(set(party.said)) == 4, "a command that ended well is run again"


def test_given_up_it_is_over_and_another_may_begin() -> None:
    party = Party()
    party.roll(commands=[["fail", "{host}"]])
    with party.store.leases.hold("small", "me", party.small.clock) as lease:
        over = abandon(party.store, party.small.clock, lease, "ada")
        assert abandon(party.store, party.small.clock, lease, "ada") is None
    assert over is not None
    assert (over.state, over.reason) == (CampaignState.ABANDONED, "given up by ada")
    assert is_paused(party.small, "h1")
    assert steps(party.roll("h2", "h3")) == dict.fromkeys(("h2", "h3"), HostStep.DONE)


def test_nothing_begins_outside_the_windows_and_others_pauses_are_respected() -> None:
    party = Party()
    shut = Policy(calendar=Calendar(blackouts=(Span(),)))
    waits = party.roll(policy=shut)
    assert waits.state is CampaignState.GOING
    assert "no window is open" in waits.reason
    assert {one.step for one in waits.hosts} == {HostStep.WAITING}
    party.small.world.machines["h2"].node_state = NodeState.PAUSED
    assert steps(party.roll()) == ALL_DONE | {"h2": HostStep.SKIPPED}
    assert is_paused(party.small, "h2")


def at(hour: int) -> Small:
    return Small(each=2, clock=VirtualClock(datetime(2026, 7, 1, hour, tzinfo=UTC)))


def test_a_host_begins_only_if_all_of_it_ends_inside_the_window() -> None:
    party = Party(at(2), seconds=3000)
    night = Policy(calendar=Calendar(windows=(Span(from_minute=120, to_minute=300),)))
    first = party.roll(policy=night, commands=PATCH, work_s=3000.0)
    # 02:00 to 05:00 holds three turns of some 52 minutes, and no fourth.
    assert first.state is CampaignState.GOING
    assert [one.step for one in first.hosts] == [*[HostStep.DONE] * 3, HostStep.WAITING]
    assert "would not be back in time; the next window opens at 2026-07-02 02:00 UTC" in (
        first.reason
    )
    assert party.small.clock.now() < datetime(2026, 7, 1, 5, tzinfo=UTC)
    short = Policy(calendar=Calendar(windows=(Span(from_minute=120, to_minute=150),)))
    party.small.clock.sleep(
        (datetime(2026, 7, 2, 2, tzinfo=UTC) - party.small.clock.now()).total_seconds()
    )
    never = party.roll(policy=short)
    assert "no window is that long" in never.reason
    assert steps(party.roll(policy=night)) == ALL_DONE


def test_what_commands_really_take_counts_once_it_is_known() -> None:
    party = Party(at(2), seconds=4000)
    night = Policy(calendar=Calendar(windows=(Span(from_minute=120, to_minute=300),)))
    first = party.roll(policy=night, commands=PATCH, work_s=60.0)
    assert [one.step for one in first.hosts].count(HostStep.DONE) == 2
    assert party.small.clock.now() < datetime(2026, 7, 1, 5, tzinfo=UTC)


def test_a_host_that_something_cannot_leave_is_not_begun() -> None:
    party = Party()
    party.small.world.guests[party.small.vm("v21")].assigned_devices = 1
    done = party.roll(commands=PATCH, failures_max=2)
    assert steps(done) == ALL_DONE | {"h2": HostStep.FAILED}
    reason = next(one.reason for one in done.hosts if one.host == "h2")
    assert reason.startswith("not begun: v21: ")
    assert "assigned device" in reason
    assert not is_paused(party.small, "h2")
    assert {"v21", "v22", "v23", "v24"} <= holds(party.small, "h2")


def test_a_silent_host_fails_and_does_not_end_the_walk() -> None:
    party = Party()
    mishaps.power_off(party.small.world, party.small.world.machines["h3"], 0.0)
    party.small.clock.sleep(60)
    done = party.roll("h1", "h3", failures_max=2)
    assert steps(done) == {"h1": HostStep.DONE, "h3": HostStep.FAILED}
