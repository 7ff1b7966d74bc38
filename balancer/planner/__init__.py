"""The planner: a pure function from a snapshot and a policy to a plan."""

from __future__ import annotations

from balancer.planner.advice import PlacementAdvice, place, why_not
from balancer.planner.plan import move, plan

__all__ = ["PlacementAdvice", "move", "place", "plan", "why_not"]
