"""What the administrator wants: the policy as a value, its YAML, its selectors and rules."""
