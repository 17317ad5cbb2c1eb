"""Guesses of what a model will say next, so that several tokens are evaluated at once."""
