"""The command line: one verb a file; printing and exit codes only.

Verbs are imported when they are called, so that `balancer plan` does not pay for what only
`balancer demo` needs.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import importlib
import os
import sys
import traceback

import click

from balancer import __version__
from balancer.cli.terminal import discard_output, harmless, prepare_streams
from balancer.clock import SystemClock, process_age_s
from balancer.errors import BalancerError, ExitCode
from balancer.gateway.garbage import uncollected

VERBS = {
    "apply": "Execute a plan that was made before.",
    "approve": "Let a recommended plan be carried out.",
    "audit": "Show who did what, why, and what came of it.",
    "backtest": "Replay recorded days through a policy, and count what it would have done.",
    "backup": "Copy the records to a file while everything goes on.",
    "cancel": "Stop what is being carried out, or withdraw a request.",
    "check": "Tell whether the hosts can be reached, logged in to and driven.",
    "demo": "Balance a simulated cluster before your eyes, over real WinRM.",
    "drain": "Empty hosts before maintenance; nothing lands on them meanwhile.",
    "explain": "Say why a plan does what it does, or why a VM stays where it is.",
    "freeze": "Let nothing move any more on a cluster.",
    "move": "Live migrate one VM, to a host or to the best one.",
    "observe": "Read a cluster and show it, or write it down as a snapshot.",
    "place": "Name the best host for a new VM.",
    "plan": "Plan the migrations that bring a cluster within policy.",
    "policy": "Read a policy and print every number that is in force.",
    "reject": "Say no to a recommended plan.",
    "resume": "Take hosts back after maintenance, and what was there.",
    "rolling": "Walk a whole cluster: drain, patch, reboot and take back, host by host.",
    "run": "Look after the configured clusters, by schedule and on request.",
    "schema": "Print the JSON Schema of a document.",
    "simulate": "Serve a simulated cluster over WinRM, to try things on.",
    "status": "Show what runs, what ran last and who holds the cluster.",
    "thaw": "Lift a freeze.",
    "worker": "Carry out what `run` and other commands ask for, beside other workers.",
}


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EBADF, errno.EIO})


class Verbs(click.Group):
    """The verbs, each in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs in alphabetical order."""
        del ctx
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the verb's command."""
        del ctx
        if cmd_name not in VERBS:
            return None
        # Imports leave hardly any garbage; looking for it is a tenth of their time.
        with uncollected:
            module = importlib.import_module(f"balancer.cli.{cmd_name}")
        command = module.command
        if not isinstance(command, click.Command):
            raise TypeError(f"balancer.cli.{cmd_name}.command is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(sorted(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 our fault, 2 bad input, 3 the answer is no, 4 in part, "
    "5 cannot reach, 6 held by another executor, 130 interrupted.",
)
@click.version_option(__version__, prog_name="balancer")
def balancer() -> None:
    """A load balancer for Hyper-V: plans live migrations, proves them safe, carries them out."""


def main() -> None:
    """Run the command line and leave with the exit code that the outcome has."""
    prepare_streams()
    code = run(sys.argv[1:], age_s=process_age_s())
    try:
        sys.stdout.flush()
    except OSError:
        discard_output()
    # The process takes all that is left with it. To search that for cycles on the way out, a
    # thousand modules among it, takes as long as a tenth of what a short command does.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str], age_s: float = 0.0) -> int:
    """Run one command; every error becomes one message on stderr and its exit code.

    `age_s` is how long the process has been starting up: it counts against time limits.
    """
    # Told as a moment: by the time that a command asks, it has imported and read for a while.
    began_s = SystemClock().monotonic_s() - age_s
    try:
        result = balancer.main(
            args=arguments, prog_name="balancer", standalone_mode=False, obj=began_s
        )
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 -- the outermost edge
        return int(_report(error))
    return int(result) if isinstance(result, int) else int(ExitCode.DONE)


def _report(error: BaseException) -> int:
    """Say what went wrong, in one message, and return the exit code for it."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    text, code = _said(error)
    if text:
        _tell(text)
    if code is ExitCode.OUR_FAULT and os.environ.get("BALANCER_TRACEBACK"):
        traceback.print_exception(error)
    return code


def _said(error: BaseException) -> tuple[str, ExitCode]:
    """Return what to tell of an error, and its exit code."""
    text, code = f"error: {error}", ExitCode.BAD_INPUT
    match error:
        case click.Abort() | KeyboardInterrupt():
            text, code = "interrupted", ExitCode.INTERRUPTED
        case click.ClickException():
            context = getattr(error, "ctx", None)
            usage = "" if context is None else f"{context.get_usage()}\n"
            text = f"{usage}error: {error.format_message()}"
        case BalancerError():
            code = error.exit_code
        case BrokenPipeError():
            discard_output()
            text, code = "", ExitCode.DONE
        case OSError() if error.errno in _NO_ROOM:
            text = f"error: cannot write the output: {error.strerror}\n  remedy: make room for it"
        case _:
            text = (
                f"error: internal error: {type(error).__name__}: {error}\n"
                "  remedy: report it; BALANCER_TRACEBACK=1 shows where it happened"
            )
            code = ExitCode.OUR_FAULT
    return text, code


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody can be told that nobody can be told
        click.echo(harmless(text), err=True)
