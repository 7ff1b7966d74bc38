"""`balancer demo`: a simulated cluster behind real WinRM, balanced before somebody's eyes.

What runs is the production path, to the last byte on the wire; only the hosts and the speed of
time are simulated.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from balancer.cli.carry import Onlooker, finish
from balancer.cli.interrupt import asked_to_stop
from balancer.cli.options import Finite
from balancer.cli.output import hosts_table, print_json
from balancer.cli.progress import Watch, watching
from balancer.cli.simulated import Simulated, serve
from balancer.cli.terminal import out
from balancer.clock import ScaledClock
from balancer.config import load_config
from balancer.connect import connect
from balancer.cycle import Cycle, run_cycle
from balancer.errors import ExitCode
from balancer.execute.charge import Charge
from balancer.execute.executor import exit_code
from balancer.execute.tenure import holding
from balancer.formats.outcome import report_to_json
from balancer.formats.plan import plan_to_json
from balancer.gateway.port import Observation
from balancer.policy.load import load_policy
from balancer.policy.policy import Mode, Policy
from balancer.store.store import Store

SPEED = 8.0


@click.command(name="demo")
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Of the simulated cluster.",
)
@click.option(
    "--speed",
    type=Finite(min=0.1, max=30.0),
    default=SPEED,
    show_default=True,
    metavar="FACTOR",
    help="How much faster than life its time runs.",
)
@click.option("--json", "as_json", is_flag=True, help="Print plan and report as JSON.")
def command(seed: int, speed: float, *, as_json: bool) -> int:
    """Start an overloaded cluster of 8 simulated hosts, bring it within policy, and look again."""
    clock = ScaledClock(speed)
    with (
        tempfile.TemporaryDirectory(prefix="balancer-demo-") as temporary,
        asked_to_stop() as interrupted,
        serve("demo", clock, Path(temporary), seed=seed) as simulated,
    ):
        config = load_config(simulated.config)
        part = config.cluster(None)
        # A cluster made a moment ago has no past that could be waited for.
        policy = replace(load_policy(Path(temporary) / "policy.yaml"), history=None)
        gateway = connect(config, part, clock)
        store = Store.open(config.store)
        try:
            with watching(as_json=as_json) as watch:
                guide = _Guide(watch, policy, simulated, quiet=as_json)

                def cycle() -> Cycle:
                    with holding(part.name, store, gateway, clock) as tenure:
                        lease = tenure.confirm()
                        charge = Charge(policy, gateway, store, clock, lease, interrupted)
                        return run_cycle(charge, Mode.AUTO, watcher=guide)

                first = cycle()
                code = _ended(first, guide, quiet=as_json)
                if interrupted():
                    return ExitCode.INTERRUPTED
                second = cycle()
        finally:
            gateway.close()
            store.close()
    if as_json and first.plan and first.report and second.plan:
        print_json(
            {
                "plan": json.loads(plan_to_json(first.plan)),
                "report": json.loads(report_to_json(first.report)),
                "second_plan": json.loads(plan_to_json(second.plan)),
            }
        )
    if not as_json and not second.migrations:
        out.print("A second run finds nothing to do. That is the whole product; README.md goes on.")
    return code if not second.migrations else ExitCode.EXECUTED_IN_PART


def _ended(cycle: Cycle, guide: Onlooker, *, quiet: bool) -> ExitCode:
    if cycle.report is None:
        return ExitCode.DONE
    if quiet:
        return exit_code(cycle.report.end)
    return finish(cycle.report, guide.told, as_json=False)


class _Guide(Onlooker):
    """An onlooker that also shows the hosts."""

    def __init__(self, watch: Watch, policy: Policy, simulated: Simulated, *, quiet: bool) -> None:
        super().__init__(watch, quiet=quiet)
        self._policy = policy
        self._cycles = 0
        if not quiet:
            endpoints = simulated.site.endpoints
            address, port = next(iter(endpoints.values()))
            out.rule("a simulated Hyper-V cluster", style="bright_black")
            out.print(
                f"{len(endpoints)} hosts, each behind WinRM over TLS with NTLM on its own port "
                f"(the first at https://{address}:{port}/wsman)"
            )

    def seen(self, observation: Observation) -> None:
        """Show the hosts before the first plan, and say when it is looked at again."""
        self._cycles += 1
        if self._quiet:
            return
        title = "before" if self._cycles == 1 else "after"
        out.print(hosts_table(observation.cluster, self._policy, f"\n{title}"))
        out.print()
        super().seen(observation)
