"""Revisions and paths from outside: what git gets of them cannot be an option."""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.mcp_servers.git.runner import Git, Job
from corral.mcp_servers.tool import Call, JsonObject, ToolFault

_REVISION = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_./@^~{}+-]{0,250}")
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
"""What a first commit is compared with. Source: git-hash-object(1), of an empty tree."""

REVISION: JsonObject = {
    "type": "string",
    "minLength": 1,
    "maxLength": 251,
    "description": "A commit: a branch, a tag, a hash, HEAD~2.",
}
PATHS: JsonObject = {
    "type": "array",
    "items": {"type": "string", "minLength": 1, "maxLength": 4096},
    "maxItems": 1000,
    "description": "Only these files and folders, relative to the repository.",
}


def commit_of(git: Git, call: Call, revision: str) -> str:
    """The hash of the commit that a revision names. Raises ``ToolFault`` when there is none."""
    if not _REVISION.fullmatch(revision):
        raise ToolFault(f"{revision[:100]!r} is no name of a commit.")
    args = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    ran = git.run(call, Job(args, {}))
    if ran.status:
        raise ToolFault(f"There is no commit {revision!r}.")
    return ran.text.strip()


def has_commits(git: Git, call: Call) -> bool:
    """Whether there is a commit yet."""
    return not git.run(call, Job(("rev-parse", "--verify", "--quiet", "HEAD"), {})).status


def checked_paths(paths: Sequence[str]) -> tuple[str, ...]:
    """Paths below the repository, to stand after ``--``. Raises ``ToolFault`` for others."""
    for path in paths:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "\0" in path:
            raise ToolFault(f"{path[:200]!r} is no path below the repository.")
        if ".git" in (part.lower() for part in parts):
            raise ToolFault(f"{path[:200]!r} is git's own.")
    return tuple(paths)
