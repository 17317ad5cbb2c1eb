"""What a tool of ours is: a declaration, a function, and how its arguments are checked.

Tuples with names here and beside, not data classes: those import ``inspect``, which would take
longer than all the rest of a server's start.
"""

from __future__ import annotations

import threading
import time
from binascii import b2a_base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from corral.mcp_servers.schema import mismatch

JsonObject = dict[str, Any]

MAX_BLOCKS = 4 * 1024 * 1024
"""What the images of one answer may hold in all, in bytes before they are encoded."""

_BETWEEN_REPORTS = 0.1


class ToolFault(Exception):
    """A call that cannot be carried out; the text goes to the model."""


class Image(NamedTuple):
    """A picture for the model: its bytes, and a MIME type like ``image/png``."""

    data: bytes
    mime: str

    def to_json(self) -> JsonObject:
        """MCP's ``ImageContent``."""
        return {"type": "image", "data": self._encoded(), "mimeType": self.mime}

    def _encoded(self) -> str:
        return b2a_base64(self.data, newline=False).decode()


class ResourceLink(NamedTuple):
    """Where something is that an answer does not hold; ``size`` in bytes."""

    uri: str
    name: str
    mime: str
    size: int

    def to_json(self) -> JsonObject:
        """MCP's ``ResourceLink``, known since 2025-06-18."""
        link = {"type": "resource_link", "uri": self.uri, "name": self.name}
        return {**link, "mimeType": self.mime, "size": self.size}


class Answer(NamedTuple):
    """What a call gives back: text for the model, the same as data, and whether it failed.

    ``blocks`` come after the text. Images beyond ``MAX_BLOCKS`` are named and not sent.
    """

    text: str
    structured: JsonObject | None = None
    is_error: bool = False
    blocks: tuple[Image | ResourceLink, ...] = ()

    def to_json(self, version: str) -> JsonObject:
        """MCP's ``CallToolResult`` as a client of this protocol version may see it."""
        content: list[JsonObject] = [{"type": "text", "text": self.text}]
        room = MAX_BLOCKS
        for block in self.blocks:
            size = len(block.data) if isinstance(block, Image) else 0
            if size > room:
                note = f"[an image of {size} bytes is left out: it is too large]"
                content.append({"type": "text", "text": note})
            elif isinstance(block, Image) or version >= "2025-06-18":
                content.append(block.to_json())
                room -= size
            else:
                content.append({"type": "text", "text": f"[{block.name}: {block.uri}]"})
        result: JsonObject = {"content": content}
        if self.is_error:
            result["isError"] = True
        if self.structured is not None and version >= "2025-06-18":
            result["structuredContent"] = self.structured
        return result


class Call:
    """One call under way. ``cancelled`` is set when the client no longer wants the answer."""

    def __init__(
        self, arguments: JsonObject, report: Callable[[JsonObject], None] | None = None
    ) -> None:
        self.arguments = arguments
        self.cancelled = threading.Event()
        self._report = report
        self._reported = (-1.0, 0.0)  # how far it was, and when that was said

    @property
    def followed(self) -> bool:
        """Whether the client has asked to hear how far the work is."""
        return self._report is not None

    def progress(self, done: float, total: float | None = None, message: str = "") -> bool:
        """Say how far the work is, if the client has asked to hear of it; whether it was said.

        Costs nothing to call often: what is no progress, or follows too soon, is not sent.
        """
        now = time.monotonic()
        last, said = self._reported
        unwanted = self._report is None or self.cancelled.is_set()
        if unwanted or done <= last or now - said < _BETWEEN_REPORTS:
            return False
        self._reported = (done, now)
        report: JsonObject = {"progress": done, "message": message}
        assert self._report is not None
        self._report(report if total is None else {**report, "total": total})
        return True

    def texts(self, name: str) -> list[str]:
        """An array of strings; empty when it is left out."""
        values: list[str] = self.arguments.get(name, [])
        return values

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean argument."""
        value: bool = self.arguments.get(name, default)
        return value

    def text(self, name: str, default: str = "") -> str:
        """A string argument."""
        value: str = self.arguments.get(name, default)
        return value

    def number(self, name: str, default: float) -> float:
        """A number argument."""
        value: float = self.arguments.get(name, default)
        return value


class Effects(NamedTuple):
    """What a tool does to its surroundings: MCP's annotations, and they are true.

    ``open_world``: it reaches what is not on this machine, or brings what others wrote there.
    """

    read_only: bool
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False

    def to_json(self) -> JsonObject:
        """The annotations as MCP spells them."""
        return {
            "readOnlyHint": self.read_only,
            "destructiveHint": self.destructive,
            "idempotentHint": self.idempotent,
            "openWorldHint": self.open_world,
        }


READS = Effects(read_only=True, idempotent=True)


class Tool(NamedTuple):
    """One tool. ``properties`` holds JSON Schemas with ``type``, and for it what is checked:
    ``enum``, ``minimum`` and ``maximum``, ``minLength`` and ``maxLength``, ``items``, ``maxItems``,
    ``properties`` and ``required``.
    """

    name: str
    title: str
    description: str
    properties: Mapping[str, JsonObject]
    required: tuple[str, ...]
    effects: Effects
    run: Callable[[Call], Answer]
    output: JsonObject | None = None

    def to_json(self, version: str) -> JsonObject:
        """The declaration as a client of this protocol version may see it."""
        declared: JsonObject = {
            "name": self.name,
            "description": self.description,
            "inputSchema": {
                "type": "object",
                "properties": dict(self.properties),
                "required": list(self.required),
                "additionalProperties": False,
            },
        }
        if version >= "2025-03-26":
            declared["annotations"] = {"title": self.title, **self.effects.to_json()}
        if version >= "2025-06-18":
            declared["title"] = self.title
            if self.output is not None:
                declared["outputSchema"] = self.output
        return declared

    def check(self, arguments: JsonObject) -> str:
        """What is wrong with the arguments, in words; empty when nothing is."""
        missing = [name for name in self.required if name not in arguments]
        unknown = [name for name in arguments if name not in self.properties]
        faults = [f"the argument {name!r} is missing" for name in missing]
        faults += [f"there is no argument {name!r}" for name in unknown]
        for name, value in arguments.items():
            if name in self.properties:
                fault = mismatch(value, self.properties[name])
                faults += [f"the argument {name!r} {fault}"] if fault else []
        if not faults:
            return ""
        known = ", ".join(self.properties)
        return f"{self.name} was not run: {'; '.join(faults)}. It takes: {known}."
