"""Memory: compaction of a thread, and the long-term store of facts."""
