"""Names in a workspace that have a meaning of their own, inside the sandbox and outside."""

from __future__ import annotations

TRASH = ".corral-trash"
"""The folder at a workspace's root that deleted files go to. No snapshot holds it."""

PROTECTED = {
    ".git": "it is git's own",
    "corral.toml": "it configures Corral",
    ".corral": "it holds Corral's agents",
}
"""What no tool writes, in lower case, and why: what stands there would run outside."""
