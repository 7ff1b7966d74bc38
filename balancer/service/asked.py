"""What is asked of us on one cluster: taken in order, carried out, answered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from balancer.clock import Clock
from balancer.errors import BalancerError, ExitCode
from balancer.execute.progress import OnInterrupt
from balancer.execute.set_down import why
from balancer.gateway.port import FencedError
from balancer.service.desk import Desk, Ended
from balancer.service.events import EventKind, Value
from balancer.service.stop import AbandonedError, Reason
from balancer.service.telling import Teller
from balancer.service.verbs import Verb
from balancer.store.faults import StoreError
from balancer.store.leases import Lease, LeaseLostError
from balancer.store.requests import HowToStop, Request, RequestState
from balancer.store.store import Store

CANCEL = "cancel"
RESUME = "resume"


class Asked:
    """The requests to one cluster, from the side of whoever carries them out."""

    def __init__(self, store: Store, clock: Clock, tell: Teller, verbs: Mapping[str, Verb]) -> None:
        self._requests, self._marks = store.requests, store.marks
        self._clock = clock
        self._tell = tell
        self._verbs = verbs

    def next(self, lease: Lease) -> Request | None:
        """Take the request whose turn it is: the oldest, but those first that pre-empt others."""
        waiting = [one for one in self._open() if one.state is RequestState.WAITING]
        for request in sorted(waiting, key=lambda one: not self._preempts(one)):
            if self._requests.take(lease, request.id, self._clock.now()):
                return request
        return None

    def left(self, lease: Lease) -> Iterator[Request]:
        """Yield what an executor that ended had taken and that can go on; answer the rest."""
        self._set_down(lease)
        self.answer_left(lease)
        yield from (one for one in self._open() if one.state is RequestState.TAKEN)

    def _set_down(self, lease: Lease) -> None:
        """Answer what was asked before these records were left alone for long."""
        before = self._marks.left_alone(lease.cluster)
        if before is None:
            return
        for request in self._open():
            waited = request.state is RequestState.WAITING
            if request.since > before:
                continue
            if waited and not self._requests.take(lease, request.id, self._clock.now()):
                continue
            code = ExitCode.ANSWER_IS_NO if waited else ExitCode.EXECUTED_IN_PART
            self._finish(lease, request, Ended(code, f"{why(before)}: ask again", refused=waited))

    def answer_left(self, lease: Lease) -> None:
        """Answer what an executor that ended had taken and that cannot go on."""
        text = "its executor ended; what it had begun was brought to an end"
        for request in self._open():
            verb = self._verbs.get(request.verb)
            if request.state is RequestState.TAKEN and not (verb is not None and verb.resumes):
                self._finish(lease, request, Ended(ExitCode.EXECUTED_IN_PART, text))

    def serve(self, request: Request, desk: Desk, frozen: str) -> None:
        """Carry out a request that was taken, and answer it whatever happens.

        Raises:
            FencedError, LeaseLostError, StoreError, AbandonedError: It stays taken: whoever comes
                next goes on with it or answers it.
        """
        data: dict[str, Value] = {
            "request": request.id,
            "verb": request.verb,
            "asked_by": request.asked_by,
        }
        text = f"{request.verb} for {request.asked_by}"
        self._tell(EventKind.REQUEST_TAKEN, text, subject=str(request.id), data=data)
        try:
            ended = self._served(request, desk, frozen)
        except (FencedError, LeaseLostError, StoreError, AbandonedError):
            raise
        except BalancerError as error:
            ended = Ended(error.exit_code, str(error), refused=True)
        except Exception as error:  # noqa: BLE001 -- whoever asked must not wait for ever
            text = f"internal error: {type(error).__name__}: {error}"
            ended = Ended(ExitCode.OUR_FAULT, text, refused=True)
        self._finish(desk.lease, request, ended)

    def _served(self, request: Request, desk: Desk, frozen: str) -> Ended:
        verb = self._verbs.get(request.verb)
        if verb is None:
            text = f"the executor does not know {request.verb!r}; is it of another version?"
            return Ended(ExitCode.BAD_INPUT, text, refused=True)
        if frozen and not _moves_nothing(request):
            text = f"{frozen}\n  remedy: `balancer thaw` lifts it"
            return Ended(ExitCode.ANSWER_IS_NO, text, refused=True)
        return verb.serve(desk, request)

    def reasons(self, lease: Lease, mine: Request | None) -> Iterator[Reason]:
        """Yield why what is being carried out, for `mine` or by schedule, should stop."""
        for other in self._open():
            if mine is not None and other.id == mine.id:
                if other.cancel_asked is not HowToStop.GO_ON:
                    yield Reason("cancelled", "it was cancelled", _how(other.cancel_asked.value))
            elif other.state is not RequestState.WAITING:
                continue
            elif other.verb == CANCEL:
                yield from self._cancelled(lease, other)
            elif self._preempts(other) and not (mine is not None and self._preempts(mine)):
                yield Reason("interrupted", f"{other.verb} for {other.asked_by} comes first")

    def _cancelled(self, lease: Lease, request: Request) -> Iterator[Reason]:
        if self._requests.take(lease, request.id, self._clock.now()):
            self._finish(lease, request, Ended(ExitCode.DONE, "what runs begins nothing more"))
            how = _how(str(request.arguments.get("in_flight", "")))
            yield Reason("cancelled", f"cancelled by {request.asked_by}", how)

    def _finish(self, lease: Lease, request: Request, ended: Ended) -> None:
        state = RequestState.REFUSED if ended.refused else RequestState.DONE
        if ended.exit_code is ExitCode.INTERRUPTED:
            state = RequestState.CANCELLED
        code = int(ended.exit_code)
        now = self._clock.now()
        self._requests.finish(lease, request.id, state, now, exit_code=code, text=ended.text)
        data: dict[str, Value] = {
            "request": request.id,
            "verb": request.verb,
            "state": state.value,
            "exit_code": code,
        }
        self._tell(EventKind.REQUEST_ENDED, ended.text, subject=str(request.id), data=data)

    def _open(self) -> tuple[Request, ...]:
        return self._requests.open(self._tell.cluster)

    def _preempts(self, request: Request) -> bool:
        verb = self._verbs.get(request.verb)
        return verb is not None and verb.preempts


def _moves_nothing(request: Request) -> bool:
    is_resume = request.verb == RESUME and not request.arguments.get("restore")
    return is_resume or request.verb == CANCEL


def _how(word: str) -> OnInterrupt:
    return OnInterrupt.CANCEL if word == HowToStop.CANCEL.value else OnInterrupt.FINISH
