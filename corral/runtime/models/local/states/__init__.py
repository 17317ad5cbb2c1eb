"""Conversations that left a model's cache: in memory, and on the disk for another process."""
