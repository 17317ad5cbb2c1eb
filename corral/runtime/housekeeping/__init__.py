"""Letting old runs go, deleting threads, and giving space back."""
