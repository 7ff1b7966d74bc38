"""From a task and one thing that must be to the model in which its conflict is sought."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from balancer.model.rule import Rule
from balancer.planner.claims import Claims
from balancer.planner.groups import Fact, Group
from balancer.planner.ilp import Solver
from balancer.planner.problem import CPU, GIB, MEMORY, Bools, Floats, Ints, Problem
from balancer.planner.stays import reserved
from balancer.planner.words import RESOURCES, cite, counted, hosts_of, percent
from balancer.policy.capacity import why_immovable, why_no_target, why_unfit

COLUMNS_MAX = 2500  # with more, only the VMs in question are told apart
VMS_SHOWN = 3
HELD_MIN = 0.05  # GiB or cores that are worth a word


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that must be: a host that is drained, or a rule that is kept.

    Attributes:
        text: What it is called.
        vms: The VMs it is about; of a host those that are to leave.
        drained: The host, by index.
        rule: A hard host list.
        group: A cap or a unit, by index.
    """

    text: str
    vms: tuple[int, ...]
    drained: int = -1
    rule: Rule | None = None
    group: int = -1


def quarrel(
    problem: Problem, place: Ints, subject: Subject, *, others_stay: bool, solver: Solver
) -> Claims:
    """Return the model: all that is well at `place` and the subject besides."""
    builder = _Builder(problem, place, subject, others_stay, Claims(solver=solver))
    builder.columns()
    builder.forbidden()
    builder.rooms()
    for index, group in enumerate(problem.groups):
        if group.hard:
            builder.group(index, group)
    builder.caps()
    return builder.claims


