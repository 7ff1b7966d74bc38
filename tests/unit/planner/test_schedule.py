from __future__ import annotations

import dataclasses

import pytest

from balancer.model.cluster import Cluster, ManagedBy, MigrationNetwork, Transport
from balancer.model.rule import Rule, SelectBy, Selector
from balancer.planner import plan, refit
from balancer.planner.carry import carry, legalise
from balancer.planner.optimise import Found
from balancer.planner.problem import Problem, build
from balancer.planner.refit import finish, fitted
from balancer.planner.schedule import Schedule, schedule
from balancer.planner.score import legal_end
from balancer.planner.timing import Leg, Timing, makespan_bound
from balancer.planner.tokens import Purse
from balancer.planner.transport import as_set, changes, pays
from balancer.planner.work import Work
from balancer.policy.policy import Goal, Limits, Policy, Prefer, TransportPolicy
from balancer.policy.rules import Apart
from tests.notation import cluster
from tests.unit.planner.oracle import NOW, faults


def names(*of: str) -> tuple[Selector, ...]:
    return tuple(Selector(SelectBy.EXACT, name) for name in of)


def scheduled(problem: Problem, *moves: str, urgent: tuple[str, ...] = ()) -> Schedule:
    """Schedule moves written `vm>host`."""
    vms = {vm.id: at for at, vm in enumerate(problem.vms)}
    hosts = {host.name: at for at, host in enumerate(problem.hosts)}
    found = []
    for text in moves:
        vm, host = text.split(">")
        found.append((vms[vm], int(problem.home[vms[vm]]), hosts[host]))
    return schedule(Timing(problem), found, as_set(problem), {vms[vm] for vm in urgent}, Work(1e9))


def order(problem: Problem, found: Schedule) -> list[str]:
    return [
        f"{problem.vms[one.leg.vm].id}>{problem.hosts[one.leg.target].name}" for one in found.timed
    ]


def test_a_purse_spends_free_tokens_before_anybody_elses() -> None:
    purse = Purse(3, [[7, 2], [8, 2]])
    assert purse.take(3) == set()
    assert purse.take(3) == {7, 8}
    assert purse.total() == 1


def test_an_arrival_waits_for_the_departure_it_needs_and_for_no_other() -> None:
    problem = build(cluster("h1 16G x2: a 12G, c 2G\nh2 32G x2: b 8G\nh3 32G x2:"), Policy())
    found = scheduled(problem, "b>h1", "a>h3", "c>h3")
    assert found.stuck == ()
    by_vm = {problem.vms[one.leg.vm].id: one for one in found.timed}
    after = {problem.vms[found.timed[at].leg.vm].id for at in by_vm["b"].after}
    assert after == {"a"}
    assert by_vm["b"].start_s >= by_vm["a"].end_s
    assert by_vm["a"].after == by_vm["c"].after == ()


def test_a_deadlock_is_broken_over_a_third_host_and_counts_against_the_cap() -> None:
    text = "h1 16G: a 12G\nh2 16G: b 10G\nh3 16G:"
    found = scheduled(build(cluster(text), Policy()), "a>h2", "b>h1")
    assert order(build(cluster(text), Policy()), found) == ["b>h3", "a>h2", "b>h1"]
    assert [one.stopover for one in found.timed] == [True, False, False]
    assert found.timed[2].after[0] == 0
    capped = build(cluster(text), Policy(), 2)
    assert len(scheduled(capped, "a>h2", "b>h1").stuck) == 2


def test_without_a_way_around_moves_are_given_up_and_the_rest_is_legal() -> None:
    seen = cluster("h1 16G: a 12G 1c\nh2 16G: b 10G 9c\nh3 4G: c 1G 9c")
    problem = build(seen, Policy())
    place = problem.home.copy()
    place[[0, 1]] = [1, 0]
    found = carry(problem, place, Work(1e9), "auto")
    assert len(found.dropped) == 2
    assert found.schedule.timed == ()
    assert all("no way around" in text for text in found.dropped.values())


def test_a_cap_that_holds_during_the_moves_orders_them() -> None:
    seen = cluster(
        "h1 x2: a 8G\nh2 x2: b 4G\nh3 x2:",
        rules=(Apart(vms=names("a", "b")),),
    )
    problem = build(seen, Policy())
    found = scheduled(problem, "b>h1", "a>h3")
    assert order(problem, found) == ["a>h3", "b>h1"]
    assert found.timed[1].after == (0,)
    relaxed = dataclasses.replace(seen, rules=(Apart(vms=names("a", "b"), during=False),))
    assert scheduled(build(relaxed, Policy()), "b>h1", "a>h3").timed[1].after == ()


