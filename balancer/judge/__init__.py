"""The independent judge: replays a plan against every rule, sharing no code with the planner.

What is legal is written down in docs/decisions/0001; the numbers in the docstrings here are its
clauses. `judge` looks at a whole plan, `judge_start` at one migration just before it starts.
"""

from __future__ import annotations

from balancer.judge.finding import Code, Finding
from balancer.judge.judge import judge
from balancer.judge.start import judge_start

__all__ = ["Code", "Finding", "judge", "judge_start"]
