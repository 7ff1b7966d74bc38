"""The independent judge: replays a plan against every rule, sharing no code with the planner."""
