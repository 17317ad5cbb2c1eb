"""``corral policy``: what the rules say to a call and why, tested, looked through and listed."""
