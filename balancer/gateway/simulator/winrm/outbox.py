"""What a shell or a pipeline still has to tell its client, kept until the client has it.

A reply can be lost with its connection, and a client that timed out sends the same Receive
again. So nothing is dropped before its reply was written, and the last batch is repeated to a
request with the same message id.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# <rsp:Stream Name="stdout" CommandId="..."></rsp:Stream> around each item
_ITEM_OVERHEAD_BYTES = 120


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive fragments; `end` is the index after the last one since the beginning."""

    items: tuple[bytes, ...]
    end: int


class Outbox:
    """Fragments in order, with absolute positions. The owner's lock guards it."""

    def __init__(self) -> None:
        self._items: deque[bytes] = deque()
        self._first = 0
        self._turn = 0
        self._last: tuple[str, Batch] | None = None

    def __bool__(self) -> bool:
        return bool(self._items)

    def put(self, fragment: bytes) -> None:
        """Add a fragment."""
        self._items.append(fragment)

    def new_turn(self) -> int:
        """Begin a Receive; whoever waited before has lost its turn (its client went away)."""
        self._turn += 1
        return self._turn

    def is_turn(self, turn: int) -> bool:
        """Return whether no later Receive has begun."""
        return self._turn == turn

    def repeat(self, message_id: str) -> Batch | None:
        """Return what was answered to this very message before, if anything was."""
        if self._last is not None and self._last[0] == message_id:
            return self._last[1]
        return None

    def peek(self, message_id: str, budget_bytes: int) -> Batch:
        """Return the fragments that fit a reply, at least one if there is any; drop none.

        Args:
            message_id: Of the Receive that is being answered.
            budget_bytes: Room for them in the reply once they are base64.
        """
        taken: list[bytes] = []
        used_bytes = 0
        for item in self._items:
            used_bytes += -(-len(item) // 3) * 4 + _ITEM_OVERHEAD_BYTES
            if taken and used_bytes > budget_bytes:
                break
            taken.append(item)
        batch = Batch(tuple(taken), self._first + len(taken))
        self._last = (message_id, batch)
        return batch

    def acknowledge(self, batch: Batch) -> None:
        """Drop what the client now has. Twice does no harm."""
        while self._first < batch.end and self._items:
            self._items.popleft()
            self._first += 1

    def ends_with(self, batch: Batch) -> bool:
        """Return whether nothing is left after this batch."""
        return batch.end >= self._first + len(self._items)
