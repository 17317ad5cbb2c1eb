"""Turns requests into prompts, and finds out how a model writes calls and thoughts."""
