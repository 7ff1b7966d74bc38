"""Tells when cycles are kept from acting, and when no more: once a change."""

from __future__ import annotations

from datetime import datetime

from balancer.execute.held import Held
from balancer.service.events import EventKind
from balancer.service.telling import Teller
from balancer.store.breakers import Breaker


class Holding:
    """What the last cycle found to keep it from acting."""

    def __init__(self, tell: Teller) -> None:
        self._tell = tell
        self._text = ""
        self._cautious = False

    def cautious(self, breaker: Breaker | None, now: datetime) -> bool:
        """Tell whether too many runs failed to go on unattended; say so when that changes."""
        is_open = breaker is not None and breaker.is_open(now)
        if is_open != self._cautious:
            self._cautious = is_open
            if breaker is not None and breaker.open_until is not None and is_open:
                text = (
                    f"{breaker.failed_runs} runs in a row failed: until "
                    f"{breaker.open_until:%Y-%m-%d %H:%M} UTC plans are only recommended "
                    f"({breaker.reason})"
                )
                data = {"failed_runs": breaker.failed_runs}
                self._tell(EventKind.FELL_BACK, text, data=data)
            else:
                self._tell(EventKind.ACTS_AGAIN, "plans are carried out unattended again")
        return is_open

    def noted(self, held: Held | None) -> None:
        """Take note of what a cycle found."""
        text = "" if held is None else held.cause.text
        if text == self._text:
            return
        self._text = text
        if held is None:
            self._tell(EventKind.HELD_NO_MORE, "plans are carried out again")
        else:
            ends = "until that is over" if held.passes else "for now"
            told = f"nothing is carried out {ends}: {text} ({held.remedy})"
            self._tell(EventKind.HELD_BACK, told, data={"why": held.cause.why.value})
