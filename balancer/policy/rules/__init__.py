"""The rule kinds, one file each, and the dictionary that names them."""

from __future__ import annotations

from balancer.model.rule import Rule
from balancer.policy.rules.allow import Allow
from balancer.policy.rules.apart import Apart
from balancer.policy.rules.as_one import AsOne
from balancer.policy.rules.avoid import Avoid
from balancer.policy.rules.balancer_vm import BalancerVm
from balancer.policy.rules.last_resort import LastResort
from balancer.policy.rules.licence import Licence
from balancer.policy.rules.max_vms import MaxVms
from balancer.policy.rules.never_move import NeverMove
from balancer.policy.rules.one_at_a_time import OneAtATime
from balancer.policy.rules.only_during import OnlyDuring
from balancer.policy.rules.pin import Pin
from balancer.policy.rules.prefer import Prefer
from balancer.policy.rules.priority import Priority
from balancer.policy.rules.reserve import HostReserve
from balancer.policy.rules.spread import Spread
from balancer.policy.rules.together import Together
from balancer.policy.rules.within import Within

KINDS: dict[str, type[Rule]] = {
    kind.kind: kind
    for kind in (
        Allow,
        Apart,
        AsOne,
        Avoid,
        BalancerVm,
        LastResort,
        Licence,
        MaxVms,
        NeverMove,
        OneAtATime,
        OnlyDuring,
        Pin,
        Prefer,
        Priority,
        HostReserve,
        Spread,
        Together,
        Within,
    )
}

__all__ = [
    "KINDS",
    "Allow",
    "Apart",
    "AsOne",
    "Avoid",
    "BalancerVm",
    "HostReserve",
    "LastResort",
    "Licence",
    "MaxVms",
    "NeverMove",
    "OneAtATime",
    "OnlyDuring",
    "Pin",
    "Prefer",
    "Priority",
    "Spread",
    "Together",
    "Within",
]
