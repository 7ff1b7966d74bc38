"""Tells when cycles are kept from acting, and when no more: once a change."""

from __future__ import annotations

from balancer.execute.held import Held
from balancer.service.events import EventKind
from balancer.service.telling import Teller


class Holding:
    """What the last cycle found to keep it from acting."""

    def __init__(self, tell: Teller) -> None:
        self._tell = tell
        self._text = ""

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
