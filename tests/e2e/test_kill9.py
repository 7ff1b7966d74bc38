"""`kill -9` at every commit to the journal, on either side of it, over real WinRM."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from balancer.execute.held import why_unwell
from balancer.execute.machine import IN_FLIGHT
from balancer.formats.plan import plan_to_json
from balancer.gateway.simulator.faults import Fault, FaultKind
from balancer.gateway.simulator.mishaps import inject
from balancer.gateway.simulator.windows import Hresult, VmStateCode
from balancer.judge import judge
from balancer.model.cluster import Cluster
from balancer.model.outcome import MigrationState, Why
from balancer.model.plan import Plan
from balancer.policy.load import parse_policy
from balancer.store.records import MoveRecord, SettingRecord, TransitionKind
from balancer.store.store import Store
from tests.e2e.kills import KILLED, Bench, Ended, Kill, bench, pace, small_at
from tests.simulation.draining import everything_is_somewhere, furnish, holds, is_paused
from tests.simulation.small import GIB, Small

FACTOR = 10.0  # how much faster than life hosts and processes live
HOSTS, EACH = 8, 5
# A plan of 40 moves: begun and ended; 3 lines a move, and 3 a setting of each host; one migration
# fails once (planned, intended, running again) and one reply is lost (unknown).
COMMITS = 2 + 40 * 3 + HOSTS * 3 + 3 + 1
PARTS = 6
TRIES = 3  # runs in which the last point is waited for
AT_ONCE = 3  # points at a time in one part: what was killed is waited for more than worked on

POLICY = """
version: 1
transport: {write_settings: true}
limits: {migrations_per_run: 100}
rules:
  - apart: {vms: [v11, v21, v31]}
  - avoid: {vms: [v12], hosts: [h1]}
"""

POINTS = [Kill(at, after) for at, after in product(range(1, COMMITS + 1), (False, True))]


@dataclasses.dataclass
class Scene:
    """A bench with the plan that is to be carried out on it, and the snapshot that it is for."""

    bench: Bench
    cluster: Cluster
    plan: Plan
    file: Path


def forty_moves(small: Small) -> Plan:
    """Return a plan that sends each of a host's five VMs to another host."""
    moves = [
        (f"m{host}{n}", f"v{host}{n}", f"h{(host + (n * 2 + 1) % 7) % HOSTS + 1}")
        for host, n in product(range(1, HOSTS + 1), range(1, EACH + 1))
    ]
    after: dict[str, tuple[str, ...]] = {f"m{h}5": (f"m{h}2",) for h in range(1, HOSTS + 1)}
    plan = small.plan(moves, after=after, smb=[f"h{n}" for n in range(1, HOSTS + 1)])
    return dataclasses.replace(plan, expires_at=plan.created_at + timedelta(days=1))


