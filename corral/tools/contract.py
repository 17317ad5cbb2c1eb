"""What a tool is, to every other room: a definition, a call and a result.

Every tool is an MCP tool: JSON Schema in, content out, annotations. A provider is one source
of tools: an MCP server, or Python functions offered as one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from corral.jsontypes import Json, JsonObject
from corral.sandbox.network.traffic import Watch
from corral.tools.inquiry import Answers, Desk, Round

SEPARATOR = "__"
"""Between server and tool in the name that a model sees: ``files__read_file``."""


@dataclass(frozen=True)
class ToolSpec:
    """One tool as a server declares it.

    The four hints are the server's own (MCP ``annotations``) and are claims. ``trusted`` says
    whether the user trusts this server's claims: only then may a hint loosen anything.
    """

    server: str
    tool: str
    description: str
    input_schema: JsonObject = field(hash=False)
    output_schema: JsonObject | None = field(default=None, hash=False)
    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    trusted: bool = False

    @property
    def name(self) -> str:
        """The name that the model uses, ``SERVER__TOOL``."""
        return f"{self.server}{SEPARATOR}{self.tool}"

    @property
    def repeatable(self) -> bool:
        """Whether a call in doubt may be made again without asking."""
        return self.trusted and (self.read_only or self.idempotent)

    def to_json(self) -> JsonObject:
        """This definition as a JSON object; ``from_json`` reads it back."""
        return dict(self.__dict__)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolSpec:
        """Read what ``to_json`` wrote."""
        return cls(**data)


def harmless_tool(
    server: str,
    tool: str,
    description: str,
    properties: JsonObject,
    *,
    optional: Collection[str] = (),
) -> ToolSpec:
    """A tool of Corral's own that changes nothing and reaches nothing outside.

    ``properties`` are the schemas of its arguments by name, all needed but the ``optional`` ones.
    """
    return ToolSpec(
        server=server,
        tool=tool,
        description=description,
        input_schema={
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name not in optional],
            "additionalProperties": False,
        },
        read_only=True,
        destructive=False,
        idempotent=True,
        open_world=False,
        trusted=True,
    )


@dataclass(frozen=True)
class ToolImage:
    """An image in a tool's result: its MIME type, and its bytes in base64."""

    mime_type: str
    base64: str = field(repr=False)


@dataclass(frozen=True)
class ToolResult:
    """What a call gave back.

    ``text`` is what the model reads, never longer than the pool's limit; ``dropped`` counts the
    characters that were cut from it. ``structured`` is the server's structured content after
    validation against the tool's output schema, or ``None``. ``label`` says where the content came
    from, where a tool of ours knows it (``corral.policies.provenance.labels``). ``images`` are for
    models that take them; the text names each of them. With ``asks`` the call is not over: it is to
    be made again with what its server has asked for (``CallOptions.answers``).
    """

    text: str
    structured: Json = None
    is_error: bool = False
    dropped: int = 0
    label: JsonObject | None = field(default=None, hash=False)
    images: tuple[ToolImage, ...] = ()
    asks: Round | None = None

    def to_json(self) -> JsonObject:
        """This result as a JSON object; ``from_json`` reads it back."""
        images = [vars(image) for image in self.images]
        asks = [self.asks.to_json()] if self.asks else []
        given = {**vars(self), "images": images, "asks": asks}
        return {k: v for k, v in given.items() if v or k not in ("label", "images", "asks")}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ToolResult:
        """Read what ``to_json`` wrote."""
        images = tuple(ToolImage(**image) for image in data.get("images", ()))
        asks = next((Round.from_json(one) for one in data.get("asks", ())), None)
        return cls(**{**data, "images": images, "asks": asks})


Progress = Callable[[float, float | None, str], Awaitable[None]]
"""Called with (done, total or ``None``, message) while a tool runs."""


@dataclass(frozen=True)
class CallOptions:
    """How one call is made.

    ``idempotency_key`` is the same on every attempt of one call and goes into the request's
    ``_meta`` as ``corral/idempotency-key``. ``timeout`` is in seconds. ``watch`` is told of every
    connection that a sandboxed server makes meanwhile. What the server asks meanwhile goes to
    ``desk``; ``answers`` are for what it has asked before.
    """

    idempotency_key: str
    timeout: float = 120.0
    progress: Progress | None = None
    watch: Watch | None = None
    desk: Desk | None = None
    answers: Answers | None = None


class ToolProvider(Protocol):
    """One source of tools. All methods may be called concurrently."""

    @property
    def name(self) -> str:
        """The server's name, the part before ``__``."""
        ...

    async def list_tools(self) -> list[ToolSpec]:
        """The tools on offer. Starts the server if need be.

        Raises ``ToolServerError`` when it cannot be started or breaks the protocol.
        """
        ...

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call one tool by the name that the server gave it.

        A tool that fails gives a result with ``is_error``. Raises ``ToolServerError`` when the
        server died or did not answer in time, so that the outcome is unknown.
        """
        ...

    async def aclose(self) -> None:
        """Stop the server and everything that it started. Safe to call twice."""
        ...
