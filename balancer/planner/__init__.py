"""The planner: a pure function from a snapshot and a policy to a plan."""
