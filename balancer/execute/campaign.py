"""What a campaign over a cluster is asked to do, and how it would go: turns, GiB and times."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from balancer.errors import InputError
from balancer.execute.drain import AROUND_S, REST_S
from balancer.execute.leaving import may_leave_together
from balancer.execute.window import SLACK_S
from balancer.execute.working import HEALTHY_POLL_S
from balancer.gateway.port import Observation
from balancer.model.cluster import Cluster, HostState
from balancer.planner.campaign import Turns, loads_of, order_turns
from balancer.planner.turns import Turn, plan_turns, timetable
from balancer.policy.policy import Policy

WORK_S = 1800.0  # a cumulative update and a restart


@dataclass(frozen=True, slots=True)
class Rolling:
    """What a campaign does with each host.

    Attributes:
        commands: In order, each a list of words: patch, reboot, check.
        timeout_s: For each command.
        work_s: How long all of them and the wait after them are expected to take.
        healthy_s: How long a host may take after them to answer and be a member again.
        at_once: So many hosts may be away together.
        failures_max: After so many failed hosts the campaign stops.
        restore: Bring back what was on a host before the next one has its turn.
    """

    commands: tuple[tuple[str, ...], ...] = ()
    timeout_s: float = 7200.0
    work_s: float = WORK_S
    healthy_s: float = 3600.0
    at_once: int = 1
    failures_max: int = 1
    restore: bool = True
    keep_reserve: bool = False
    asked_by: str = ""

    @property
    def expected_work_s(self) -> float:
        """Return how long a host is expected to be away once it is empty."""
        return self.work_s if self.commands else HEALTHY_POLL_S

    def but(self, given: Mapping[str, Any]) -> Rolling:
        """Return the same with what is given, by the names of the attributes.

        Raises:
            InputError: There is no such attribute: it comes from another version.
        """
        known = {field.name for field in dataclasses.fields(self)}
        if unknown := sorted(set(given) - known):
            raise InputError(
                f"unknown options of a campaign: {', '.join(unknown)}",
                remedy="use the same version for the command and the service",
            )
        values = dict(given)
        if "commands" in values:
            values["commands"] = tuple(tuple(map(str, words)) for words in values["commands"])
        return dataclasses.replace(self, **values)


@dataclass(frozen=True, slots=True)
class Planned:
    """A turn and when it may be: None where no window is long enough for it."""

    turn: Turn
    begins_at: datetime | None
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Preview:
    """How a campaign would go.

    Attributes:
        moved_bytes: Memory of all VMs times the number of their moves, returns included.
    """

    cluster: str
    restore: bool
    turns: tuple[Planned, ...]

    @property
    def moved_bytes(self) -> int:
        """Return the memory that all turns move, returns included."""
        return sum(one.turn.moved_bytes for one in self.turns)

    @property
    def is_whole(self) -> bool:
        """Tell whether every host can be emptied and has a window."""
        return all(not one.turn.stuck and one.begins_at is not None for one in self.turns)


def those_up(cluster: Cluster) -> tuple[str, ...]:
    """Return the hosts that a campaign over the whole cluster walks."""
    return tuple(host.name for host in cluster.hosts if host.state is HostState.UP)


def turns_of(seen: Observation, policy: Policy, rolling: Rolling, hosts: Collection[str]) -> Turns:
    """Return the turns of hosts that move least, several at once only where that is safe."""
    return order_turns(
        loads_of(seen.cluster, policy),
        hosts,
        restore=rolling.restore,
        at_once=rolling.at_once,
        may_leave=lambda some: may_leave_together(seen, some),
    )


def needed_s(rolling: Rolling, drain_s: float, stretch: float, work_s: float) -> float:
    """Return how long a turn may take, the error of forecasts included."""
    there_s = drain_s + AROUND_S + REST_S
    back_s = drain_s + REST_S if rolling.restore else 0.0
    return (there_s + back_s) * stretch + work_s + SLACK_S


def preview(
    seen: Observation,
    policy: Policy,
    rolling: Rolling,
    hosts: Collection[str],
    *,
    stretch: float,
    now: datetime,
    on_turn: Callable[[int], None] = lambda _: None,
) -> Preview:
    """Plan a whole campaign, and touch nothing.

    Raises:
        InputError: A host is down or silent; rules contradict each other.
    """
    turns = plan_turns(
        seen.cluster,
        policy,
        turns_of(seen, policy, rolling, hosts),
        restore=rolling.restore,
        keep_reserve=rolling.keep_reserve,
        now=now,
        on_turn=on_turn,
    )
    able = [turn for turn in turns if not turn.stuck]
    seconds = [needed_s(rolling, one.drain_s, stretch, rolling.expected_work_s) for one in able]
    times = dict(zip(able, timetable(seconds, policy.calendar, now), strict=True))
    planned = []
    for turn in turns:
        begins, ends = times.get(turn) or (None, None)
        planned.append(Planned(turn, begins, ends))
    return Preview(seen.cluster.name, rolling.restore, tuple(planned))
