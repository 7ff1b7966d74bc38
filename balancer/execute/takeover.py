"""Switching the cluster's built-in balancer off for the time of a run, where the policy says so.

It is a setting like any other that we change: announced in the journal before it is written, given
back at the end of the run, or by the next start after a crash, unless somebody else has changed it.
"""

from __future__ import annotations

from collections.abc import Sequence

from balancer.execute.knobs import AUTO_BALANCER
from balancer.execute.move import Move
from balancer.execute.settings import HostSetting
from balancer.gateway.port import Observation
from balancer.gateway.signs import OtherKind
from balancer.model.cluster import AutoBalancer
from balancer.model.plan import SettingChange
from balancer.policy.interlock import Heed
from balancer.policy.policy import Policy


def take_over(seen: Observation, policy: Policy, moves: Sequence[Move]) -> HostSetting | None:
    """Return the setting that has to be written before anything begins; None when none has."""
    mode = seen.cluster.settings.auto_balancer
    if mode is None or not moves or not taken_back(seen, policy):
        return None
    change = SettingChange(seen.cluster.name, AUTO_BALANCER, mode.value, AutoBalancer.OFF.value)
    return HostSetting(change, through=moves[0].migration.source)


def taken_back(seen: Observation, policy: Policy) -> bool:
    """Tell whether the built-in balancer acts although the policy says that we take over."""
    if policy.interlock.built_in_balancer is not Heed.TAKE_OVER:
        return False
    return any(other.kind is OtherKind.BUILT_IN for other in seen.others)
