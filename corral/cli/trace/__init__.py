"""``corral trace``: a run's journal as a tree, as it grows, or step by step."""