def test_relief_goes_first_then_the_longest() -> None:
    problem = build(cluster("h1: a 2G, b 8G, c 4G\nh2:"), Policy())
    moves = ("a>h2", "b>h2", "c>h2")
    assert order(problem, scheduled(problem, *moves)) == ["b>h2", "c>h2", "a>h2"]
    urgent = scheduled(problem, *moves, urgent=("a",))
    assert order(problem, urgent) == ["a>h2", "b>h2", "c>h2"]


@pytest.mark.parametrize(("slots", "cluster_wide"), [(1, None), (2, None), (2, 1)])
def test_slots_are_never_exceeded_and_the_bound_is_below_the_makespan(
    slots: int, cluster_wide: int | None
) -> None:
    seen = cluster(f"h1 x{slots}: a 8G, b 8G, c 4G\nh2 x{slots}: d 8G\nh3 x{slots}:\nh4 x{slots}:")
    policy = Policy(limits=Limits(concurrent_per_cluster=cluster_wide))
    problem = build(seen, policy)
    found = scheduled(problem, "a>h3", "b>h4", "c>h3", "d>h4")
    legs = [one.leg for one in found.timed]
    for moment in (one.start_s + 1e-3 for one in found.timed):
        running = [one for one in found.timed if one.start_s <= moment < one.end_s]
        assert len(running) <= (cluster_wide or 99)
        for host in range(4):
            assert sum(host in (one.leg.source, one.leg.target) for one in running) <= slots
    bound = makespan_bound(Timing(problem), legs)
    assert bound <= found.makespan_s + 1e-3
    assert found.makespan_s <= 1.5 * bound


def test_flows_that_share_a_link_share_its_rate() -> None:
    seen = cluster("h1 tcp x2: a 16G, b 16G\nh2 tcp x2:\nh3 tcp x2:")
    problem = build(seen, Policy())
    timing = Timing(problem)
    alone = timing.alone(Leg(0, 0, 1, Transport.TCP))
    both = scheduled(problem, "a>h2", "b>h3")
    assert both.makespan_s > 1.7 * alone.duration_s
    assert both.timed[0].bytes > alone.bytes, "slower copies dirty more"


def test_what_cannot_be_legal_goes_home() -> None:
    problem = build(cluster("h1 32G: a 12G, b 12G\nh2 16G:"), Policy())
    place = problem.home.copy()
    place[:] = 1
    assert not legal_end(problem, place)
    mended = legalise(problem, place)
    assert legal_end(problem, mended)
    assert (mended != problem.home).sum() == 1


BIG = "h1 {0}: a 32G 2c, b 32G 2c, c 32G 2c\nh2 {0}:\nh3 {0}:"


def fast(seen: Cluster, *, managed: str = "") -> Cluster:
    """Give every host four RDMA cards, and one host to Network ATC."""
    network = MigrationNetwork("m", link_bps=25e9, nics=4, rdma=True)
    hosts = tuple(
        dataclasses.replace(
            host,
            memory_bytes=4 * host.memory_bytes,
            migration=dataclasses.replace(
                host.migration,
                networks=(network,),
                managed_by=(
                    ManagedBy.NETWORK_ATC if host.name == managed else host.migration.managed_by
                ),
            ),
        )
        for host in seen.hosts
    )
    return dataclasses.replace(seen, hosts=hosts)


def relieving(*rules: Rule) -> Policy:
    return Policy(rules=rules, goal=Goal.BALANCE, transport=TransportPolicy(write_settings=True))


def test_settings_change_where_it_pays_and_only_on_hosts_that_take_part() -> None:
    seen = fast(cluster(BIG.format("tcp")))
    policy = relieving(Apart(vms=names("a", "b", "c")))
    made = plan(seen, policy, now=NOW)
    assert {change.during for change in made.settings} == {"smb"}
    assert {one.transport for one in made.migrations} == {Transport.SMB}
    part = {host for one in made.migrations for host in (one.source, one.target)}
    assert {change.host for change in made.settings} <= part
    assert faults(seen, policy, made) == []
    kept = dataclasses.replace(policy, transport=TransportPolicy())
    slow = plan(seen, kept, now=NOW)
    assert slow.settings == ()
    assert pays(slow.makespan_s, made.makespan_s)


