"""What the rules know of a tool call. All of it is handed in: nothing is looked up here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from corral.jsontypes import JsonObject
from corral.policies.provenance.labels import PUBLIC, Label
from corral.policies.provenance.verbatim import Page

_NO_LINKS: Mapping[str, str] = {}


@dataclass(frozen=True)
class ToolCall:
    """A tool call, as the rules see it.

    The hints are those that count: ``read_only`` and ``idempotent`` are true only where a server
    that the user trusts says so, ``destructive`` and ``open_world`` are false only there.
    ``sandboxed`` tools run in the sandbox, and only those with ``network`` reach anything from it.
    ``workspace`` is the absolute path of the granted folder; ``links`` says where a path of the
    arguments, as it is written there, leads on the disk, if that is not what is written.

    ``agents`` are the names from the run's own agent down to the one that asks. ``label`` is that
    of all that the model had read when it asked for this. ``user_texts`` are what the user has
    written in this conversation, ``public_pages`` the contents that anybody may have which the
    model had read, and ``returned_texts`` what the tool's own server has returned so far.
    ``holds_secret``: an argument stands for a value that was redacted. ``at`` is the local time,
    with its zone.

    ``remote`` servers are reached over the network, so that all that is sent to them leaves.
    ``rewindable``: what is changed in the workspace is kept, and can be brought back. ``schema`` is
    that of the arguments as a server that the user trusts declares it, and empty for others.
    """

    name: str
    args: JsonObject = field(hash=False)
    read_only: bool
    sandboxed: bool
    workspace: str
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    network: bool = True
    agents: tuple[str, ...] = ()
    label: Label = PUBLIC
    user_texts: tuple[str, ...] = ()
    public_pages: tuple[Page, ...] = field(default=(), repr=False)
    returned_texts: tuple[str, ...] = field(default=(), repr=False)
    links: Mapping[str, str] = field(default_factory=lambda: _NO_LINKS, hash=False)
    holds_secret: bool = False
    remote: bool = False
    rewindable: bool = True
    schema: JsonObject = field(default_factory=dict, hash=False, repr=False)
    at: datetime | None = None

    @property
    def server(self) -> str:
        """The part of the name before ``__``."""
        return self.name.partition("__")[0]

    @property
    def agent(self) -> str:
        """The agent that asks."""
        return self.agents[-1] if self.agents else ""

    @property
    def depth(self) -> int:
        """How many agents are above the one that asks."""
        return max(0, len(self.agents) - 1)
