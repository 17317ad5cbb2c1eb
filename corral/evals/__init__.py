"""Evaluation of agents: datasets, scorers, the runner and its report."""
