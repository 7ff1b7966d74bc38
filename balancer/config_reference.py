"""The reference page of the configuration, written from the model that reads it.

`python -m balancer.config_reference docs/reference` renews it; a test says when that is due.
"""

from __future__ import annotations

import sys
from pathlib import Path

from balancer.config import config_schema
from balancer.formats.tables import table

PAGE = "configuration.md"

_OPENING = """\
# Configuration reference

<!-- Written by `python -m balancer.config_reference docs/reference`: change the descriptions. -->

One YAML file says which clusters there are, how to log in, and how `balancer run` behaves. What is
done to a cluster is its [policy's](policy.md) business. The file is the first of these that there
is: `--config FILE`, `$BALANCER_CONFIG`, `./balancer.yaml`, `/etc/balancer/balancer.yaml`. It is
read as strictly as a policy: unknown keys are errors, and units are written (`90s`, `15m`, `4h`,
`2d`). Paths are relative to the file. `balancer schema config` prints the JSON Schema for editors.

The service reads the file, its policies and passwords again on SIGHUP (`systemctl reload
balancer`). If anything in them is wrong, all stays as it was and the log says why. `store`,
`service.health` and what systemd loads as a credential need a restart.

The smallest configuration:

```yaml
version: 1
clusters:
  - name: PROD
    hosts: [hv01.corp.example, hv02.corp.example]
    connection:
      username: CORP\\svc-balancer
      password_file: password
```

One with everything that is usual:

```yaml
version: 1
store: /var/lib/balancer/balancer.sqlite
service:
  health: 127.0.0.1:9733
  stop: finish
  notify:
    - {url_file: teams-url, at_least: warning}
clusters:
  - name: PROD
    hosts: [HV01, HV02]
    domain: corp.example
    policy: policies/default.yaml
    connection:
      username: CORP\\svc-balancer
      password_file: password
      ca_file: corp-ca.pem
    schedule: {every: 15m, jitter: 2m}
    hooks:
      before_run: [/usr/local/bin/is-backup-idle, PROD]
  - name: BRANCH
    hosts: [BR1, BR2]
    addresses: {BR1: 10.20.0.11, BR2: "10.20.0.12:5986"}
    connection: {password_file: password, username: CORP\\svc-balancer}
    schedule: {cron: "30 22 * * mon-fri", timezone: Europe/Berlin}
```

No password stands in the file: it is read from a file (`…_file`) that holds nothing else, or from
an environment variable (`…_env`). A `…_file` that is a bare name is a credential of systemd
(`LoadCredential=`), or a file in `credentials/` beside the configuration, or beside the
configuration itself, in this order.
"""

# Section, heading, what to know besides the table.
_SECTIONS = (
    ("ClusterPart", "`clusters`", ""),
    ("ConnectionPart", "`clusters.connection`", ""),
    (
        "SchedulePart",
        "`clusters.schedule`",
        """\
Without `every` and `cron` a cluster is balanced every 15 minutes. A cycle that is late begins as
soon as it can. An interval goes on from the last cycle after a restart. Times of a `cron` that
passed while nobody could begin a cycle (a start and its delay, a hand-over, a store that fails, a
cluster that does not answer) are made up for by one cycle up to an hour later, or as long as the
policy's window stays open, which binds it as any other; other missed times are not, and a message
says so (`cycle_missed`). A cluster is read at its own place within each `sample_every`, and the
first cycles of many clusters are spread over `every` in the order of the configuration, so that
they do not all come at once; with the same `cron` for many clusters give it a `jitter`.

`cron` has five fields as crontab(5) has, with two differences: a day of the month and a weekday
must both fit, and there are no names such as `@daily`. It means the wall clock of `timezone`. A
fixed time that the clocks skip comes when they have; one that comes twice is the first. With a
star in minute or hour, it goes on in real time. A clock that somebody sets, forward or back,
brings at most one cycle and puts none off by more than the schedule's own pause.
""",
    ),
    (
        "HooksPart",
        "`clusters.hooks`",
        """\
A command is a list: the program and its arguments, without a shell. Its environment is `PATH`,
`HOME`, `LANG` and `TZ` of the service, and:

| variable | meaning |
|---|---|
| `BALANCER_HOOK` | `before_run` or `after_run` |
| `BALANCER_CLUSTER` | The cluster's name. |
| `BALANCER_PLAN` | The plan's id. |
| `BALANCER_MIGRATIONS` | How many migrations the plan has. |
| `BALANCER_HOSTS` | The hosts that take part, separated by commas. |
| `BALANCER_END` | After a run: `done`, `in_part`, `cancelled`, `refused`, `failed` (an error), \
`interrupted`. |
| `BALANCER_DONE`, `BALANCER_FAILED` | How many migrations were; empty where an error ended it. |

Its input is empty. What it prints, to either stream, is told in the log if it fails, the last 500
characters of it. After `timeout` it is killed with its children.

Each run whose `before_run` went well, or that has none, has its `after_run`, however it ends; after
`failed` some migrations may still be in flight, which the next start or turn brings to an end. Of a
run that a crash, a stop at once or another executor cut short, even in its `before_run`, whoever
acts on the cluster next runs it, with `interrupted`, once nothing of it moves any more. A crash at
the very end may have it run twice.
""",
    ),
    ("ServicePart", "`service`", ""),
    ("WorkerPart", "`service.worker`", ""),
    ("NotifyPart", "`service.notify`", ""),
    (
        "AutoPart",
        "`service.auto`",
        """\
With `mode: auto` the first run of a cluster has at most `first_run` migrations, and each run that
did what it meant to doubles that, until at 64 times as many the cap is gone. A run in which a
migration failed begins anew. The journal remembers, so a restart changes nothing.
""",
    ),
    (
        "RetentionPart",
        "`service.retention`",
        """\
`journal` and `audit` are 90 days at least. What is not over, or is still owed to a host, stays. A
line of the audit log can never be changed, and the database itself refuses to delete one within 60
days.
""",
    ),
)


def configuration_reference() -> str:
    """Return docs/reference/configuration.md."""
    made = dict(config_schema())
    parts = [_OPENING, "## Top level\n", table(made, made), ""]
    for name, heading, more in _SECTIONS:
        part = made["$defs"][name]
        about = " ".join(part["description"].split())
        parts += [f"## {heading}\n", f"{about}\n", table(part, made), ""]
        parts += [more] if more else []
    return "\n".join(parts).rstrip() + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / PAGE).write_text(configuration_reference(), "utf-8")
