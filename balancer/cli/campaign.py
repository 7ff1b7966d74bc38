"""Campaigns as a person and as a script read them."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from balancer.cli.output import GIB, counted, duration, print_json
from balancer.cli.terminal import err, out
from balancer.errors import ExitCode
from balancer.execute.campaign import Planned, Preview
from balancer.formats.strict import utc
from balancer.service.rolling import code_of, said_of
from balancer.store.campaigns import Campaign, HostStep

HOSTS_CELLS_MIN = 12
PREVIEW_SCHEMA = "balancer/rolling-plan/v1"
CAMPAIGN_SCHEMA = "balancer/rolling/v1"


def show_preview(preview: Preview, *, as_json: bool) -> ExitCode:
    """Print how a campaign would go; the answer is no where a host cannot have its turn."""
    if as_json:
        print_json(json.dumps(_preview_document(preview), ensure_ascii=False, indent=2))
    else:
        _show_turns(preview)
    for one in preview.turns:
        for stuck in one.turn.stuck:
            err.print(
                f"[yellow]cannot be emptied[/] {escape(stuck.host)}: {escape(stuck.name)}: "
                f"{escape(stuck.reason)}\n  remedy: {escape(stuck.remedy)}",
                soft_wrap=True,
            )
        if not one.turn.stuck and one.begins_at is None:
            named = escape(", ".join(one.turn.hosts))
            err.print(f"[yellow]no window is long enough for[/] {named}", soft_wrap=True)
    return ExitCode.DONE if preview.is_whole else ExitCode.ANSWER_IS_NO


def _show_turns(preview: Preview) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    back = ("back",) if preview.restore else ()
    for heading in ("turn", "hosts", "VMs", "GiB", "drain", *back, "begins", "ends by"):
        right = heading in ("turn", "VMs", "GiB")
        wide = heading == "hosts"
        table.add_column(
            heading,
            justify="right" if right else "left",
            no_wrap=not wide,
            min_width=HOSTS_CELLS_MIN if wide else None,
        )
    for number, one in enumerate(preview.turns, 1):
        turn = one.turn
        table.add_row(
            str(number),
            Text(", ".join(turn.hosts)),
            str(turn.migrations),
            f"{turn.moved_bytes / GIB:.1f}",
            duration(turn.drain_s),
            *([duration(turn.return_s)] if preview.restore else []),
            _when(one.begins_at),
            _when(one.ends_at),
        )
    out.print(table)
    hosts = sum(len(one.turn.hosts) for one in preview.turns)
    ends = max((one.ends_at for one in preview.turns if one.ends_at is not None), default=None)
    by = "" if ends is None else f", over by {_when(ends)}"
    out.print(
        f"{counted(hosts, 'host')} in {counted(len(preview.turns), 'turn')}, "
        f"{preview.moved_bytes / GIB:.1f} GiB moved{by}",
        soft_wrap=True,
    )


def _when(at: datetime | None) -> str:
    return "-" if at is None else f"{at.astimezone():%m-%d %H:%M}"


def _preview_document(preview: Preview) -> dict[str, Any]:
    return {
        "schema": PREVIEW_SCHEMA,
        "cluster": preview.cluster,
        "restore": preview.restore,
        "moved_bytes": preview.moved_bytes,
        "turns": [_turn_document(one) for one in preview.turns],
    }


def _turn_document(planned: Planned) -> dict[str, Any]:
    turn = planned.turn
    return {
        "hosts": list(turn.hosts),
        "migrations": turn.migrations,
        "moved_bytes": turn.moved_bytes,
        "drain_s": turn.drain_s,
        "return_s": turn.return_s,
        "begins_at": None if planned.begins_at is None else utc(planned.begins_at),
        "ends_at": None if planned.ends_at is None else utc(planned.ends_at),
        "stuck": [dataclasses.asdict(one) for one in turn.stuck],
    }


def show_campaign(campaign: Campaign, *, as_json: bool) -> ExitCode:
    """Print how a campaign stands, and return the exit code that says so."""
    if as_json:
        document = {
            "schema": CAMPAIGN_SCHEMA,
            "cluster": campaign.cluster,
            "campaign": campaign.id,
            "state": campaign.state.value,
            "reason": campaign.reason,
            "hosts": [
                {
                    "host": one.host,
                    "turn": one.batch + 1,
                    "step": one.step.value,
                    "since": utc(one.since),
                    "reason": one.reason,
                }
                for one in campaign.hosts
            ],
        }
        print_json(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        out.print(escape(said_of(campaign)), soft_wrap=True)
    return code_of(campaign)


def say_step(host: str, step: HostStep, text: str) -> None:
    """Print a step of a host on stderr."""
    tail = f": {escape(text)}" if text else ""
    err.print(f"[bold]{escape(host)}[/] {step.value}{tail}", soft_wrap=True)
