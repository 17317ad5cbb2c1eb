"""What Corral needs of an MCP client, without the SDK: one session and the shapes it speaks in.

The SDK costs most of a second to import, so only ``corral.tools.sdk`` touches it, and that is
loaded when a server is first needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from corral.jsontypes import Json, JsonObject
from corral.tools.contract import Progress, ToolImage
from corral.tools.inquiry import Answers, Inquiry, Reply, Round, Sample, Sampled

CLOSED = -32000
"""JSON-RPC code: the connection ended before the answer came (also any server's own error)."""

INVALID_REQUEST = -32600
"""JSON-RPC code: the request itself was refused, as for a session that is gone."""

HEADER_MISMATCH = -32020
"""JSON-RPC code: the request was refused, its headers do not fit the tool's schema of now."""

NOT_SENT = {"corral": "not sent"}
"""``Refusal.data`` when the request provably never left."""

LOST = {"corral": "lost"}
"""``Refusal.data`` when the request left and its answer was lost."""


@dataclass(frozen=True)
class Hints:
    """MCP tool annotations as declared; ``None`` where the server says nothing."""

    read_only: bool | None = None
    destructive: bool | None = None
    idempotent: bool | None = None
    open_world: bool | None = None


@dataclass(frozen=True)
class Declared:
    """One tool as a server declared it, unchecked."""

    name: str
    description: str
    input_schema: JsonObject
    output_schema: JsonObject | None = None
    hints: Hints = field(default_factory=Hints)
    title: str = ""


@dataclass(frozen=True)
class Page:
    """One page of a tool listing; ``next`` is the cursor of the following one."""

    tools: Sequence[Declared]
    next: str | None = None


@dataclass(frozen=True)
class Request:
    """One tool call as it goes out; with ``answers`` it is made again for what it had asked."""

    tool: str
    args: JsonObject
    meta: dict[str, Any] = field(default_factory=dict)
    progress: Progress | None = None
    answers: Answers | None = None


@dataclass(frozen=True)
class Answer:
    """What a server answered to a call: its content in words, unchecked and uncapped.

    ``has_structured`` tells a missing structured content from a JSON ``null``. ``images`` are those
    that are taken (``corral.tools.images``).
    """

    text: str
    structured: Json = None
    has_structured: bool = False
    is_error: bool = False
    images: tuple[ToolImage, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """A JSON-RPC error in place of a result, from the server or from the connection."""

    code: int
    message: str
    data: Any = None


class Host(Protocol):
    """What a session needs of those who opened it: a server may ask, and say that it changed."""

    @property
    def roots(self) -> Sequence[str]:
        """The folders that it is told of, as ``file:`` addresses; empty: it is told of none."""
        ...

    @property
    def samples(self) -> bool:
        """Whether it may ask a model."""
        ...

    def changed(self) -> None:
        """It says that its tools have changed."""
        ...

    async def asked(self, inquiry: Inquiry) -> Reply:
        """It asks the user."""
        ...

    async def sampled(self, wanted: Sample) -> Sampled | Refusal:
        """It asks a model."""
        ...


class Session(Protocol):
    """One live connection to a server."""

    @property
    def legacy(self) -> bool:
        """Whether the server speaks a protocol version older than 2026-07-28."""
        ...

    @property
    def instructions(self) -> str:
        """What the server says of itself; no model is shown it."""
        ...

    async def list_page(self, cursor: str | None) -> Page | Refusal:
        """One page of the tools on offer."""
        ...

    async def call(self, request: Request) -> Answer | Round | Refusal:
        """Call a tool. Cancelling the awaiting task cancels the call on the server."""
        ...