def test_what_network_atc_manages_is_never_written() -> None:
    policy = relieving(Apart(vms=names("a", "b", "c")))
    made = plan(fast(cluster(BIG.format("tcp")), managed="h1"), policy, now=NOW)
    assert made.migrations
    assert "h1" not in {change.host for change in made.settings}


def test_a_small_gain_is_not_worth_a_setting() -> None:
    policy = relieving(Apart(vms=names("a", "b", "c")))
    made = plan(cluster("h1 tcp: a 1G, b 1G, c 1G\nh2 tcp:\nh3 tcp:"), policy, now=NOW)
    assert made.migrations
    assert made.settings == ()


def test_a_preferred_transport_is_written_and_as_set_never_is() -> None:
    seen = cluster(BIG.format("compression"), rules=(Apart(vms=names("a", "b", "c")),))
    for prefer in (Prefer.TCP, Prefer.SMB, Prefer.AS_SET):
        policy = Policy(transport=TransportPolicy(prefer=prefer, write_settings=True))
        made = plan(seen, policy, now=NOW)
        expected = set() if prefer is Prefer.AS_SET else {prefer.value}
        assert {change.during for change in made.settings} == expected
        assert faults(seen, policy, made) == []


def test_no_settings_without_moves() -> None:
    policy = Policy(transport=TransportPolicy(prefer=Prefer.SMB, write_settings=True))
    assert plan(cluster("h1: a\nh2: b"), policy, now=NOW).settings == ()
    problem = build(cluster("h1: a\nh2: b"), policy)
    assert changes(problem, as_set(problem)) == ()


def test_where_no_order_of_moves_reaches_the_end_another_is_searched_for() -> None:
    """a and b fit nowhere while the other is there; that x or y may go was not looked for."""
    seen = cluster(
        "h1 64G 16c: a 40G 1c, x 4G 6c, y 4G 6.5c\n"
        "h2 64G 16c: b 40G 0.1c, c 8G 1c\nh3 64G 16c: d 40G 0.1c"
    )
    problem = build(seen, Policy())
    a, b, x, y = (at for name in "abxy" for at, vm in enumerate(problem.vms) if vm.name == name)
    place = problem.home.copy()
    place[[a, b]] = problem.home[[b, a]]
    assert legal_end(problem, place)
    work = Work(3e6)
    assert finish(problem, place, work, "auto").stuck.keys() >= {a, b}
    found, carried = fitted(problem, Found(place), work, 3e6, 0, "auto")
    assert (carried.place[[x, y]] != problem.home[[x, y]]).any()
    assert (found.place == carried.place).all()
    assert not carried.stuck


def test_a_migration_is_left_for_a_stop_over_before_targets_are_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stop-over takes a migration, too: with all of them used for moves there can be none."""
    seen = cluster("h1 64G 16c: a 40G 1c, x 2G 1c\nh2 64G 16c: b 40G 0.1c\nh3 64G 16c: d 40G 0.1c")
    problem = build(seen, Policy(limits=Limits(migrations_per_run=3)))
    a, b, x = (at for name in "abx" for at, vm in enumerate(problem.vms) if vm.name == name)
    place = problem.home.copy()
    place[[a, b, x]] = [1, 0, 2]
    asked: list[tuple[int, bool]] = []

    def once(task: Problem, *_: object, proof: bool) -> Found:
        assert not proof  # what is only searched again gets none
        asked.append((task.cap, bool(task.allowed[a, 1] and task.allowed[b, 0])))
        return Found(place)

    monkeypatch.setattr(refit, "once", once)
    fitted(problem, Found(place), Work(3e6), 3e6, 0, "auto")
    assert asked == [(2, True), (3, False), (3, False), (2, True)]  # the last for one more than x


def test_what_one_migration_relieves_is_not_lost_with_an_end_that_cannot_be_reached() -> None:
    seen = cluster(
        "h1 32G 16c: a 8G 1c, b 3G 2c, d 12G 1c, g 8G 0.5c\n"
        "h2 32G 16c: c 2G 1c, e 8G 2c, f 12G 0.5c"
    )
    made = plan(seen, Policy(), now=NOW)
    assert made.score.after < made.score.before
    assert [(one.name, one.target) for one in made.migrations] == [("b", "h2")]
