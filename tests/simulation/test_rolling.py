"""Walking a whole cluster: every host once, stopped and taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balancer.execute.rolling import Rolling, Walk, order_of
from balancer.gateway.simulator import mishaps
from balancer.gateway.simulator.windows import NodeState
from balancer.policy.policy import Policy
from balancer.policy.windows import Calendar, Span
from balancer.store.campaigns import Campaign, CampaignState, HostStep
from balancer.store.store import Store
from tests.simulation.draining import everything_is_somewhere, furnished, holds, is_paused
from tests.simulation.small import Small

HOSTS = ("h1", "h2", "h3", "h4")


def begin(small: Small, store: Store) -> int:
    with store.leases.hold("small", "me", small.clock) as lease:
        order = order_of(small.gateway.observe().cluster, HOSTS)
        batches = [(host,) for host in order]
        return store.campaigns.begin(lease, batches, {}, "a test", small.clock.now())


def walk(small: Small, store: Store, campaign: int, said: list[str], **more: Any) -> Campaign:
    def run_command(words: Sequence[str], host: str, timeout_s: float) -> str:
        assert timeout_s > 0
        assert not holds(small, host), "a host is worked on while it holds something"
        assert is_paused(small, host)
        said.append(" ".join(words))
        if words[0] == "reboot":
            with small.world.present() as now_s:
                machine = small.world.machines[host]
                mishaps.power_off(small.world, machine, now_s)
                small.world.at(now_s + 120, lambda at_s: back(host, at_s))
        return "exit code 1" if words[0] == "fail" else ""

    def back(host: str, at_s: float) -> None:
        machine = small.world.machines[host]
        mishaps.power_on(small.world, machine, at_s)
        machine.node_state = NodeState.PAUSED  # as a real node comes back

    policy = more.pop("policy", Policy())
    interrupted = more.pop("interrupted", lambda: False)
    take_up = more.pop("take_up", False)
    with store.leases.hold("small", "me", small.clock) as lease:
        done = Walk(
            Rolling(**more), policy, small.gateway, store, small.clock, lease, run_command,
            interrupted=interrupted,
        )  # fmt: skip
        if take_up:
            done.take_up(campaign)
        return done.run(campaign)


def test_every_host_has_its_turn_and_everything_is_back() -> None:
    small, said = furnished(), list[str]()
    before = {host: holds(small, host) for host in HOSTS}
    with Store.open("sqlite://") as store:
        campaign = begin(small, store)
        commands = (("patch", "{host}", "--all"), ("reboot", "{host}"))
        done = walk(small, store, campaign, said, commands=commands)
        assert done.state is CampaignState.DONE
        assert {one.step for one in done.hosts} == {HostStep.DONE}
    assert said[:2] == ["patch h1 --all", "reboot h1"]
    assert len(said) == 8
    assert {host: holds(small, host) for host in HOSTS} == before
    assert not any(is_paused(small, host) for host in HOSTS)
    everything_is_somewhere(small)


def test_a_failed_command_stops_it_and_leaves_the_host_paused() -> None:
    small, said = furnished(), list[str]()
    with Store.open("sqlite://") as store:
        campaign = begin(small, store)
        stopped = walk(small, store, campaign, said, commands=(("fail", "{host}"),))
        assert (stopped.state, stopped.reason) == (CampaignState.STOPPED, "1 hosts failed")
        steps = [one.step for one in stopped.hosts]
        assert steps == [HostStep.FAILED, *[HostStep.WAITING] * 3]
        assert is_paused(small, stopped.hosts[0].host)
        assert store.campaigns.open("small") == stopped
        done = walk(small, store, campaign, said, commands=(("patch", "{host}"),), take_up=True)
        assert {one.step for one in done.hosts} == {HostStep.DONE}
        assert not any(is_paused(small, host) for host in HOSTS)


def test_stopped_it_goes_on_where_it_was() -> None:
    small, said = furnished(), list[str]()
    with Store.open("sqlite://") as store:
        campaign = begin(small, store)
        commands = (("patch", "{host}"),)
        first = walk(
            small, store, campaign, said, commands=commands, interrupted=lambda: len(said) >= 2
        )
        assert first.state is CampaignState.STOPPED
        walk(small, store, campaign, said, commands=commands)
        done = store.campaigns.get(campaign)
    assert done.state is CampaignState.DONE
    assert len(said) == len(set(said)) == 4, "a command that ended well is run again"


def test_nothing_begins_outside_the_windows_and_others_pauses_are_respected() -> None:
    small, said = furnished(), list[str]()
    shut = Policy(calendar=Calendar(blackouts=(Span(),)))
    with Store.open("sqlite://") as store:
        campaign = begin(small, store)
        stopped = walk(small, store, campaign, said, policy=shut)
        assert "no window is open" in stopped.reason
        assert {one.step for one in stopped.hosts} == {HostStep.WAITING}
        small.world.machines["h2"].node_state = NodeState.PAUSED
        done = walk(small, store, campaign, said)
        steps = {one.host: one.step for one in done.hosts}
    assert steps == dict.fromkeys(HOSTS, HostStep.DONE) | {"h2": HostStep.SKIPPED}
    assert is_paused(small, "h2")
