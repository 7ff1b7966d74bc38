"""From what somebody types to exactly one VM or host of a cluster, or a clear refusal."""

from __future__ import annotations

import os
from typing import Literal, overload

from balancer.errors import InputError
from balancer.model.cluster import Cluster, Host, Vm


@overload
def pick_vm(cluster: Cluster, text: str) -> Vm: ...
@overload
def pick_vm(cluster: Cluster, text: str, *, or_none: Literal[True]) -> Vm | None: ...
def pick_vm(cluster: Cluster, text: str, *, or_none: bool = False) -> Vm | None:
    """Return the VM with this id, else the only one with this name (case-insensitive).

    Raises:
        InputError: None, or several share the name: their ids and hosts are listed.
    """
    text = _as_typed(text)
    found = cluster.vms_by_folded_id.get(text.casefold()) or cluster.vms_by_folded_name.get(
        text.casefold(), ()
    )
    if len(found) == 1:
        return found[0]
    if not found:
        if or_none:
            return None
        raise InputError(
            f"no VM with id or name {text!r}", remedy="`balancer observe --json` lists them"
        )
    listed = "; ".join(f"{vm.id} on {vm.host}" for vm in found)
    raise InputError(
        f"{len(found)} VMs are named {text!r}: {listed}", remedy="give the id of the one you mean"
    )


def _as_typed(text: str) -> str:
    """Return an argument as UTF-8 where the locale was too narrow for what was typed."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text).decode("utf-8", "replace")
    return text


def pick_host(cluster: Cluster, text: str) -> Host:
    """Return the host of this name (case-insensitive; a short name finds its FQDN).

    Raises:
        InputError: There is none; the hosts are listed.
    """
    word = _as_typed(text).casefold()
    for host in cluster.hosts:
        if host.name.casefold() == word:
            return host
    short = [host for host in cluster.hosts if host.name.casefold().split(".")[0] == word]
    if len(short) == 1:
        return short[0]
    known = ", ".join(host.name for host in cluster.hosts)
    raise InputError(f"no host named {text!r}", remedy=f"the hosts are: {known}")
