"""Random plans among random faults, by seed: whatever happens, what we promise holds.

Reproduce a failing seed with `pytest tests/simulation/test_seeds.py -k 'seed-17'`.
"""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from balancer.errors import InputError, RefusedError, UnreachableError
from balancer.execute.charge import Charge
from balancer.execute.executor import execute
from balancer.execute.machine import IN_FLIGHT
from balancer.execute.progress import OnInterrupt, Progress
from balancer.execute.recover import recover
from balancer.gateway.simulator.faults import Fault, FaultKind, Scheduled
from balancer.gateway.simulator.mishaps import schedule
from balancer.model.outcome import MigrationState
from balancer.model.plan import Plan
from balancer.policy.policy import Policy, TransportPolicy
from balancer.store.records import TransitionKind
from balancer.store.store import Store
from tests.simulation.small import Small
from tests.simulation.traps import PowerCut, Trap, TrappedGateway, trapped
from tests.stores import new_store

SEEDS = 60
LONGEST_S = 6 * 3600.0
POLICY = Policy(transport=TransportPolicy(write_settings=True))
HOSTS = ("h1", "h2", "h3", "h4")
FUNCTIONS = ("", "Start-LbMigration", "Get-LbMigration", "Set-LbTransport", "Get-LbHost")
CODES = (0x80072746, 0x80071748, 0x800705AA, 0x80071741, 0x80004005)


def random_plan(random: Random, small: Small) -> Plan:
    moves: list[tuple[str, str, str]] = []
    after: dict[str, tuple[str, ...]] = {}
    for host in HOSTS:
        for n in random.sample(range(1, small.each + 1), random.randint(0, 3)):
            target = random.choice([other for other in HOSTS if other != host])
            moves.append((f"m{len(moves)}", f"v{host[1]}{n}", target))
    random.shuffle(moves)
    for at, (id_, _, _) in enumerate(moves):
        before = [other for other, _, _ in moves[:at]]
        after[id_] = tuple(random.sample(before, min(len(before), random.choice((0, 0, 1, 2)))))
    smb = random.sample(HOSTS, random.choice((0, 2, 4)))
    ends = {host for _, name, target in moves for host in (f"h{name[1]}", target)}
    return small.plan(moves, after=after, smb=[host for host in smb if host in ends])


def random_faults(random: Random) -> list[Scheduled]:
    table: list[Scheduled] = []
    for _ in range(random.randint(0, 5)):
        kind = random.choice(
            [
                FaultKind.UNREACHABLE,
                FaultKind.SILENT,
                FaultKind.GARBAGE,
                FaultKind.REPLY_LOST,
                FaultKind.LATE,
                FaultKind.REQUEST_LOST,
                FaultKind.MOVE_FAILS,
                FaultKind.MOVE_HANGS,
                FaultKind.INCOMPATIBLE,
                FaultKind.HOST_REBOOTS,
                FaultKind.NODE_PAUSED,
                FaultKind.NODE_ISOLATED,
                FaultKind.NO_QUORUM,
            ]
        )
        fault = Fault(
            kind,
            host=random.choice(HOSTS),
            function=random.choice(FUNCTIONS),
            code=random.choice(CODES),
            percent=random.choice((5.0, 50.0, 95.0)),
            count=random.choice((1, 3)),
            lasts_s=random.choice((20.0, 120.0, 600.0)),
            delay_s=random.choice((1.0, 90.0, 600.0)),
        )
        table.append(Scheduled(random.uniform(0.0, 60.0), fault))
    return table


class Watch:
    """Looks at every report of progress; nothing may ever be too much."""

    def __init__(self, small: Small) -> None:
        self._small = small

    def __call__(self, progress: Progress) -> None:
        busy: Counter[str] = Counter()
        for move in progress.moves:
            if move.state in IN_FLIGHT:
                busy.update((move.source, move.target))
        assert all(count <= self._small.slots for count in busy.values())
        assert progress.elapsed_s < LONGEST_S
        assert progress.done + progress.failed + progress.running + progress.waiting == (
            progress.total
        )


def check(small: Small, store: Store, plan: Plan, trap: Trap) -> None:
    assert set(small.options().values()) == {1}, "a setting was not restored"
    assert not store.journal.open_moves("small")
    assert not store.journal.open_settings("small")
    assert not store.journal.open_runs("small")
    with small.world.present():
        assert len(small.world.guests) == 16
        homes = Counter(id_ for on in small.world.guests_on.values() for id_ in on)
        assert set(homes.values()) == {1}
    starts = Counter(act[1] for act in trap.acts if act[0] == "start")
    for run in store.journal.runs("small"):
        lines = store.journal.transitions(run.id)
        of = {move.id: move for move in store.journal.moves(run.id)}
        intents: Counter[str] = Counter()
        ended: set[str] = set()
        for line in lines:
            if line.kind is not TransitionKind.MOVE:
                continue
            move = of[line.subject]
            if line.state == MigrationState.INTENDED:
                intents[move.vm] += 1
                assert set(plan.migration_by_id[move.migration].after) <= ended
            if line.state == MigrationState.DONE:
                ended.add(move.migration)
        # After a power cut one may have been announced and never asked for; nothing else differs.
        assert starts <= intents
        assert intents.total() - starts.total() <= (trap.count >= (trap.at or 10**9))


@pytest.mark.parametrize("seed", [pytest.param(n, id=f"seed-{n}") for n in range(SEEDS)])
def test_whatever_happens(seed: int) -> None:
    random = Random(seed)  # noqa: S311 -- reproducible, not secret
    small, trap = Small(), Trap(random.choice((None, None, random.randint(1, 60))))
    plan = random_plan(random, small)
    schedule(small.world, random_faults(random))
    stop_s = random.choice((1e9, 1e9, 15.0))
    with new_store() as store:
        trapped(store, trap)
        gateway = TrappedGateway(small.gateway, trap)
        with store.leases.hold("small", "first", small.clock) as lease:
            try:
                how = random.choice(list(OnInterrupt))
                execute(
                    plan,
                    Charge(
                        POLICY,
                        gateway,
                        store,
                        small.clock,
                        lease,
                        interrupted=lambda: small.clock.monotonic_s() > stop_s,
                        on_progress=Watch(small),
                        on_interrupt=lambda: how,
                    ),
                )
            except PowerCut:
                assert trap.count == trap.at
            except (InputError, RefusedError, UnreachableError):
                assert not [act for act in trap.acts if act[0] == "start"]
        small.clock.sleep(3600.0)  # all faults are over
        with store.leases.hold("small", "second", small.clock) as lease:
            recover(Charge(Policy(), gateway, store, small.clock, lease))
        check(small, store, plan, trap)
