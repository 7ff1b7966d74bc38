"""The most that can be in one place in any reachable state, exactly.

Arrivals each add something as they start; departures each take something away as they complete.
An arrival can start only once the departures before it are complete, and everything else can be
arranged to happen as late, or as early, as suits the worst case. So the worst state starts the
set of arrivals that maximises what they add less what the departures that they need take away:
a maximum-weight closure. By Picard's theorem that is what a maximum flow from arrivals to the
departures they need leaves over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from balancer.judge.order import members

NOWHERE = -1


@dataclass(frozen=True, slots=True)
class Worst:
    """The worst state: how much is added to what is there at the start, and who arrives in it."""

    added: int
    arrivals: frozenset[int]


def worst(gains: Mapping[int, int], needs: Mapping[int, int], losses: Mapping[int, int]) -> Worst:
    """Return the most that starting arrivals can add.

    Args:
        gains: What each arrival adds; not negative.
        needs: For each arrival, the bit set of departures that must be complete before it starts.
        losses: What each departure takes away; not negative.
    """
    network = _Network(dict(needs), dict(losses), {departure: {} for departure in losses})
    added, chosen = 0, set[int]()
    for arrival, gain in gains.items():
        over, reached = network.drain(arrival, gain)
        if over:
            added += over
            chosen |= reached
    return Worst(added, frozenset(chosen))


@dataclass(frozen=True, slots=True)
class _Network:
    """A flow from arrivals to departures; `left` is what each departure can still take."""

    needs: dict[int, int]
    left: dict[int, int]
    flow: dict[int, dict[int, int]]  # departure -> arrival -> amount

    def drain(self, arrival: int, amount: int) -> tuple[int, set[int]]:
        """Send as much of `amount` as possible; return the rest and the arrivals tied to it.

        Where some is left over, what can be reached has no way out, so no later path enters it:
        each arrival needs to be looked at once.
        """
        while True:
            came_by, led_to, sink = self._search(arrival)
            if sink is None or not amount:
                return amount, set(came_by)
            path: list[tuple[int, int]] = []  # (departure that gets more, arrival that gives it)
            room, departure = min(amount, self.left[sink]), sink
            while (giver := led_to[departure]) != arrival:
                path.append((departure, giver))
                departure = came_by[giver]
                room = min(room, self.flow[departure][giver])
            path.append((departure, arrival))
            self._push(path, came_by, room)
            self.left[sink] -= room
            amount -= room

    def _push(self, path: list[tuple[int, int]], came_by: Mapping[int, int], room: int) -> None:
        for departure, giver in path:
            self.flow[departure][giver] = self.flow[departure].get(giver, 0) + room
            if (before := came_by[giver]) != NOWHERE:
                taken = self.flow[before]
                taken[giver] -= room
                if not taken[giver]:
                    del taken[giver]

    def _search(self, start: int) -> tuple[dict[int, int], dict[int, int], int | None]:
        """Look for a departure with room, breadth first, over flows that could be re-routed.

        Returns:
            For each arrival reached, the departure it was reached by (`NOWHERE` for `start`);
            for each departure reached, the arrival that leads to it; the departure with room.
        """
        came_by, led_to = {start: NOWHERE}, dict[int, int]()
        queue, unseen = [start], -1
        for arrival in queue:
            fresh = self.needs[arrival] & unseen
            unseen &= ~fresh
            for departure in members(fresh):
                led_to[departure] = arrival
                if self.left[departure] > 0:
                    return came_by, led_to, departure
                for other in self.flow[departure]:
                    if other not in came_by:
                        came_by[other] = departure
                        queue.append(other)
        return came_by, led_to, None
