"""The reference pages, written from the models and rule kinds themselves.

`python -m balancer.formats.reference docs/reference` renews them; a test says when that is due.
"""

from __future__ import annotations

import inspect
import sys
from dataclasses import MISSING
from pathlib import Path

from balancer.formats.schema import schema
from balancer.formats.tables import resolved, table
from balancer.model.outcome import Why
from balancer.model.rule import Rule
from balancer.policy.rules import KINDS
from balancer.policy.stability import LEVELS, numbers
from balancer.policy.vocabulary import written_fields

_OPENING = """\
# Policy reference

<!-- Written by `python -m balancer.formats.reference docs/reference`: change the docstrings. -->

A policy says what the administrator wants; YAML, read strictly:

- Unknown keys, keys that stand twice, tags, anchors and aliases are errors. Every error names file,
  line, column and key, says what was expected, and all errors of a file come at once.
- Values are text until their key gives them a type: a VM called `no` or `012` is just that.
  Booleans are `true` and `false` only.
- Units are always written: percentages `80%` (1% to 100%), durations `90s`, `15m`, `4h`, `2d`,
  sizes `32 GiB` (B, KiB, MiB, GiB, TiB, PiB), rates `10 Gbit/s`.
- A key with nothing after it counts as left out.

`balancer schema policy` prints the JSON Schema, with which editors complete and check a policy.
Ready-made policies are in [`policies/`](../../policies).
"""

_SELECTORS = """\
## Selectors

`vms` and `hosts` are lists; what their entries pick adds up. Case does not matter.

| written | picks |
|---|---|
| `web01` | the VM with this id; if there is none, every VM of this name (a warning if several) |
| `{glob: "web-*"}` | VMs whose name matches; in `hosts`, hosts whose name matches |
| `{tag: prod}` | VMs with this tag |
| `{group: "SQL*"}` | VMs in a cluster group whose name matches |
| `{priority: high}` | VMs with this start priority: high, medium, low, none |
| `{host: HV01}` | VMs that are on this host at present; in `hosts`, this host |

In `hosts`, a plain word is a host's name, and `glob` and `host` are the only other ways. A selector
that picks nothing is a warning, not an error: VMs come and go.
"""

_RULES = """\
## Rules

Each entry of `rules` has one key, the kind of the rule, and under it the rule's own keys. A rule
that is already broken is repaired where possible and never made worse.

What binds, in this order: the facts of the platform (memory, processors, switches, storage), the
cluster's own rules (possible owners, affinity, anti-affinity), the policy. Nothing further down can
allow what something further up forbids; where several speak of a VM, all hold. Hard rules that
cannot hold together, whatever is moved where, are an error that names all that it takes, with file
and line: without any one of them the others could (of more than twelve the rest are counted). So
are hours that never meet, of one VM or of VMs that move as one.
Drains and returns keep hard rules as well.

What can never do what it says is a warning: hours that are over, a list that leaves no host, a wish
that hard rules leave no host for, a set that is broken and must not move, a reserve of all memory.
"""

_WINDOWS = """\
## Windows and blackouts

```yaml
windows:
  - {days: [mon, tue, wed, thu], from: 22:00, to: 06:00, timezone: Europe/Berlin}
  - {days: [sat, sun], timezone: Europe/Berlin}
blackouts:
  - {first_date: 2026-12-20, last_date: 2027-01-06, timezone: Europe/Berlin}
```

The windows add up, and blackouts win. `days` and the dates are those on which an entry begins. It
follows the wall clocks of its time zone over summer time: a time that they skip (02:30 in the night
they go from 02:00 to 03:00) is the moment of the skip; of a time that comes twice a window takes
the first, while a blackout begins at the first and ends at the second.

A migration is started only if its predicted duration, stretched by how wrong such predictions have
been on this cluster, ends inside the window. What no longer fits is left for the next one. Windows
bind scheduled runs and approved plans, and `balancer apply` and `balancer move` as well.

"""


_LEVELS_OPENING = """\
## Levels of `aggressiveness`

A level is a shorthand for these keys; what is written itself wins. `balancer policy` prints every
number that is in force. Rules and draining hosts are seen to at every level, at once.

Demand is taken from history as follows: the percentile of each VM's recent readings without the
highest, scaled to what the VMs of a host have shown together; drawn towards the VM's usual by as
much as its deviations have not lasted before; and moved by what a daily or weekly season or a trend
has ahead, where its days prove one. A host is overloaded, or uneven, only once it has been for
`hold`. Memory is always the last reading's.

"""

_DOCUMENTS = """\
# Documents: snapshots, plans, run reports

<!-- Written by `python -m balancer.formats.reference docs/reference`: change the models. -->

All documents are JSON in UTF-8. Times are RFC 3339 in UTC; amounts are bytes, seconds, bits per
second, cores (logical processors) and fractions from 0 to 1, and their keys say which. NaN,
infinity and whole numbers beyond 2^63 are refused, and so is a key that stands twice in one object.
`null` means not known, as if the key were absent.

`balancer schema snapshot` and `balancer schema plan` print the JSON Schemas (draft 2020-12).
"""

_SNAPSHOT = """\
## Snapshot: `balancer/snapshot/v1`

A cluster as it was seen at one moment. `balancer observe` writes one; any other tool can as well,
because little is required. This is the smallest legal one:

```json
{
  "schema": "balancer/snapshot/v1",
  "cluster": "branch",
  "hosts": [{"name": "HV01", "cpu_cores": 32, "memory_bytes": 274877906944}],
  "vms": [
    {"id": "7f0c", "name": "web01", "host": "HV01",
     "cpu_used_cores": 1.5, "memory_assigned_bytes": 17179869184}
  ]
}
```

Unknown keys are ignored with a warning, because other tools write snapshots; an unknown word in
`blocked_by` blocks, with a warning. Refused are host names that differ by case alone or not at all,
VM ids that stand twice, VMs on unknown hosts, and negative or missing numbers. Several VMs may have
the same name. Files may be packed with gzip; `-` is the standard input.
"""

