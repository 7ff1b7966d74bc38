"""What can be made of one host's answer alone, while other hosts are still being asked. Pure.

To a large cluster this is half of the work of a snapshot. Done in the thread that asked the host,
it fills the time that is spent waiting for the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from balancer.gateway.blockers import Standing, standing
from balancer.gateway.doubt import why_doubt
from balancer.gateway.load import Cores, vm_cores
from balancer.gateway.names import id_key
from balancer.gateway.states import tags
from balancer.gateway.wire import HostAnswer, VmRow


class HeardVm(NamedTuple):
    """One VM as its host shows it.

    Attributes:
        key: Its folded id.
        row: What the host said.
        cores: Logical processors that it uses, and would use.
        standing: What blocks it whatever the cluster says.
        switches: The virtual switches that it needs.
        tags: What its notes mark.
    """

    key: str
    row: VmRow
    cores: Cores
    standing: Standing
    switches: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """A host's answer and what follows from it alone.

    Attributes:
        answer: What it said.
        doubt: Why it cannot be planned on, or None.
        vms: Its VMs; of a doubted host, none.
    """

    answer: HostAnswer
    doubt: str | None
    vms: tuple[HeardVm, ...]


def hear(answer: HostAnswer) -> Heard:
    """Return what follows from one host's answer."""
    doubt = why_doubt(answer)
    if doubt is not None:
        return Heard(answer, doubt, ())
    cores = vm_cores(answer)
    vms = (
        HeardVm(
            id_key(row.id),
            row,
            cores[row.id],
            standing(row),
            tuple(row.switches),
            tags(row.notes),
        )
        for row in answer.vms.data or []
    )
    return Heard(answer, None, tuple(vms))
