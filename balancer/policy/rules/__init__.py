"""The rule kinds, one file each, and the dictionary that names them."""

from __future__ import annotations

from balancer.model.rule import Rule
from balancer.policy.rules.allow import Allow
from balancer.policy.rules.apart import Apart
from balancer.policy.rules.avoid import Avoid
from balancer.policy.rules.never_move import NeverMove
from balancer.policy.rules.pin import Pin
from balancer.policy.rules.together import Together

KINDS: dict[str, type[Rule]] = {
    kind.kind: kind for kind in (Allow, Apart, Avoid, NeverMove, Pin, Together)
}

__all__ = ["KINDS", "Allow", "Apart", "Avoid", "NeverMove", "Pin", "Together"]
