"""What to do about a failed migration, by its code. A table, so that each line can be argued.

Codes are HRESULTs as unsigned 32 bit numbers; a Win32 code n is 0x80070000 + n. Texts are never
read: they come in the host's language.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from balancer.model.aside import About


class Reaction(StrEnum):
    """What a failure calls for.

    `REPLAN` and `QUARANTINE` both end the migration within its run; they differ in what a later
    run makes of it: plan anew at once, or keep this VM, source and target apart for a while.
    """

    WAIT = "wait"  # something else is at it: try again soon, for long
    RETRY = "retry"  # perhaps it passes: try again later, a few times
    REPLAN = "replan"  # true then, not now: the plan is out of date
    QUARANTINE = "quarantine"  # will fail again until somebody mends it
    STOP = "stop"  # start nothing more


@dataclass(frozen=True, slots=True)
class Failure:
    """A row: the reaction, what it means and what to do, for people, and what is to blame."""

    reaction: Reaction
    what: str
    remedy: str
    about: About = About.WAY


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and when to try again: the delay doubles each time up to `delay_max_s`."""

    attempts: int
    delay_s: float
    delay_max_s: float

    def delay_before(self, attempt: int) -> float:
        """Return the seconds to wait before retry number `attempt` (from 1)."""
        return float(min(self.delay_max_s, self.delay_s * 2.0 ** (attempt - 1)))


# WAIT: a backup or a storage migration of a large VM takes tens of minutes; each question is one
# cheap refusal. RETRY: a network that drops a connection once is common; thrice is a fault.
PATIENCE: Mapping[Reaction, Patience] = {
    Reaction.WAIT: Patience(attempts=20, delay_s=15.0, delay_max_s=120.0),
    Reaction.RETRY: Patience(attempts=2, delay_s=20.0, delay_max_s=60.0),
}

_DELEGATION = (
    "allow the host accounts Kerberos delegation (cifs and migration service), any protocol"
)