_PLAN = """\
## Plan: `balancer/plan/v1`

What to do, why, and how good it is. `balancer plan --json` prints one,
`balancer apply` executes it.

A plan is a partial order: `after` binds, `start_s` is a forecast. It is judged for every order
that `after` and the limits allow, and again as it runs. The same input gives the same bytes unless
`stopped_by` is `time` or `interrupt`. A plan that was changed by hand is checked like any other:
unknown keys, ids in `after` that are not there, migrations that wait for each other in a ring and
the like are refused.

`status` is `infeasible` only if something that must be (a drain, a stated limit) cannot be;
overload that cannot be relieved is `feasible` with entries in `unresolved`. So is a drain that was
not found because a time limit or an interrupt ended the search, where nothing says it cannot be.
"""

_REPORT = """\
## Run report: `balancer/report/v1`

What became of a plan: `cluster`, `plan` (its id), `end` (done, in_part, cancelled, refused),
`started_at`, `ended_at`, `migrations` and `notes` (settings switched and restored, adoptions,
refusals). Each migration has `migration` (its id in the plan), `vm`, `name`, `source`, `target`,
`state` (done, failed, cancelled, skipped; unknown where only looking again could tell),
`started_at`, `ended_at`, `percent`, `code` (the platform's, as an unsigned number), `why`, `reason`
and `blackout_s`.

`why` is one word where a migration did not happen, else null: WORDS.
"""

_HEADINGS = {
    "snapshot": {
        "HostPart": "Host",
        "MigrationPart": "A host's `migration`",
        "NetworkPart": "A host's `migration.networks`",
        "VmPart": "VM",
        "ClusterNetworkPart": "`networks` of the cluster",
        "SettingsPart": "`settings` of the cluster",
    },
    "plan": {
        "MigrationPart": "Migration",
        "EffectPart": "A migration's `effect`",
        "RepairPart": "`effect.repairs`",
        "GainPart": "`effect.gains`",
        "EndPart": "`effect.ends`",
        "SettingPart": "Setting",
        "NotMovedPart": "Not moved",
        "UnresolvedPart": "Unresolved",
        "ScorePart": "Score",
        "TierPart": "Tier",
        "SleepPart": "`sleep`",
        "SurvivalPart": "`survival`",
        "LostPart": "`survival.lost_before` and the like",
    },
}


def policy_reference() -> str:
    """Return docs/reference/policy.md."""
    made = schema("policy")
    parts = [_OPENING, "## Top level\n", table(made, made), ""]
    for name, part in made["properties"].items():
        inner = resolved(part, made)
        if inner.get("type") == "object":
            parts += [f"## `{name}`\n", f"{inner['description']}\n", table(inner, made), ""]
        if name == "aggressiveness":
            parts += [_LEVELS_OPENING + _levels(), ""]
    parts += [_WINDOWS + table(made["$defs"]["SpanEntry"], made), "", _SELECTORS, _RULES]
    for name, kind in sorted(KINDS.items()):
        parts += [f"### `{name}`\n", f"{_about(kind)}\n"]
        parts += [f"```yaml\nrules:\n  - {example(kind)}\n```", ""]
        parts += [table(made["$defs"][f"{name}_rule"], made), ""]
    return "\n".join(parts).rstrip() + "\n"


def _levels() -> str:
    """Return what each level of aggressiveness stands for, key by key."""
    rows = {level: numbers(value) for level, value in LEVELS.items()}
    lines = [
        "| key | " + " | ".join(str(level) for level in rows) + " |",
        "|---|" + "--:|" * len(rows),
    ]
    for key in next(iter(rows.values())):
        values = " | ".join(row[key] for row in rows.values())
        lines.append(f"| `{key}` | {values} |")
    return "\n".join(lines)


def _about(kind: type[Rule]) -> str:
    """Return what a rule kind is for, as its class says."""
    return inspect.cleandoc(kind.__doc__ or "").partition("\n\nArgs:")[0]


_EXAMPLES = {
    "vms": "[web01, web02]",
    "hosts": "[HV01, HV02]",
    "domain": "site",
    "limit": "60",
    "windows": "[{days: [sat, sun], timezone: Europe/Berlin}]",
}


def example(kind: type[Rule]) -> str:
    """Return the entry of a rule of this kind with nothing in it but what it needs."""
    needed = [field.name for field in written_fields(kind) if field.default is MISSING]
    inside = ", ".join(f"{name}: {_EXAMPLES[name]}" for name in needed)
    return f"{kind.kind}: {{{inside}}}"


def documents_reference() -> str:
    """Return docs/reference/documents.md."""
    parts = [_DOCUMENTS]
    for name, opening in (("snapshot", _SNAPSHOT), ("plan", _PLAN)):
        made = schema(name)
        parts += [opening, table(made, made), ""]
        for part_name, heading in _HEADINGS[name].items():
            part = made["$defs"][part_name]
            about = " ".join(part["description"].split())
            parts += [f"### {heading}\n", f"{about}\n", table(part, made), ""]
    parts.append(_REPORT.replace("WORDS", ", ".join(f"`{word.value}`" for word in Why)))
    return "\n".join(parts).rstrip() + "\n"


PAGES = {"policy.md": policy_reference, "documents.md": documents_reference}

if __name__ == "__main__":
    for page, write in PAGES.items():
        (Path(sys.argv[1]) / page).write_text(write(), "utf-8")
