"""The policies that need no file: ``read-only``, ``ask`` and ``workspace``.

What holds under every policy (no writing to ``corral.toml``, policy files and ``.git``) is in
``rules.decide``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from corral.policies.rules import Policy, Rule

DEFAULT = "ask"
"""The preset that holds where no policy is named."""

_OWN_SERVERS = ("files__*", "python__*")

_READ_ONLY = Policy(
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
            Rule(tool=tool, sandboxed=True, within_workspace=True, action="allow")
            for tool in _OWN_SERVERS
        ),
        *(
            Rule(
                tool=tool,
                action="ask",
                reason="This call leaves the granted folder or the sandbox.",
            )
            for tool in _OWN_SERVERS
        ),
    ),
)

PRESETS: Mapping[str, Policy] = MappingProxyType(
    {policy.name: policy for policy in (_READ_ONLY, _ASK, _WORKSPACE)}
)
"""The presets by their names.

``read-only`` lets read-only tools run and denies all else. ``ask`` (the default) asks about all
that is not read-only. ``workspace`` lets our own sandboxed tools (``files``, ``python``) run
freely in the granted folder, asks when they would leave it, and is ``ask`` for all others.
"""
