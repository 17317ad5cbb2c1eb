"""Snapshots of a workspace: content-addressed, incremental, and put back without surprises."""
