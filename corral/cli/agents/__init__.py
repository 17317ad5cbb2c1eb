"""``corral agents``: the agents that there are, what they would do, and new ones."""
