"""Models that run on somebody else's machine."""