@contextmanager
def forty(directory: Path) -> Iterator[Scene]:
    beat = pace(FACTOR)
    small = small_at(beat, hosts=HOSTS, each=EACH, slots=4)
    for host in range(1, HOSTS + 1):  # one is large, so that it is still moving at the next start
        small.world.guests[small.vm(f"v{host}1")].assigned_bytes = 8 * GIB
    lost = Fault(FaultKind.REPLY_LOST, host="h1", function="Start-LbMigration", count=1)
    reset = int(Hresult.CONNECTION_RESET)
    fails = Fault(FaultKind.MOVE_FAILS, vm=small.vm("v45"), code=reset, percent=30, count=1)
    cluster, plan = small.gateway.observe().cluster, forty_moves(small)
    for fault in (lost, fails):
        inject(small.world, fault)
    with bench(directory, small, beat, POLICY) as made:
        file = directory / "plan.json"
        file.write_text(plan_to_json(plan), "utf-8")
        yield Scene(made, cluster, plan, file)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in memory, where there is one: SIGKILL is no power cut, and commits are many."""
    memory = Path("/dev/shm")  # noqa: S108 -- a directory of our own in it
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as made:
        yield Path(made)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_undisturbed_the_plan_is_carried_out_with_so_many_commits(place: Path) -> None:
    with forty(place) as scene:
        ended = scene.bench.run("apply", scene.file, "--json")
        assert ended.code == 0, ended.stderr
        assert ended.commits == COMMITS
        states = Counter(move["state"] for move in ended.document["migrations"])
        assert states == {"done": 40}
        assert set(scene.bench.small.options().values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_killed_at_any_commit_the_next_start_mends_everything(part: int, place: Path) -> None:
    points = POINTS[part::PARTS]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        faults = zip(points, pool.map(lambda kill: why_not(kill, place), points), strict=True)
        assert not {kill: fault for kill, fault in faults if fault}


class ShortRunError(Exception):
    """The last commit did not come: a look that came late found over what it was to find moving."""


def why_not(kill: Kill, directory: Path) -> str:
    """Return what was wrong after a kill and another start; empty when nothing was."""
    own = directory / f"{kill.at} {'after' if kill.after else 'before'}"
    for attempt in range(TRIES):
        (own / str(attempt)).mkdir(parents=True)
        try:
            with forty(own / str(attempt)) as scene:
                killed_and_mended(scene, kill)
        except ShortRunError:
            continue
        except AssertionError as error:
            return str(error) or "an assertion without words"
        return ""
    return f"in {TRIES} runs it did not come to that commit"


def killed_and_mended(scene: Scene, kill: Kill) -> None:
    first = scene.bench.run("apply", scene.file, "--json", kill=kill)
    if first.code == 0 and COMMITS - 1 == first.commits < kill.at:
        raise ShortRunError
    assert first.code == KILLED, f"it was not killed: {first.stderr[-500:]}"
    asked = Counter(scene.bench.accepted)
    with Store.open(scene.bench.store) as store:
        moves, settings = store.journal.open_moves("small"), store.journal.open_settings("small")
    again = scene.bench.run("apply", scene.file, "--max-migrations", 0, "--json")
    assert again.code == 3, again.stderr[-2000:]
    assert scene.bench.accepted == asked, "something was issued again"
    with Store.open(scene.bench.store) as store:
        nothing_is_left(store)
        journal_tells_the_truth(scene, store)
        it_is_told(again, store, moves, settings)
        the_cluster_is_legal(scene, store)


def nothing_is_left(store: Store) -> None:
    assert not store.journal.open_moves("small")
    assert not store.journal.open_settings("small")
    assert not store.journal.open_runs("small")
    assert not store.requests.open("small"), "a request waits for ever"


def journal_tells_the_truth(scene: Scene, store: Store) -> None:
    small = scene.bench.small
    everything_is_there(small)
    assert set(small.options().values()) == {1}, "a host setting was not restored"
    intended: Counter[str] = Counter()
    at = {vm.id: vm.host for vm in scene.cluster.vms}
    for run in store.journal.runs("small"):
        moves = {move.id: move for move in store.journal.moves(run.id)}
        for line in store.journal.transitions(run.id):
            if line.kind is TransitionKind.MOVE and line.state == MigrationState.INTENDED.value:
                intended[moves[line.subject].vm] += 1
        at |= {m.vm: m.target for m in moves.values() if m.state is MigrationState.DONE}
    assert scene.bench.accepted <= intended, "more was asked for than was written down"
    assert {guest.id: guest.host for guest in small.world.guests.values()} == at


def everything_is_there(small: Small) -> None:
    with small.world.present():
        on = [key for guests in small.world.guests_on.values() for key in guests]
        assert sorted(on) == sorted(small.world.guests), "a VM is lost or doubled"
        guests = small.world.guests.values()
        assert {guest.state for guest in guests} == {VmStateCode.RUNNING}


def it_is_told(
    again: Ended,
    store: Store,
    moves: tuple[MoveRecord, ...],
    settings: tuple[SettingRecord, ...],
) -> None:
    """The report of the next start says what became of everything that was open."""
    notes = again.document["notes"]
    for move in moves:
        ended = next(m for m in store.journal.moves(move.run) if m.id == move.id)
        label = f"adopted: {move.name} from {move.source} to {move.target}"
        if move.state is MigrationState.PLANNED:
            assert (ended.state, ended.why) == (MigrationState.SKIPPED, Why.INTERRUPTED)
        else:
            assert move.state in IN_FLIGHT
            assert f"{label}, {move.state.value} when its executor ended" in notes
            assert any(note.startswith(f"{label} ended {ended.state.value}") for note in notes)
    for setting in settings:
        assert f"transport of {setting.host} is compression again" in notes
    if moves or settings:
        assert any("was cut short; a later start brought it to an end" in note for note in notes)


def the_cluster_is_legal(scene: Scene, store: Store) -> None:
    """What was done of the plan is a legal plan, and leads to what is seen now."""
    done = {
        move.migration
        for run in store.journal.runs("small")
        for move in store.journal.moves(run.id)
        if move.state is MigrationState.DONE
    }
    migrations = tuple(each for each in scene.plan.migrations if each.id in done)
    part = dataclasses.replace(scene.plan, migrations=migrations)
    assert not judge(scene.cluster, parse_policy(POLICY, "policy"), part)
    seen = scene.bench.small.new_gateway().observe()
    assert not seen.in_flight
    assert not why_unwell(seen)


def maintained(bench: Bench, verb: str, kill: Kill | None = None) -> Ended:
    more = ("--restore",) if verb == "resume" else ()
    return bench.run(verb, "h1", *more, "--json", kill=kill)


@contextmanager
def furnished(directory: Path) -> Iterator[Bench]:
    directory.mkdir()
    beat = pace(FACTOR)
    small = furnish(small_at(beat, hosts=4, each=4))
    with bench(directory, small, beat, "version: 1") as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("verb", ["drain", "resume"])
def test_killed_in_maintenance_the_same_command_ends_it(verb: str, place: Path) -> None:
    with furnished(place / "undisturbed") as made:
        emptied(made, verb)
        whole = maintained(made, verb)
        assert whole.code == 0, whole.stderr
    assert whole.commits > 10
    points = [Kill(at, after=at % 4 == 1) for at in range(1, whole.commits, 2)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda kill: maintained_twice(verb, kill, place / str(kill.at)), points):
            pass


def emptied(made: Bench, verb: str) -> set[str]:
    """Return what is on the host; empty it if it is to be taken back."""
    everything = holds(made.small, "h1")
    if verb == "resume":
        assert maintained(made, "drain").code == 0
    return everything


def maintained_twice(verb: str, kill: Kill, directory: Path) -> None:
    with furnished(directory) as made:
        small, everything = made.small, emptied(made, verb)
        first = maintained(made, verb, kill)
        assert first.code == KILLED, first.stderr
        again = maintained(made, verb)
        assert again.code == 0, again.stderr
        assert again.document["end"] == "done"
        assert is_paused(small, "h1") == (verb == "drain")
        assert holds(small, "h1") == (set() if verb == "drain" else everything)
        everything_is_somewhere(small)
        assert max(made.accepted.values()) == (1 if verb == "drain" else 2)
        with Store.open(made.store) as store:
            nothing_is_left(store)
            assert not store.drains.open("small")
