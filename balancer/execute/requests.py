"""Following a request that another process carries out, by reading the store alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from balancer.clock import Clock
from balancer.errors import ExitCode, UnreachableError
from balancer.execute.machine import IN_FLIGHT
from balancer.execute.progress import MoveProgress, News, NewsKind, OnProgress, Progress
from balancer.model.outcome import MigrationState
from balancer.store.records import MoveRecord, RunRecord, Transition, TransitionKind
from balancer.store.requests import HowToStop, Request, RequestState
from balancer.store.store import Store

FOLLOW_S = 0.5
# Between two visits nobody holds a cluster; workers leave a mark that they look after it.
SERVED = "served"
SERVED_S = 30.0
# An executor that is silent for longer than its lease has ended; after so long somebody should
# have taken over.
PATIENCE_S = 120.0

_NEWS = {
    MigrationState.RUNNING.value: NewsKind.STARTED,
    MigrationState.DONE.value: NewsKind.MOVED,
    MigrationState.FAILED.value: NewsKind.FAILED,
    MigrationState.CANCELLED.value: NewsKind.CANCELLED,
    MigrationState.SKIPPED.value: NewsKind.SKIPPED,
    MigrationState.UNKNOWN.value: NewsKind.LOST,
}


def is_served(store: Store, cluster: str, clock: Clock) -> bool:
    """Tell whether somebody carries out requests: who holds the cluster, or workers in waiting."""
    lease = store.leases.current(cluster, clock.now())
    if lease is not None:
        return lease.serves
    seen = store.marks.get(cluster, SERVED)
    return seen is not None and abs((clock.now() - seen).total_seconds()) < SERVED_S


def run_of(store: Store, request: Request) -> RunRecord | None:
    """Return the run that a request came to; None as long as there is none."""
    runs = store.journal.runs(request.cluster)
    return next((run for run in runs if request.plan and run.plan == request.plan), None)


@dataclass(slots=True)
class _Follower:
    """What has been seen of one request so far."""

    store: Store
    clock: Clock
    began_s: float
    run: int = 0  # the one that is followed; a drain may come to several
    shown: int = 0  # lines of its journal that were told
    labels: dict[int, str] = field(default_factory=dict)

    def progress(self, run: RunRecord) -> Progress:
        """Return where a run stands, with the news since the last call."""
        if run.id != self.run:
            self.run, self.shown = run.id, 0
        moves = self.store.journal.moves(run.id)
        self.labels = {move.id: _label(move) for move in moves}
        lines = self.store.journal.transitions(run.id)
        news = tuple(filter(None, (self._news(line, moves) for line in lines[self.shown :])))
        self.shown = len(lines)
        now_s = self.clock.monotonic_s()
        done = sum(move.state is MigrationState.DONE for move in moves)
        ended = sum(move.state.is_final for move in moves)
        running = sum(move.state in IN_FLIGHT for move in moves)
        return Progress(
            at=self.clock.now(),
            elapsed_s=now_s - self.began_s,
            total=len(moves),
            done=done,
            failed=ended - done,
            running=running,
            waiting=len(moves) - ended - running,
            eta_s=None,
            moves=tuple(self._move(move) for move in moves),
            settings=(),
            news=news,
        )

    def _move(self, move: MoveRecord) -> MoveProgress:
        """Return where a move stands; while it runs, as far as the forecast lets one guess."""
        elapsed_s = 0.0
        if move.started_at is not None and not move.state.is_final:
            elapsed_s = max(0.0, (self.clock.now() - move.started_at).total_seconds())
        guessed = int(min(99.0, 100 * elapsed_s / move.expected_s)) if move.expected_s > 0 else 0
        return MoveProgress(
            migration=move.migration,
            vm=move.vm,
            name=move.name,
            source=move.source,
            target=move.target,
            transport=move.transport,
            state=move.state,
            percent=max(move.percent, guessed) if not move.state.is_final else move.percent,
            queued=False,
            elapsed_s=elapsed_s,
            expected_s=move.expected_s,
            reason=move.reason,
            why=move.why,
        )

    def _news(self, line: Transition, moves: tuple[MoveRecord, ...]) -> News | None:
        if line.kind is not TransitionKind.MOVE or line.state not in _NEWS:
            return None
        move = next((one for one in moves if one.id == line.subject), None)
        if move is None:
            return None
        kind = _NEWS[line.state]
        told = {NewsKind.STARTED: f"by {move.transport.value}", NewsKind.MOVED: "done"}
        text = line.reason or told.get(kind, line.state)
        return News(kind, move.migration, f"{self.labels[move.id]}: {text}")


def _label(move: MoveRecord) -> str:
    return f"{move.name} from {move.source} to {move.target}"


def follow(
    store: Store,
    number: int,
    clock: Clock,
    *,
    interrupted: Callable[[], bool],
    on_plan: Callable[[str], None],
    on_progress: OnProgress,
    on_look: Callable[[], None] = lambda: None,
) -> Request | None:
    """Wait for the answer to a request, telling how far it is; None if nobody is there to take it.

    Asked to stop, it asks for the request's end and goes on waiting for that. `on_plan` is told
    the id of the plan that the request came to; `on_look` is called at every look.

    Raises:
        UnreachableError: Whoever had taken it has gone, and nobody has come in its place.
    """
    follower = _Follower(store, clock, clock.monotonic_s())
    asked_to_end, planned, alone_since_s = False, False, None
    while True:
        on_look()
        request = store.requests.get(number)
        if interrupted() and not asked_to_end:
            asked_to_end = True
            request = store.requests.cancel(
                number, HowToStop.FINISH, clock.now(), ExitCode.INTERRUPTED
            )
        if request.plan and not planned:
            planned = True
            on_plan(request.plan)
        if (run := run_of(store, request)) is not None:
            on_progress(follower.progress(run))
        if request.state.is_over:
            return request
        if is_served(store, request.cluster, clock):
            alone_since_s = None
        elif request.state is RequestState.WAITING:
            withdrawn = store.requests.cancel(
                number, HowToStop.FINISH, clock.now(), ExitCode.INTERRUPTED
            )
            if withdrawn.state is RequestState.CANCELLED:
                return None
        else:
            now_s = clock.monotonic_s()
            alone_since_s = now_s if alone_since_s is None else alone_since_s
            if now_s - alone_since_s > PATIENCE_S:
                raise UnreachableError(
                    f"whoever carried out request {number} has ended, and nobody has taken over",
                    remedy="start the service, or any command that acts: it ends what was begun",
                )
        clock.sleep(FOLLOW_S)
