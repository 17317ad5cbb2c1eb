"""Ways of putting agents together, each a small graph over the door."""
