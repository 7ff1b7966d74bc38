"""`balancer explain`: why a plan does what it does, and why it does nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from balancer.cli.explained import (
    show_conflicts,
    show_effects,
    show_host,
    show_no_conflict,
    show_prices,
    show_tiers,
    show_whereabouts,
)
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.options import (
    SECONDS,
    Read,
    Source,
    examples,
    seconds_since_start,
    source_options,
)
from balancer.cli.output import print_json, show_plan, warn
from balancer.cli.pick import pick_host, pick_vm
from balancer.cli.terminal import err, out
from balancer.errors import ExitCode, InputError
from balancer.formats.plan import plan_to_json, read_plan
from balancer.hindsight import Hindsight
from balancer.judged import moment_of, plan_and_judge
from balancer.model.cluster import Cluster, Vm
from balancer.model.past import Past
from balancer.model.plan import Plan, Status
from balancer.planner import prices
from balancer.planner.conflict import Conflict, conflicts
from balancer.planner.whynot import Inquiry
from balancer.planner.whynothost import about_host
from balancer.policy.heed import heeding
from balancer.policy.policy import Policy


@dataclass(frozen=True)
class _Asked:
    """What every question is about: a task, and a plan for it."""

    cluster: Cluster
    policy: Policy
    past: Past | None
    plan: Plan

    def inquiry(self) -> Inquiry:
        return Inquiry(self.cluster, self.policy, self.plan, self.past)


@click.command(
    name="explain",
    epilog=examples(
        "balancer explain plan.json",
        "balancer explain --why-not SQL01:HV07",
        "balancer explain --why-not HV07",
        "balancer explain --snapshot inventory.json --why-not SQL01",
        "balancer explain --prices --time-limit 60",
        "balancer explain --conflict --json",
    ),
)
@source_options
@click.argument("plan_file", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option(
    "--why-not",
    "question",
    metavar="VM[:HOST]|HOST",
    help="Why the plan does not put a VM (id or name) on a host, or on any other; why nothing is "
    "moved to a host and off it (:HOST where a VM has the same name).",
)
@click.option(
    "--prices",
    "want_prices",
    is_flag=True,
    help="What each rule left out, more migrations, slots or memory would buy.",
)
@click.option(
    "--conflict",
    "want_conflict",
    is_flag=True,
    help="Which rules and facts stand against what must be; exit code 3 if any do.",
)
@click.option(
    "--time-limit",
    type=SECONDS,
    metavar="S",
    help="End the whole command within S seconds, with what is found by then.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(
    source: Source,
    plan_file: Path | None,
    question: str | None,
    time_limit: float | None,
    *,
    want_prices: bool,
    want_conflict: bool,
    as_json: bool,
) -> int:
    """Say why: of the plan in PLAN_FILE, or of the plan that would be made now.

    For each migration what it mends, what it gains and what it costs. Where something that must be
    cannot be: the smallest set of rules and facts in conflict, with exit code 3. With PLAN_FILE,
    --time-limit or --json that set is told only when asked for with --conflict.
    """
    if (question is not None) + want_prices + want_conflict > 1:
        raise InputError("one question at a time", remedy="leave out the other options")
    if want_prices:
        return _prices(source, plan_file, time_limit, as_json=as_json)
    if plan_file is not None and question is None and not want_conflict:
        return _told(read_plan(plan_file), as_json=as_json)
    asked = _asked(source, plan_file, time_limit, question)
    if question is not None:
        return _answer(asked, question, as_json=as_json)
    if want_conflict:
        return _conflict(asked, as_json=as_json)
    if not as_json and asked.plan.status is Status.INFEASIBLE and time_limit is None:
        inquiry = asked.inquiry()
        return _told(asked.plan, conflicts(inquiry.problem, inquiry.place), as_json=False)
    return _told(asked.plan, as_json=as_json)


def _task(source: Source) -> tuple[Read, Cluster, Policy, Hindsight | None]:
    """Read what a plan is made from."""
    seen = source.read()
    for text in seen.warnings:
        warn(text)
    cluster, policy = heeding(seen.cluster, source.policy(), seen.asides)
    return seen, cluster, policy, source.behind(cluster, policy)


def _asked(
    source: Source, plan_file: Path | None, time_limit: float | None, question: str | None
) -> _Asked:
    """Read a task and the plan for it that is asked about, or make one."""
    given = None if plan_file is None else read_plan(plan_file)
    with asked_to_stop() as interrupted:
        seen, cluster, policy, behind = _task(source)
        if question is not None:
            _meant(cluster, question)  # nobody waits for a plan to hear of a slip of the pen
        needed, past = (cluster, None) if behind is None else (behind.cluster, behind.past)
        if given is not None:
            return _Asked(needed, policy, past, _for(given, seen, policy))
        made = plan_and_judge(
            cluster,
            policy,
            behind=behind,
            sha256=seen.sha256,
            time_limit_s=time_limit,
            elapsed_s=seconds_since_start(),
            interrupted=interrupted,
        )
    for text in made.warnings:
        warn(text)
    return _Asked(needed, policy, past, made.plan)


def _for(plan: Plan, seen: Read, policy: Policy) -> Plan:
    """Return a plan that was given, if it is for what was read; warn where that has changed."""
    if plan.cluster != seen.cluster.name:
        raise InputError(
            f"the plan is for {plan.cluster!r}, not for {seen.cluster.name!r}",
            remedy="give the snapshot it was made from, or the cluster with --cluster",
        )
    if plan.snapshot_sha256 != seen.sha256:
        warn("the plan was made from another reading than the one that answers go by")
    if plan.policy_sha256 != policy.sha256:
        warn("the plan was made by another policy than the one that answers go by")
    return plan


def _told(plan: Plan, found: Sequence[Conflict] | None = None, *, as_json: bool) -> int:
    """Print a plan, and conflicts unless nobody looked for them."""
    if as_json:
        print_json(plan_to_json(plan))
    else:
        show_plan(plan)
        if found is None and plan.status is Status.INFEASIBLE:
            out.say("What is in conflict was not looked for: ask with --conflict.")
        show_conflicts(found or ())
        show_effects(plan)
        show_tiers(plan)
    return ExitCode.ANSWER_IS_NO if plan.status is Status.INFEASIBLE else ExitCode.DONE


def _answer(asked: _Asked, question: str, *, as_json: bool) -> int:
    inquiry = asked.inquiry()
    vm, host = _meant(asked.cluster, question)
    if vm is None:
        told = about_host(inquiry, host or "")
        if as_json:
            print_json(asdict(told))
        else:
            show_host(told)
        return ExitCode.DONE
    answer = inquiry.vm(vm.id, *([host] if host else []))
    if as_json:
        against = {one.host: list(one.against) for one in answer.instead}
        print_json(asdict(answer) | {"against": against})
    else:
        show_whereabouts(answer)
    return ExitCode.DONE


def _meant(cluster: Cluster, question: str) -> tuple[Vm | None, str | None]:
    """Return the VM and the host that a question names; a name may hold colons, and be both.

    Raises:
        InputError: There is no such VM or host, or several VMs share the name.
    """
    if (vm := pick_vm(cluster, question, or_none=True)) is not None:
        return vm, None
    head, colon, tail = question.rpartition(":")
    if colon:
        return (pick_vm(cluster, head) if head else None), pick_host(cluster, tail).name
    try:
        return None, pick_host(cluster, question).name
    except InputError:
        return pick_vm(cluster, question), None


def _conflict(asked: _Asked, *, as_json: bool) -> int:
    inquiry = asked.inquiry()
    found = conflicts(inquiry.problem, inquiry.place)
    if as_json:
        print_json({"conflicts": [asdict(one) for one in found]})
    elif found:
        show_conflicts(found)
    elif asked.plan.unresolved:
        show_no_conflict(asked.plan)
    else:
        out.say("Nothing is in conflict.")
    return ExitCode.ANSWER_IS_NO if found else ExitCode.DONE


def _prices(
    source: Source, plan_file: Path | None, time_limit: float | None, *, as_json: bool
) -> int:
    if plan_file is not None:
        raise InputError(
            "a plan that was made before cannot be priced", remedy="leave the plan out"
        )
    with asked_to_stop() as interrupted, _pricing() as on_progress:
        seen, cluster, policy, behind = _task(source)
        needed, past = (cluster, None) if behind is None else (behind.cluster, behind.past)
        found = prices(
            needed,
            policy,
            now=moment_of(seen.cluster),
            past=past,
            time_limit_s=time_limit,
            elapsed_s=seconds_since_start(),
            interrupted=interrupted,
            on_progress=on_progress,
        )
    if as_json:
        print_json(asdict(found))
    else:
        show_prices(found)
    return ExitCode.INTERRUPTED if interrupted() else ExitCode.DONE


@contextmanager
def _pricing() -> Iterator[Callable[[int, int, str], None]]:
    """Yield what shows how far the pricing is: a bar on a terminal, nothing elsewhere."""
    columns = (TextColumn("{task.completed} of {task.total}"), BarColumn(), TimeElapsedColumn())
    shown = Progress(*columns, TextColumn("{task.description}", markup=False), console=err,
                     transient=True, disable=not err.is_terminal)  # fmt: skip
    with shown:
        task = shown.add_task("the plan itself", total=None)

        def show(done: int, total: int, text: str) -> None:
            shown.update(task, completed=done, total=total, description=text)

        yield show
