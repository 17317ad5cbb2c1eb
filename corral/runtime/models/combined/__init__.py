"""Several models as one: chains that fall back, cascades that escalate, and routes."""
