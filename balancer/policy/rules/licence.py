"""`licence`: these VMs run on licensed hosts and nowhere else, not even in passing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from balancer.policy.rules.allow import Allow


@dataclass(frozen=True, slots=True, kw_only=True)
class Licence(Allow):
    """Keeps VMs on the hosts that software in them is licensed for.

    Like `allow`, but it cannot be made soft and holds at every instant: a stop-over on a host
    without a licence would have to be paid for as well.

    Args:
        hosts: The licensed hosts.
    """

    kind: ClassVar[str] = "licence"
    withheld: ClassVar[frozenset[str]] = frozenset({"hard", "during"})
