"""What is lost when hosts fail, at every instant of a plan.

Only failures that may lose something at some instant are looked at, and of these only what an
instant has changed is rehearsed anew: one VM comes or goes, and what is free on one host with it.
Of very many failures only those are looked at on which the most is to restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from balancer.judge.drill import Drill, Failed, Loss
from balancer.judge.rehearsal import Rehearsal, State


class Way:
    """The present instant of a plan.

    Args:
        drill: The drill.
        place: The host of every VM at the start.
        moves: VMs and the hosts that they go to, sooner or later.
    """

    def __init__(
        self, drill: Drill, place: Mapping[str, str], moves: Sequence[tuple[str, str]]
    ) -> None:
        self.drill = drill
        self.in_doubt = drill.in_doubt(place, moves)
        self.state = State(drill, place)
        self.free = drill.free(place.items())
        self.flying: list[tuple[str, str]] = []
        self.known = {failed: self._rehearsed(failed) for failed in self.in_doubt}

    def losses(self) -> Iterator[Loss]:
        """Yield what is lost at this instant."""
        for failed, found in self.known.items():
            yield from (Loss(failed, vm) for vm in found.lost)

    def start(self, vm: str, target: str) -> None:
        """Let a VM be under way: it holds memory on its target, but for failures of its source."""
        self.flying.append((vm, target))
        self.free[target] -= self.drill.held(vm)
        self._renew(target, [failed for failed in self.in_doubt if self.state.place[vm] in failed])

    def end(self, vm: str, target: str) -> None:
        """Let a VM arrive."""
        source = self.state.place[vm]
        self.flying.remove((vm, target))
        self.state.move(vm, target)
        self.free[source] += self.drill.held(vm)
        for failed, known in self.known.items():
            if known.heeds(vm) or not failed.isdisjoint((source, target)):
                self.known[failed] = self._rehearsed(failed)
        self._renew(source, [failed for failed in self.in_doubt if target in failed])

    def _renew(self, name: str, but: Sequence[Failed]) -> None:
        """Rehearse what the memory that is free on a host has changed."""
        for failed, known in self.known.items() if name in self.drill.up else ():
            if name in failed or failed in but:
                continue
            if known.would_differ(name, self._free(failed, name)):
                self.known[failed] = self._rehearsed(failed)

    def _free(self, failed: Failed, name: str) -> int:
        """Return what is free on a host once what was on its way from the failed has broken off."""
        back = sum(
            self.drill.held(vm)
            for vm, target in self.flying
            if target == name and self.state.place[vm] in failed
        )
        return self.free[name] + back

    def _rehearsed(self, failed: Failed) -> Rehearsal:
        able = self.drill.up - failed
        room = {name: self._free(failed, name) for name in self.free if name in able}
        return Rehearsal(self.state, failed, room)
