"""The independent judge: replays a plan against every rule, sharing no code with the planner.

What is legal is written down in docs/decisions/0001; the numbers in the docstrings here are its
clauses. `judge` looks at a whole plan, `judge_start` at one migration just before it starts;
`goal_faults` asks whether a plan that was made for a goal serves it, `unseen_on_the_way` how much
of its way was not looked at.
"""

from __future__ import annotations

from balancer.judge.finding import Code, Finding
from balancer.judge.goal import goal_faults
from balancer.judge.judge import judge
from balancer.judge.start import judge_start
from balancer.judge.survive import unseen_on_the_way

__all__ = ["Code", "Finding", "goal_faults", "judge", "judge_start", "unseen_on_the_way"]
