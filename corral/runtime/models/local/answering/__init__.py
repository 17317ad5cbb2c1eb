"""Makes one answer: what to evaluate next, which token to take, and what of it to show."""
