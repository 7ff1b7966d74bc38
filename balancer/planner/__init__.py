"""The planner: a pure function from a snapshot and a policy to a plan."""

from __future__ import annotations

from balancer.planner.advice import PlacementAdvice, place, why_not
from balancer.planner.back import bring_back
from balancer.planner.drain import Evacuation, Stuck, drain
from balancer.planner.plan import move, plan

__all__ = [
    "Evacuation",
    "PlacementAdvice",
    "Stuck",
    "bring_back",
    "drain",
    "move",
    "place",
    "plan",
    "why_not",
]
