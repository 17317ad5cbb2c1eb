"""Sandboxes at E2B: micro-VMs of a hosted service, driven by its own SDK."""
