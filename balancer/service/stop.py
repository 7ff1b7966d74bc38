"""Why what is being carried out should stop, asked at every poll; and what then becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from balancer.clock import Clock
from balancer.errors import BalancerError
from balancer.execute.progress import OnInterrupt

LOOK_EVERY_S = 2.0  # as often as a run looks at what is in flight
PATIENT_S = 10.0  # where nothing is in flight: to look asks the cluster itself


class AbandonedError(BalancerError):
    """The patience of a stop is over: what is in flight is left to the next start."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason to begin nothing more."""

    word: str  # for metrics: frozen, cancelled, interrupted, lease
    text: str
    how: OnInterrupt = OnInterrupt.FINISH


class Stop:
    """Whether to stop, as the executor and the planner ask it: once yes, always yes.

    `look` returns the reasons there are now; it is asked every `LOOK_EVERY_S` at most. A later
    reason can turn finishing into cancelling, never the other way round. `beat` is called each
    time.
    """

    def __init__(
        self,
        clock: Clock,
        look: Callable[[], Iterable[Reason]],
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock = clock
        self._look = look
        self._beat = beat
        self._looked_s: float | None = None
        self._every_s = LOOK_EVERY_S
        self.reason: Reason | None = None
        self._how = OnInterrupt.FINISH

    def __call__(self) -> bool:
        """Tell whether to begin nothing more."""
        self._beat()
        now_s = self._clock.monotonic_s()
        if self._looked_s is None or now_s - self._looked_s >= self._every_s:
            self._looked_s = now_s
            for reason in self._look():
                self.reason = self.reason or reason
                if reason.how is OnInterrupt.CANCEL:
                    self._how = reason.how
        return self.reason is not None

    def beat(self) -> None:
        """Give a sign of life, and look at nothing."""
        self._beat()

    @contextmanager
    def patient(self) -> Iterator[None]:
        """Look less often within a with-block that starts nothing."""
        self._every_s = PATIENT_S
        try:
            yield
        finally:
            self._every_s = LOOK_EVERY_S

    def how(self) -> OnInterrupt:
        """Return what becomes of migrations in flight."""
        return self._how
