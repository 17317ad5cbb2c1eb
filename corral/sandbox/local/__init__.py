"""Sandboxes on this machine: commands, sessions, files and their end, over any local back end."""
