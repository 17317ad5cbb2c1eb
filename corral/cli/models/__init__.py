"""The models that there are, and how they were used: ``corral models``."""
