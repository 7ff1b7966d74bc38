"""The planner: a pure function from a snapshot and a policy to a plan."""

from __future__ import annotations

from balancer.planner.advice import PlacementAdvice, place, why_not
from balancer.planner.back import bring_back
from balancer.planner.drain import Evacuation, Stuck, drain
from balancer.planner.fabric import plan_fabric
from balancer.planner.plan import EFFORT, move, plan
from balancer.planner.prices import prices

__all__ = [
    "EFFORT",
    "Evacuation",
    "PlacementAdvice",
    "Stuck",
    "bring_back",
    "drain",
    "move",
    "place",
    "plan",
    "plan_fabric",
    "prices",
    "why_not",
]
