"""The order of a campaign: least moved, compared with every order there is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from random import Random

import pytest

from balancer.planner import campaign
from balancer.planner.campaign import HostLoad, Toll, Turns, loads_of, order_turns, toll_of
from balancer.policy.policy import Policy, Reserve
from tests.notation import cluster

GIB = 2**30


def drawn(seed: int, hosts: int) -> dict[str, HostLoad]:
    random = Random(seed)  # noqa: S311 -- a reproducible case
    made = {}
    for number in range(hosts):
        room = random.choice((64, 128, 256)) * GIB
        made[f"h{number}"] = HostLoad(round(room * random.uniform(0.0, 0.9)), room)
    return made


def every(hosts: list[str], at_once: int) -> Iterator[Turns]:
    """Yield every order of turns, by cutting every permutation everywhere."""
    for order in permutations(sorted(hosts)):
        for cuts in range(2 ** (len(order) - 1)):
            turns, turn = [], [order[0]]
            for at, host in enumerate(order[1:]):
                if cuts >> at & 1:
                    turns.append(tuple(sorted(turn)))
                    turn = []
                turn.append(host)
            turns.append(tuple(sorted(turn)))
            if all(len(each) <= at_once for each in turns):
                yield tuple(turns)


def slowly(loads: dict[str, HostLoad], turns: Turns, hosts: list[str], *, restore: bool) -> Toll:
    """Return the toll as one would reckon it on paper: host by host, a ledger for each."""
    holds = {host: load.movable_bytes for host, load in loads.items()}
    through = {host for host in loads if host not in hosts}
    lacking, moved, waiting = 0, 0.0, 0.0
    for turn in turns:
        away = sum(holds[host] for host in turn)
        free = {h: max(0.0, loads[h].room_bytes - holds[h]) for h in loads if h not in turn}
        if away > sum(free.values()) * (1 + 1e-12):
            if len(turn) > 1:
                return campaign._NEVER
            lacking += 1
            through |= {turn[0]}
            continue
        moved += away * (2 if restore else 1)
        waiting += moved
        if restore:
            continue
        for stage in (through, set(loads) - through - set(turn)):
            space = sum(free[host] for host in stage if host not in turn)
            taken = min(away, space)
            for host in stage:
                if taken and space:
                    holds[host] += taken * free[host] / space
            away -= taken
        for host in turn:
            holds[host] = 0.0
        through |= set(turn)
    return Toll(lacking, round(moved), len(turns), round(waiting))


@pytest.mark.parametrize("restore", [True, False], ids=["restore", "stay"])
@pytest.mark.parametrize("hosts", [2, 3, 4, 5])
def test_no_order_moves_less(hosts: int, restore: bool) -> None:  # noqa: FBT001 -- a case
    for seed in range(12 if hosts < 5 else 4):
        loads = drawn(seed, hosts)
        walked = sorted(loads)[: hosts - seed % 2]  # sometimes one host has no turn
        at_once = 1 + seed % 3
        turns = order_turns(loads, walked, restore=restore, at_once=at_once)
        best = min(slowly(loads, one, walked, restore=restore) for one in every(walked, at_once))
        assert slowly(loads, turns, walked, restore=restore) == best, (seed, turns)
        assert toll_of(loads, turns, walked, restore=restore) == best


def test_local_search_finds_what_looking_everywhere_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = 0
    for seed in range(40):
        loads, at_once = drawn(seed, 5), 1 + seed % 3
        exact = order_turns(loads, sorted(loads), restore=bool(seed % 2), at_once=at_once)
        monkeypatch.setattr(campaign, "EXACT_MAX", 0)
        near = order_turns(loads, sorted(loads), restore=bool(seed % 2), at_once=at_once)
        monkeypatch.undo()
        tolls = [toll_of(loads, turns, loads, restore=bool(seed % 2)) for turns in (exact, near)]
        assert tolls[0] is not None
        assert tolls[1] is not None
        assert tolls[1].lacking == tolls[0].lacking
        assert tolls[1].moved_bytes <= 1.05 * tolls[0].moved_bytes
        found += tolls[0] == tolls[1]
    assert found >= 36


def test_what_lands_on_a_host_that_is_through_does_not_move_again() -> None:
    text = """
    h1 64G: a 20G, b 20G
    h2 64G: c 8G
    h3 64G: d 30G
    """
    loads = loads_of(cluster(text), Policy())
    turns = order_turns(loads, ["h1", "h2", "h3"], restore=False)
    assert turns == (("h2",), ("h3",), ("h1",))
    toll = toll_of(loads, turns, ["h1", "h2", "h3"], restore=False)
    # c moves twice: first to a host whose turn comes later. a, b and d move once.
    assert toll is not None
    assert toll.moved_bytes == (2 * 8 + 30 + 40) * GIB


def test_with_room_elsewhere_several_leave_together_and_no_more_than_allowed() -> None:
    loads = {f"h{n}": HostLoad(10 * GIB, 64 * GIB) for n in range(6)}
    turns = order_turns(loads, sorted(loads), restore=True, at_once=3)
    assert [len(turn) for turn in turns] == [3, 3]
    never_both = frozenset({"h0", "h1"})
    turns = order_turns(
        loads,
        sorted(loads),
        restore=True,
        at_once=3,
        may_leave=lambda hosts: not never_both <= hosts,
    )
    assert len(turns) == 2
    assert not any(never_both <= set(turn) for turn in turns)
    alone = order_turns(loads, sorted(loads), restore=True, may_leave=lambda _: False)
    assert alone == tuple((host,) for host in sorted(loads))


def test_sixty_four_hosts_are_ordered_in_seconds_and_the_same_way_twice() -> None:
    loads = drawn(7, 64)
    first, second = (order_turns(loads, sorted(loads), restore=False, at_once=4) for _ in range(2))
    assert first == second
    assert sorted(host for turn in first for host in turn) == sorted(loads)
    toll = toll_of(loads, first, loads, restore=False)
    total = sum(load.movable_bytes for load in loads.values())
    assert toll is not None
    assert toll.lacking == 0
    assert toll.moved_bytes < 1.02 * total


def test_what_cannot_be_moved_and_the_reserve_are_no_room() -> None:
    text = "h1 64G: a 20G, b 4G !assigned_device, c 8G off\nh2 64G paused: d 8G"
    loads = loads_of(cluster(text), Policy(reserve=Reserve(memory_fraction=0.25)))
    assert loads["h1"] == HostLoad(20 * GIB, (48 - 4) * GIB)
    assert loads["h2"].room_bytes == 0
