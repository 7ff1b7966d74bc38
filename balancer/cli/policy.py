"""`balancer policy`: what a policy says, with every number that its shorthands stand for."""

from __future__ import annotations

from dataclasses import asdict

import click
from rich.table import Table
from rich.text import Text

from balancer.cli.options import Source, examples, site_options
from balancer.cli.output import print_json
from balancer.cli.terminal import out
from balancer.policy.policy import Policy
from balancer.policy.quantities import format_duration, format_percent, format_size
from balancer.policy.stability import written
from balancer.policy.vocabulary import rule_to_dict


@click.command(
    name="policy",
    epilog=examples("balancer policy", "balancer policy --policy policies/default.yaml --json"),
)
@site_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: Source, *, as_json: bool) -> int:
    """Read a policy, and print what is in force with every number written out."""
    policy = source.policy()
    if as_json:
        print_json(_document(policy))
        return 0
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("key", no_wrap=True)
    table.add_column("value")
    for key, value in numbers_of(policy).items():
        table.add_row(Text(key), Text(value or "-"))
    out.print(table)
    return 0


def numbers_of(policy: Policy) -> dict[str, str]:
    """Return every number of a policy as it would be written, by dotted key; empty if off."""
    limits, reserve = policy.limits, policy.reserve
    said = {"name": policy.name, "mode": policy.mode.value, "goal": policy.goal.value}
    said["aggressiveness"] = "" if policy.aggressiveness is None else str(policy.aggressiveness)
    said |= {f"thresholds.{k}": format_percent(v) for k, v in asdict(policy.thresholds).items()}
    said["reserve.cpu"] = format_percent(reserve.cpu_fraction)
    said["reserve.memory"] = format_percent(reserve.memory_fraction)
    said["reserve.memory_at_least"] = format_size(reserve.memory_bytes)
    said["reserve.host_failures"] = str(reserve.host_failures)
    said["reserve.domain_failure"] = reserve.domain_failure
    packed = policy.consolidation
    said["consolidate.margin"] = format_percent(packed.margin)
    said["consolidate.awake_at_least"] = str(packed.awake_at_least)
    said["consolidate.majority"] = str(packed.majority).lower()
    for name, value in asdict(limits).items():
        said[f"limits.{name.removesuffix('_s')}"] = "" if value is None else _limit(name, value)
    said |= written("history", {} if policy.history is None else asdict(policy.history))
    said |= written("cooldown", asdict(policy.cooldown)) | written("costs", asdict(policy.costs))
    said["transport.prefer"] = policy.transport.prefer.value
    said["transport.write_settings"] = str(policy.transport.write_settings).lower()
    said["plan_lifetime"] = format_duration(policy.plan_lifetime_s)
    said["rules"] = str(len(policy.rules))
    return said


def _limit(name: str, value: float) -> str:
    if name.endswith("_s"):
        return format_duration(value)
    return format_size(value) if name.startswith("bytes") else str(value)


def _document(policy: Policy) -> dict[str, object]:
    """Return the policy as data: seconds, bytes and fractions, rules as they are written."""
    parts = ("thresholds", "reserve", "consolidation", "limits", "cooldown", "costs", "transport")
    return {
        "name": policy.name,
        "mode": policy.mode.value,
        "goal": policy.goal.value,
        "aggressiveness": policy.aggressiveness,
        **{part: asdict(getattr(policy, part)) for part in parts},
        "history": None if policy.history is None else asdict(policy.history),
        "plan_lifetime_s": policy.plan_lifetime_s,
        "rules": [rule_to_dict(rule) for rule in policy.rules],
        "sha256": policy.sha256,
    }