@dataclass
class _Builder:
    """Adds one part of the model after another."""

    problem: Problem
    place: Ints
    subject: Subject
    others_stay: bool
    claims: Claims
    core: list[int] = field(default_factory=list)
    at: Ints = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))
    fluid: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def columns(self) -> None:
        """Choose which VMs are told apart, and give each a column for every host."""
        problem = self.problem
        hosts = len(problem.hosts)
        self.core = sorted(_concerned(problem, self.subject))
        self.at = np.full((len(problem.vms), hosts), -1, dtype=np.int64)
        for vm in self.core:
            self.at[vm] = self.claims.linear.variables(hosts, 0.0, 1.0, integer=True)
            self.claims.place(self.at[vm].tolist())
        immovable = np.array(
            [why_immovable(problem.cluster, vm) is not None for vm in problem.vms], dtype=bool
        )
        self.fluid = ~immovable
        self.fluid[self.core] = False

    def forbidden(self) -> None:
        """Say who forbids each VM which host."""
        for vm in self.core:
            by: dict[int, list[int]] = {}
            for host in range(len(self.problem.hosts)):
                for claim in self._against(vm, host):
                    by.setdefault(claim, []).append(int(self.at[vm, host]))
            for claim, columns in by.items():
                self.claims.forbid(claim, sorted(set(columns)))

    def _against(self, vm: int, host: int) -> Iterator[int]:
        """Yield the claims that keep `vm` from `host`, or off it where it is its home."""
        problem, home = self.problem, int(self.problem.home[vm])
        if host == home:
            asked = self.subject.drained == home and vm in self.subject.vms
            if problem.from_drain[vm] and (asked or self.place[vm] != home):
                yield self._host(home)
        else:
            yield from self._against_leaving(vm)
            yield from self._against_coming(vm, host)
        name = problem.hosts[host].name
        for one in problem.lists_of_vm.get(problem.vms[vm].id, ()):
            if not one.hard or name in hosts_of(one):
                continue
            kept = problem.hosts[self.place[vm]].name in hosts_of(one)
            if host != home or kept or one.rule is self.subject.rule:
                yield self._rule(one.rule)

    def _against_leaving(self, vm: int) -> Iterator[int]:
        """Yield what keeps a VM at home whatever the target."""
        problem, home = self.problem, int(self.problem.home[vm])
        one, source = problem.vms[vm], problem.hosts[home]
        if (fact := why_immovable(problem.cluster, one)) is not None:
            if one.is_load and not one.blocked_by and one.migrating_to is None:
                yield self._host(home)
            else:
                yield self.claims.claim(("vm", vm), "fact", f"{one.name}: {fact}")
        if problem.caps.concurrent_per_host[source.name] < 1:
            yield self._slots(home)
        for rule, hours in problem.hours_of_vm.get(vm, ()):
            if problem.now is not None and not hours.may_start(problem.now, 0.0):
                yield self.claims.claim(("closed", id(rule)), "rule", f"{cite(rule)} is closed now")
        if self.others_stay and not problem.from_drain[vm]:
            yield self._stay()

    def _against_coming(self, vm: int, host: int) -> Iterator[int]:
        """Yield what keeps a VM from a host that is not its home."""
        problem, home = self.problem, int(self.problem.home[vm])
        one, source, target = problem.vms[vm], problem.hosts[home], problem.hosts[host]
        if why_no_target(target) is not None:
            yield self._host(host)
        if problem.caps.concurrent_per_host[target.name] < 1:
            yield self._slots(host)
        if (unfit := why_unfit(one, target)) is not None:
            yield self.claims.claim(("fit", vm, unfit), "fact", f"{one.name}: {unfit}")
        if not problem.connected[home, host]:
            text = f"{source.name} and {target.name} share no migration network"
            yield self.claims.claim(("network", home, host), "fact", text)
        for text in problem.calm.against(vm, home, host):
            yield self.claims.claim(("calm", text), "limit", text)
        for index in problem.groups_of_vm.get(vm, ()):
            group = problem.groups[index]
            if group.hard and group.limit is None and (group.fixed or group.said.during):
                there = int(group.domain[host])
                if group.fixed or there < 0 or not group.before[there]:
                    yield self._rule(group.said.rule)

    def rooms(self) -> None:
        """Bound the load of each host: memory, and what may not be overloaded anew."""
        problem = self.problem
        drains = bool(problem.from_drain.any())
        for resource, label in RESOURCES.items():
            if drains and resource == CPU:
                continue  # whoever takes VMs off a draining host may be overloaded
            unit = GIB if resource == MEMORY else 1.0
            weight = problem.weight[resource] / unit
            flow = self._flow(weight)
            for host in range(len(problem.hosts)):
                most = max(1.0, problem.before[resource, host]) if drains else None
                limit = float(problem.limit[resource, host]) if most is None else float(most)
                room = limit / (problem.scale[resource, host] * unit)
                self._room(host, label, room, (weight, flow))

    def _room(self, host: int, label: str, room: float, load: tuple[Floats, Ints]) -> None:
        problem, (weight, flow) = self.problem, load
        home = (problem.home == host) & ~self.fluid
        home[self.core] = False
        resource = MEMORY if label == "memory" else CPU
        unit = GIB if resource == MEMORY else 1.0
        held = float(weight[home].sum() + problem.fixed[resource, host] / unit)
        some = [vm for vm in self.core if weight[vm] > 0]
        index = [int(self.at[vm, host]) for vm in some]
        value = [float(weight[vm]) for vm in some]
        if flow[host] >= 0:
            index, value = [*index, int(flow[host])], [*value, 1.0]
        upper = self.claims.linear.upper
        if sum(v * upper[i] for i, v in zip(index, value, strict=True)) <= room - held:
            return
        claim = self.claims.claim(
            ("room", resource, host), "fact", self._room_text(host, resource, room, held)
        )
        self.claims.most(claim, max(0.0, room - held), index, value)

    def _room_text(self, host: int, resource: int, room: float, held: float) -> str:
        problem, name = self.problem, self.problem.hosts[host].name
        unit, speed = "GiB of memory", 1.0
        if resource == CPU:
            unit, speed = "cores", problem.hosts[host].cpu_speed
        drains = bool(problem.from_drain.any())
        limit = 1.0 if drains else float(problem.threshold[resource, 0])
        if problem.before[resource, host] > limit:
            above = f", above its threshold of {percent(limit)}," if limit < 1.0 else ""
            text = f"{name}{above} may hold no more than the {room / speed:.1f} {unit} it holds"
        else:
            text = f"{name} has {room / speed:.1f} {unit} for VMs"
            if limit < 1.0:
                text += f" below its threshold of {percent(limit)}"
        taken = f", {held / speed:.1f} of them taken for good"
        text += taken if held >= HELD_MIN else ""
        return text + (reserved(problem, host) if resource == MEMORY else "")

    def _flow(self, size: Floats) -> Ints:
        """Return for each host a variable of what flows there of VMs that are not told apart."""
        problem, linear = self.problem, self.claims.linear
        flow = np.full(len(problem.hosts), -1, dtype=np.int64)
        total = float(size[self.fluid].sum())
        if total <= 0:
            return flow
        count = len(problem.hosts)
        home, stay = problem.home, self.fluid & (self.place == problem.home)
        at_home = np.bincount(home[self.fluid], size[self.fluid], minlength=count)
        left = np.bincount(home[stay], size[stay], minlength=count)
        for host in np.flatnonzero(problem.up | (at_home > 0)).tolist():
            flow[host] = linear.variable(0.0, total if problem.up[host] else float(at_home[host]))
            if problem.draining[host]:
                most = float(left[host])
                self.claims.most(self._host(host), most, [int(flow[host])], [1.0])
            if self.others_stay:
                self.claims.most(self._stay(), float(at_home[host]), [int(flow[host])], [1.0])
        self.claims.flow(total, flow[flow >= 0].tolist())
        return flow

    def group(self, index: int, group: Group) -> None:
        """Bound a cap or a unit: wholly where it is the subject, else as it is at the end."""
        members = [vm for vm in self.core if vm in set(group.members.tolist())]
        if not members:
            return
        full, counts = index == self.subject.group, group.counts(self.place)
        if group.limit is None:
            if len(members) == len(group.members):
                self._unit(group, members, 1 if full else max(1, int((counts > 0).sum())))
            return
        size = np.zeros(len(self.problem.vms))
        size[group.members] = group.size
        flow = self._flow_over(group, size)
        fixed = ~self.fluid & (size > 0)
        fixed[members] = False
        for domain in range(len(group.before)):
            there = np.flatnonzero(group.domain == domain)
            held = float(size[fixed & np.isin(self.problem.home, there)].sum())
            most = group.limit if full else max(group.limit, int(counts[domain]))
            index_ = [int(self.at[vm, host]) for vm in members for host in there.tolist()]
            value = [float(size[vm]) for vm in members for _ in there]
            if flow[domain] >= 0:
                index_, value = [*index_, int(flow[domain])], [*value, 1.0]
            self.claims.most(self._rule(group.said.rule), max(0.0, most - held), index_, value)

    def _flow_over(self, group: Group, size: Floats) -> Ints:
        """Return for each domain a variable of the members there that are not told apart."""
        flow = np.full(len(group.before), -1, dtype=np.int64)
        total = float(size[self.fluid].sum())
        if total <= 0 or (group.domain[self.problem.up] < 0).any():
            return flow  # elsewhere there is room for any number
        for domain in range(len(flow)):
            flow[domain] = self.claims.linear.variable(0.0, total)
        # What is on a host that takes no more may stay there.
        stay = self.fluid & (group.domain[self.problem.home] < 0)
        elsewhere = self.claims.linear.variable(0.0, float(size[stay].sum()))
        self.claims.flow(total, [*flow.tolist(), elsewhere])
        return flow

    def _unit(self, group: Group, members: list[int], most: int) -> None:
        linear = self.claims.linear
        occupied = linear.variables(len(group.before), 0.0, 1.0, integer=True)
        for domain, variable in enumerate(occupied.tolist()):
            there = np.flatnonzero(group.domain == domain)
            for vm in members:
                index = [*self.at[vm, there].tolist(), variable]
                linear.row(-np.inf, 0.0, index, [*np.ones(len(there)), -1.0])
        claim = self._rule(group.said.rule)
        self.claims.most(claim, float(most), occupied.tolist(), [1.0] * len(occupied))

    def caps(self) -> None:
        """Bound the number of VMs that move, and what they copy."""
        problem, cap = self.problem, self.problem.caps.migrations
        if cap is not None and cap < len(self.core):
            text = f"no more than {counted(cap, 'migration')} a run"
            self._cap("cap", text, float(cap), np.ones(len(problem.vms)))
        budgets = problem.budgets
        for size, most, name in zip(budgets.size, budgets.most, budgets.names, strict=True):
            if size[self.core].sum() > most:
                self._cap(name, name, float(most), size)

    def _cap(self, key: str, text: str, most: float, size: Floats) -> None:
        """Bound what the VMs that move take: `size` (N,) each."""
        hosts = len(self.problem.hosts)
        away = [(vm, to) for vm in self.core for to in range(hosts) if to != self.problem.home[vm]]
        index = [int(self.at[vm, to]) for vm, to in away]
        value = [float(size[vm]) for vm, _ in away]
        # A VM is in one place, so its columns together are one at most.
        top = float(size[self.core].sum())
        self.claims.most(self.claims.claim(key, "limit", text), most, index, value, top)

    def _rule(self, rule: Rule) -> int:
        if isinstance(rule, Fact):
            return self.claims.claim(("rule", id(rule)), "fact", rule.claim)
        return self.claims.claim(("rule", id(rule)), "rule", cite(rule))

    def _host(self, host: int) -> int:
        one = self.problem.hosts[host]
        must = self.problem.draining[host]
        text = why_no_target(one) or f"{one.name} is {one.state.value}"
        if host == self.subject.drained:
            text += f": {self._leavers()} would have to leave"
        return self.claims.claim(("host", host), "must" if must else "fact", text)

    def _leavers(self) -> str:
        """Return the VMs that have to leave, with their memory."""
        problem, vms = self.problem, self.subject.vms
        sizes = [(problem.vms[vm].name, problem.weight[MEMORY, vm] / GIB) for vm in vms]
        shown = ", ".join(f"{name} ({gib:.1f} GiB)" for name, gib in sizes[:VMS_SHOWN])
        rest = sum(gib for _, gib in sizes[VMS_SHOWN:])
        more = len(sizes) - VMS_SHOWN
        return shown + (f" and {counted(more, 'other')} ({rest:.1f} GiB)" if more > 0 else "")

    def _slots(self, host: int) -> int:
        text = f"the policy or the cluster allows no migration on {self.problem.hosts[host].name}"
        return self.claims.claim(("slots", host), "limit", text)

    def _stay(self) -> int:
        return self.claims.claim("stay", "limit", "a drain moves no VMs but those on drained hosts")


def _concerned(problem: Problem, subject: Subject) -> set[int]:
    """Return the VMs to be told apart: all, if they are few, else who shares rules with the VMs."""
    hosts = max(1, len(problem.hosts))
    if len(problem.vms) * hosts <= COLUMNS_MAX:
        return set(range(len(problem.vms)))
    found, fringe = set(subject.vms), list(subject.vms)
    while fringe:
        vm = fringe.pop()
        for index in problem.groups_of_vm.get(vm, ()):
            new = set(problem.groups[index].members.tolist()) - found
            if (len(found) + len(new)) * hosts <= COLUMNS_MAX:
                found |= new
                fringe.extend(new)
    return found