FAILURES: Mapping[int, Failure] = {
    0x8009030E: Failure(Reaction.QUARANTINE, "no credentials for the target", _DELEGATION),
    0x8009030D: Failure(
        Reaction.QUARANTINE, "the target does not accept the credentials", _DELEGATION
    ),
    0x80090322: Failure(
        Reaction.QUARANTINE, "wrong service principal", "check the hosts' service principal names"
    ),
    0x80070569: Failure(
        Reaction.QUARANTINE,
        "logon type not granted",
        "give NT VIRTUAL MACHINE the right to log on as a service on the target",
        About.TARGET,
    ),
    0x8007052F: Failure(
        Reaction.QUARANTINE, "account restriction", "check the policies on the computer accounts"
    ),
    0x80070534: Failure(
        Reaction.QUARANTINE,
        "the account that created the VM is unknown",
        "update the hosts, or recreate the VM's configuration under a known account",
        About.VM,
    ),
    0x80070005: Failure(
        Reaction.QUARANTINE, "access denied", "check the rights on the VM's files and shares"
    ),
    0x80042001: Failure(
        Reaction.QUARANTINE,
        "live migration over SMB fails to that node",
        "write its computer name in upper case in the registry, and restart it",
        About.TARGET,
    ),
    0x80048054: Failure(
        Reaction.QUARANTINE, "the SMB storage broke off", "check the storage's oplock settings"
    ),
    0x80131500: Failure(Reaction.REPLAN, "the host does not have the VM", "plan again"),
    0x80070426: Failure(
        Reaction.REPLAN, "a service is not running", "start the cluster service on the node"
    ),
    0x80071725: Failure(
        Reaction.STOP, "the cluster has no quorum", "bring back nodes or the witness first"
    ),
    0x80071395: Failure(Reaction.REPLAN, "the cluster has no such group", "plan again"),
    0x800713B2: Failure(Reaction.REPLAN, "the cluster has no such node", "plan again"),
    0x800713BA: Failure(Reaction.REPLAN, "the target is down", "bring it back, or plan again"),
    0x8007274C: Failure(
        Reaction.RETRY, "the target did not answer", "check the migration network and TCP 6600"
    ),
    0x8007274D: Failure(
        Reaction.RETRY, "the target refused to connect", "check the firewall for TCP 6600"
    ),
    0x80072746: Failure(Reaction.RETRY, "the connection was reset", "check the migration network"),
    0x8007271D: Failure(
        Reaction.RETRY, "the socket was forbidden", "check the firewall policy for TCP 6600"
    ),
    0x800705AA: Failure(
        Reaction.REPLAN, "the target lacks resources", "free memory there, or plan again"
    ),
    0x8007000E: Failure(
        Reaction.REPLAN, "the target lacks memory", "free memory there, or plan again"
    ),
    0xC03A0014: Failure(
        Reaction.QUARANTINE,
        "a disk or ISO image cannot be opened on the target",
        "eject it, or put it where both hosts reach it",
    ),
    0xC0370027: Failure(
        Reaction.QUARANTINE, "unreadable saved state", "discard the VM's saved state", About.VM
    ),
    0x80070035: Failure(
        Reaction.QUARANTINE, "network path not found", "check SMB (TCP 445) to the target"
    ),
    0x80071398: Failure(
        Reaction.QUARANTINE, "the target is no possible owner", "add it to the possible owners"
    ),
    0x800713AB: Failure(
        Reaction.QUARANTINE, "no network for live migration", "allow a cluster network for it"
    ),
    0x8007139F: Failure(Reaction.REPLAN, "the VM is not running", "start it, or leave it"),
    0x800713CE: Failure(Reaction.REPLAN, "the target is paused", "resume it, or plan again"),
    0x800700AA: Failure(Reaction.WAIT, "another migration is running", "wait for it"),
    0x80071714: Failure(Reaction.WAIT, "it is already moving", "wait for it"),
    0x80071738: Failure(Reaction.WAIT, "its group is busy", "wait"),
    0x8007173D: Failure(Reaction.WAIT, "a backup of the cluster runs", "wait for it"),
    0x80071741: Failure(
        Reaction.QUARANTINE,
        "the target's processors or configuration do not fit",
        "turn on processor compatibility for the VM",
    ),
    0x80071745: Failure(
        Reaction.REPLAN, "the target has not enough resources", "free memory there, or plan again"
    ),
    0x80071747: Failure(Reaction.WAIT, "its group is queued for something else", "wait"),
    0x80071748: Failure(Reaction.WAIT, "the VM is locked by a backup or storage move", "wait"),
    0x8007174A: Failure(Reaction.WAIT, "a node is being drained", "wait for the drain to end"),
    0x80071753: Failure(Reaction.REPLAN, "it would break an affinity rule", "plan again"),
    0x80071754: Failure(
        Reaction.QUARANTINE,
        "it is a replica",
        "fail it over first, or leave it where it is",
        About.VM,
    ),
}

UNKNOWN = Failure(
    Reaction.QUARANTINE, "a failure we do not know", "see the event log of both hosts"
)


def failure_of(code: int | None) -> Failure:
    """Return what a code means; a missing or unknown one is given up on, which is always safe."""
    return UNKNOWN if code is None else FAILURES.get(code, UNKNOWN)


def sentence(code: int | None, text: str = "") -> str:
    """Return a failure in words, with its code and the platform's own text."""
    failure = failure_of(code)
    number = "" if code is None else f" (0x{code:08X})"
    said = f"; the host said: {text}" if text else ""
    return f"{failure.what}{number}: {failure.remedy}{said}"


def retry_delay_s(code: int | None, attempts: int) -> float | None:
    """Return the seconds until the next try after `attempts` of them failed, or None to give up."""
    patience = PATIENCE.get(failure_of(code).reaction)
    if patience is None or attempts > patience.attempts:
        return None
    return patience.delay_before(attempts)
