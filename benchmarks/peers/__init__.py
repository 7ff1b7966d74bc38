"""Our planner beside the other balancers that can be had, on the same clusters."""
