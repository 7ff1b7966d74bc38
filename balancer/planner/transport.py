"""Which transport each host should be set to while the plan runs.

The last tier: placement is settled (J ranks strictly above seconds), and what is left to decide
is how the memory travels. Columns are (VM, host, transport); a host has one transport for the
whole plan, and a pair of hosts uses what the two settings give. The makespan T is a variable
above everything that bounds it. Whether the answer pays is for the caller to see: it schedules
both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from balancer.migration.rates import effective_transport
from balancer.model.cluster import ManagedBy, Transport
from balancer.model.plan import SettingChange
from balancer.planner.ilp import Effort, Solver, solve
from balancer.planner.linear import INF, Expression, Linear
from balancer.planner.problem import Problem
from balancer.planner.timing import Leg, Timing
from balancer.planner.work import Work
from balancer.policy.policy import Prefer

MODES = tuple(Transport)
# A change has to be worth the writes, the restart of transfers it may cause and the restore.
GAIN_SHARE = 0.10
GAIN_S = 5.0
# Ties in T are broken by the sum of seconds, then by the fewest writes; both far below a second.
SECONDS_WEIGHT = 1e-4
WRITE_WEIGHT_S = 0.01
NODES = 200
ILP_MOVES = 300  # beyond, T is a sum so long that the uniform settings are as good

Moves = Sequence[tuple[int, int, int]]
Settings = dict[int, Transport]


def as_set(problem: Problem) -> Settings:
    """Return the present transport setting of each host."""
    return {at: host.migration.transport for at, host in enumerate(problem.hosts)}


def candidates(timing: Timing, moves: Moves, work: Work, solver: Solver) -> list[Settings]:
    """Return the settings worth scheduling besides the present ones, best guess first.

    Only hosts that take part in `moves` and are not managed by Network ATC ever differ.
    """
    problem = timing.problem
    policy = problem.policy.transport
    if not moves or not policy.write_settings or policy.prefer is Prefer.AS_SET:
        return []
    part = sorted({host for _, source, target in moves for host in (source, target)})
    free = [
        at for at in part if problem.hosts[at].migration.managed_by is not ManagedBy.NETWORK_ATC
    ]
    present = as_set(problem)
    if policy.prefer is not Prefer.AUTO:
        wanted = Transport(policy.prefer.value)
        return [present | dict.fromkeys(free, wanted)]
    found = [present | dict.fromkeys(free, mode) for mode in MODES]
    if len(moves) <= ILP_MOVES and work.spend(20_000):
        found.insert(0, _solve(timing, moves, part, set(free), work, solver))
    unique: list[Settings] = []
    for settings in found:
        if settings != present and settings not in unique:
            unique.append(settings)
    return unique


def needed(problem: Problem, settings: Settings, legs: Iterable[Leg]) -> Settings:
    """Return `settings` without what changes nothing for these migrations.

    Where only the source decides, its target is left alone; and a source that would be set to
    SMB for the plain TCP that a mixed pair falls back to is set to TCP.
    """
    chosen = dict(settings)
    of: dict[int, list[Leg]] = {}
    for leg in legs:
        of.setdefault(leg.source, []).append(leg)
        of.setdefault(leg.target, []).append(leg)
    plain = [Transport.TCP] if problem.policy.transport.prefer is Prefer.AUTO else []
    for at, host in enumerate(problem.hosts):
        present = host.migration.transport
        for mode in () if chosen[at] is present else (present, *plain):
            tried = chosen | {at: mode}
            if all(
                effective_transport(tried[leg.source], tried[leg.target]) is leg.transport
                for leg in of.get(at, ())
            ):
                chosen = tried
                break
    return chosen


def changes(problem: Problem, settings: Mapping[int, Transport]) -> tuple[SettingChange, ...]:
    """Return what must be written for `settings` to hold."""
    return tuple(
        SettingChange(
            host=host.name,
            setting="transport",
            before=host.migration.transport.value,
            during=settings[at].value,
        )
        for at, host in enumerate(problem.hosts)
        if settings[at] is not host.migration.transport
    )


def pays(before_s: float, after_s: float) -> bool:
    """Tell whether a makespan `after_s` is worth writing settings for."""
    return before_s - after_s >= max(GAIN_S, GAIN_SHARE * before_s)


def _solve(
    timing: Timing, moves: Moves, part: Sequence[int], free: set[int], work: Work, solver: Solver
) -> Settings:
    problem = timing.problem
    linear = Linear()
    span = linear.variable()
    setting = _settings(linear, part, free, as_set(problem))
    objective = Expression({span: 1.0})
    columns: list[tuple[int, Leg]] = []
    for vm, source, target in moves:
        mine: list[int] = []
        for mode in MODES:
            if not _possible(setting, source, target, mode):
                continue
            column = linear.variable(0.0, 1.0)
            leg = Leg(vm, source, target, mode)
            columns.append((column, leg))
            mine.append(column)
            objective.add([column], [SECONDS_WEIGHT * timing.alone(leg).duration_s])
            _link(linear, setting, column, leg)
        linear.row(1.0, 1.0, mine, np.ones(len(mine)))
    _span(timing, linear, span, columns)
    for (host, mode), variable in sorted(setting.items()):
        if mode is not problem.hosts[host].migration.transport:
            objective.add([variable], [WRITE_WEIGHT_S])
    start = [
        (variable, float(mode is problem.hosts[host].migration.transport))
        for (host, mode), variable in sorted(setting.items())
    ]
    effort = Effort(NODES, work.seconds_left())
    answer = solve(linear, linear.cost(objective), 0.0, start, effort, solver)
    work.spend(40.0 * answer.iterations)
    chosen = as_set(problem)
    if answer.x is not None:
        for (host, mode), variable in setting.items():
            if round(answer.x[variable]):
                chosen[host] = mode
    return chosen


def _settings(
    linear: Linear, part: Sequence[int], free: set[int], present: Settings
) -> dict[tuple[int, Transport], int]:
    """Add one binary for each host and transport it may have; a fixed host has one."""
    setting: dict[tuple[int, Transport], int] = {}
    for host in part:
        modes = MODES if host in free else (present[host],)
        mine = linear.variables(len(modes), 0.0, 1.0, integer=True)
        linear.row(1.0, 1.0, mine, np.ones(len(mine)))
        setting.update({(host, mode): int(v) for mode, v in zip(modes, mine, strict=True)})
    return setting


def _possible(
    setting: Mapping[tuple[int, Transport], int], source: int, target: int, mode: Transport
) -> bool:
    return any(
        (source, a) in setting and (target, b) in setting and effective_transport(a, b) is mode
        for a in MODES
        for b in MODES
    )


def _link(
    linear: Linear, setting: Mapping[tuple[int, Transport], int], column: int, leg: Leg
) -> None:
    """Tie a column to the settings of its two hosts, as the platform pairs them.

    For each setting of the source the target's settings that give the column's transport are
    listed: the column may be 1 only if one of those pairs is what is set.
    """
    for a in MODES:
        mine = setting.get((leg.source, a))
        if mine is None:
            continue
        fitting = [
            setting[leg.target, b]
            for b in MODES
            if (leg.target, b) in setting and effective_transport(a, b) is leg.transport
        ]
        # column <= (target fits a) + (source is not a)
        index = [column, mine, *fitting]
        linear.row(-INF, 1.0, index, [1.0, 1.0, *([-1.0] * len(fitting))])


def _span(timing: Timing, linear: Linear, span: int, columns: Sequence[tuple[int, Leg]]) -> None:
    """T is above slots of hosts and cluster, shared resources, and each migration alone."""
    caps = timing.problem.caps
    rows: dict[object, tuple[float, dict[int, float]]] = {}

    def add(key: object, capacity: float, column: int, amount: float) -> None:
        _, terms = rows.setdefault(key, (capacity, {}))
        terms[column] = terms.get(column, 0.0) + amount

    for column, leg in columns:
        alone = timing.alone(leg)
        add(("one", leg.vm), 1.0, column, alone.duration_s)
        if caps.concurrent_per_cluster:
            add("cluster", float(caps.concurrent_per_cluster), column, alone.duration_s)
        for host in (leg.source, leg.target):
            slots = caps.concurrent_per_host[timing.problem.hosts[host].name]
            add(("slots", host), float(max(1, slots)), column, alone.duration_s)
        for key, use in timing.flow(leg.source, leg.target, leg.transport).uses.items():
            if timing.capacity.get(key, 0.0) > 0:
                add(key, timing.capacity[key], column, use * alone.bytes)
    for capacity, terms in rows.values():
        index = [*terms, span]
        linear.row(-INF, 0.0, index, [*(v / capacity for v in terms.values()), -1.0])
