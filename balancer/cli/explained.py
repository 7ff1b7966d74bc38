"""What `balancer explain` prints beside the plan: effects, answers, prices, conflicts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.cli.output import counted, duration
from balancer.cli.terminal import out
from balancer.model.effect import Effect, End, Gain
from balancer.model.plan import Plan
from balancer.planner.conflict import Conflict
from balancer.planner.prices import Price, Prices
from balancer.planner.whynot import Whereabouts
from balancer.planner.whynothost import Because, HostAnswer

CLAIMS_SHOWN = 8  # of each kind in a conflict
# Goals that leave something unresolved, as they are told, and when a bound is what was reached.
MUSTS = {
    "drain": "VMs left on draining hosts are",
    "rules": "breaches of hard rules are",
    "overload": "overload is",
}
ALIKE = 1e-7
IDLE_SHOWN = 8  # things of one sort that buy nothing and are still named


def _table(*headings: str, right: Sequence[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table


def show_effects(plan: Plan) -> None:
    """Print what each migration gains and costs: what would be worse without it alone."""
    effects = [(at, one, one.effect) for at, one in enumerate(plan.migrations, 1) if one.effect]
    if not effects:
        return
    table = _table(
        "#", "VM", "gains", "costs", "copies", "stands still", "source", "target",
        right=("#", "copies", "stands still"),
    )  # fmt: skip
    for at, one, effect in effects:
        table.add_row(
            str(at),
            Text(one.name),
            gains_text(effect.gains),
            "" if one.stopover else f"{effect.score_cost:.3g}",
            duration(effect.copy_s),
            f"{effect.blackout_s:.1f} s",
            *(Text(text) for text in _ends(effect)),
        )
    out.print("each alone: what would be worse without it, and what it costs in balance")
    out.print(table)


def _ends(effect: Effect) -> tuple[str, str]:
    """Return the change that a migration alone makes at its source and at its target."""
    if not effect.ends:
        return "", ""
    middle = len(effect.ends) // 2
    return _end(effect.ends[:middle]), _end(effect.ends[middle:])


def _end(ends: Iterable[End]) -> str:
    return ", ".join(
        f"{one.resource} {100 * one.without:.1f} → {100 * one.after:.1f} %" for one in ends
    )


def gains_text(gains: Iterable[Gain]) -> str:
    """Return gains in words: what is left out is the same."""
    return ", ".join(f"{gain.tier} {gain.by:.3g}" for gain in gains)


def show_tiers(plan: Plan) -> None:
    """Print the plan's goals, before and after."""
    if not plan.score.tiers:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("goal, most important first", no_wrap=True)
    for heading in ("before", "after", "proven at least"):
        table.add_column(heading, justify="right")
    for tier in plan.score.tiers:
        bound = "" if tier.bound is None else f"{tier.bound:.4g}"
        table.add_row(tier.name, f"{tier.before:.4g}", f"{tier.after:.4g}", bound)
    out.print(table)


def show_whereabouts(answer: Whereabouts) -> None:
    """Print where the plan puts a VM, and why not elsewhere."""
    goes = answer.target != answer.host
    what = f"goes from {answer.host} to {answer.target}" if goes else f"stays on {answer.host}"
    out.say(f"[bold]{escape(answer.name)}[/] {escape(what)}: {escape(answer.reason)}")
    for one in answer.instead:
        for sentence in one.against or (one.says,):
            out.say(f"  {escape(one.host)}: {escape(sentence)}")


def show_host(answer: HostAnswer) -> None:
    """Print what the plan does with a host, and why no more."""
    out.say(f"[bold]{escape(answer.host)}[/] is {answer.state}: {escape(answer.load)}")
    for verb, names, reasons in (
        ("comes", answer.comes, answer.not_to),
        ("leaves", answer.leaves, answer.not_off),
    ):
        listed = ", ".join(names)
        out.say(f"what {verb}: {escape(listed)}" if names else f"nothing {verb}")
        _because(reasons)


def _because(reasons: Iterable[Because]) -> None:
    for one in reasons:
        who = f"{counted(one.vms, 'VM')}: " if one.vms else ""  # a fact about the host keeps none
        out.say(f"  {who}{escape(one.reason)}")


def show_prices(found: Prices) -> None:
    """Print what each relaxation buys; those that buy nothing are counted."""
    out.say(
        f"priced is a plan of {counted(found.migrations, 'migration')}, "
        f"{duration(found.makespan_s)}"
    )
    if found.searched_on:
        out.say(f"searching longer alone gained: {gains_text(found.searched_on)}")
    buying = [price for price in found.prices if price.buys]
    if buying:
        _price_table(buying)
    _idle([price for price in found.prices if not price.buys])
    for text in found.untried:
        out.say(f"[yellow]not tried, the time was up:[/] {escape(text)}")


def _idle(prices: Sequence[Price]) -> None:
    """Print what buys nothing; where that is much, only how much."""
    alike: dict[str, list[str]] = {}
    for price in prices:
        alike.setdefault(_sure(price), []).append(price.relaxed)
    for sure, names in alike.items():
        if len(names) > IDLE_SHOWN:
            out.say(f"[bright_black]buys nothing{sure}:[/] each of {len(names)} others")
            continue
        for name in names:
            out.say(f"[bright_black]buys nothing{sure}:[/] {escape(name)}")


def _price_table(buying: Sequence[Price]) -> None:
    table = _table("what is relaxed", "buys", "at most", "migrations", right=("migrations",))
    for price in buying:
        gains = [gains_text(price.gains)] if price.gains else []
        gains += [f"{duration(price.faster_s)} sooner"] if price.faster_s else []
        most = "" if price.at_most is None else f"balance {price.at_most:.3g}"
        table.add_row(Text(price.relaxed), ", ".join(gains), most, f"{price.migrations:+d}")
    out.print(table)


def _sure(price: Price) -> str:
    if price.proven:
        return " (proven)"
    return "" if price.at_most is None else f" that was found (balance at most {price.at_most:.3g})"


def show_conflicts(found: Iterable[Conflict]) -> None:
    """Print what cannot be together; of many claims of a kind only the first."""
    for conflict in found:
        how = "these cannot all hold"
        if conflict.minimal:
            how = "no smaller set is in conflict" if conflict.smallest else "none can be left out"
        out.say(f"[red]in conflict[/], {escape(conflict.subject)} ({how}):")
        for kind in dict.fromkeys(member.kind for member in conflict.members):
            texts = [member.text for member in conflict.members if member.kind == kind]
            for text in texts[:CLAIMS_SHOWN]:
                out.say(f"  {kind}: {escape(text)}")
            if more := texts[CLAIMS_SHOWN:]:
                out.say(f"  {kind}: and {len(more)} more of this sort")


def show_no_conflict(plan: Plan) -> None:
    """Print of a plan that leaves something, and no conflict in it, what was asked and is known."""
    out.say(
        "No conflict was proven. Asked about are drained hosts and hard rules, but not overload, "
        "failures of hosts, or caps on how long a run takes."
    )
    left = [(at, one) for at, one in enumerate(plan.score.tiers) if one.after and one.name in MUSTS]
    proven = [one.bound is not None and one.bound >= one.after - ALIKE for _, one in left]
    for (at, tier), sure in zip(left, proven, strict=True):
        kept = ", unless what comes before it is worse" if at else ""
        if sure:
            out.say(f"Proven: {MUSTS[tier.name]} no less than {tier.after:.4g} in any plan{kept}.")
    if not all(proven):
        what = "What else" if any(proven) else "What"
        out.say(f"{what} stays unresolved may be for want of a better search.")
