"""All rules in force on a cluster, as the forms they resolve to.

The cluster's own rules and the policy's bind alike; where both speak of a VM, both hold, so
the stricter wins.
"""

from __future__ import annotations

from dataclasses import dataclass

from balancer.model.cluster import Cluster
from balancer.model.rule import Form, Rule
from balancer.policy.policy import Policy


@dataclass(frozen=True, slots=True)
class Said:
    """One form, and the rule that said it."""

    rule: Rule
    form: Form

    @property
    def hard(self) -> bool:
        """Tell whether it binds."""
        return self.rule.hard

    @property
    def during(self) -> bool:
        """Tell whether it holds at every instant."""
        return self.rule.during


def rules_in_force(cluster: Cluster, policy: Policy) -> tuple[Rule, ...]:
    """Return the cluster's own rules and the policy's, in that order."""
    return (*cluster.rules, *policy.rules)


def what_is_said(cluster: Cluster, policy: Policy) -> tuple[Said, ...]:
    """Resolve every rule in force on `cluster`, in the order they were written."""
    return tuple(
        Said(rule, form) for rule in rules_in_force(cluster, policy) for form in rule.says(cluster)
    )
