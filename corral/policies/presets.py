"""The policies that need no file: ``read-only``, ``ask``, ``workspace`` and ``trusted``.

What holds under every policy (``guards.py``, ``provenance/guard.py``) is not in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from corral.policies.rules import Policy, Rule

DEFAULT = "ask"
"""The preset that holds where no policy is named."""

_OWN_SERVERS = ("files", "python", "shell")

READ_ONLY = Policy(
    "read-only",
    (
        Rule(read_only=True, action="allow"),
        Rule(
            action="deny",
            reason="The policy read-only allows no tool that may change things; "
            "with --policy ask such calls are asked about.",
        ),
    ),
)

_ASK = Policy("ask")

_WORKSPACE = Policy(
    "workspace",
    (
        *(
            Rule(server=server, sandboxed=True, within_workspace=True, action="allow")
            for server in _OWN_SERVERS
        ),
        *(
            Rule(
                server=server,
                action="ask",
                reason="This call leaves the granted folder or the sandbox.",
            )
            for server in _OWN_SERVERS
        ),
    ),
)

_TRUSTED = Policy("trusted", (Rule(action="allow"),))

PRESETS: Mapping[str, Policy] = MappingProxyType(
    {policy.name: policy for policy in (READ_ONLY, _ASK, _WORKSPACE, _TRUSTED)}
)
"""The presets by their names.

``read-only`` lets read-only tools run and denies all else. ``ask`` (the default) asks about all
that is not read-only. ``workspace`` lets our own sandboxed tools (``files``, ``python``, ``shell``)
run freely in the granted folder, asks when they would leave it, and is ``ask`` for all others.
``trusted`` lets every tool run; what untrusted content could have made an agent do is still asked.
"""
