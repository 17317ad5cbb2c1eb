"""Looking at an MCP server that agents use: what it declares, and what is trusted of that."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from corral.cli.context import current, open_records, open_runtime, warn_if_unconfined
from corral.cli.mcp.asking import confirm
from corral.cli.output import clean, console, note, one_line, report
from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.tools.contract import ToolProvider
    from corral.tools.pin_store import DatabasePins
    from corral.tools.pins import Comparison, Pin, Pins

_HINTS = {
    "read_only": ("only reads", ""),
    "destructive": ("may destroy", "destroys nothing"),
    "idempotent": ("may be repeated", ""),
    "open_world": ("reaches out", "reaches nothing outside"),
}


@dataclass(frozen=True)
class Look:
    """What a server declares now, what is trusted of it, and how they differ.

    ``is_ours``: it comes with Corral, and its definitions are not pinned. ``is_believed``: what it
    says of its tools counts, because it is ours or the user trusts it.
    """

    now: Pins
    trusted: Pins | None
    is_ours: bool
    is_believed: bool

    @property
    def differs(self) -> Comparison:
        """See ``Comparison``."""
        from corral.tools.pins import compare

        return compare(self.trusted, self.now)

    def standing(self, tool: str) -> str:
        """Whether a tool is offered to agents, in a word or two."""
        if self.is_ours or self.trusted is None:
            return ""
        differs = self.differs
        if tool in differs.new:
            return "new, not trusted"
        return "changed, not trusted" if tool in differs.changed else "trusted"

    @property
    def tokens(self) -> int:
        """Estimated tokens that the definitions take of a request."""
        from corral.runtime.tool_tokens import definition_tokens
        from corral.tools.contract import ToolSpec

        return definition_tokens(
            [
                ToolSpec(
                    self.now.server,
                    pin.tool,
                    str(pin.definition["description"]),
                    pin.definition["input_schema"],
                )
                for pin in self.now.tools.values()
            ]
        )

    def to_json(self) -> JsonObject:
        """All of it, for machines."""
        return {
            "server": self.now.server,
            "instructions": self.now.instructions,
            "definition_tokens": self.tokens,
            "warnings": list(self.now.warnings),
            "tools": [
                {
                    **pin.definition,
                    "fingerprint": pin.fingerprint,
                    "standing": self.standing(pin.tool),
                }
                for pin in self.now.tools.values()
            ],
        }


@asynccontextmanager
async def looked(name: str) -> AsyncIterator[tuple[Look, DatabasePins]]:
    """Start a server and look at it; with the store of what is trusted.

    Raises ``NotFoundError``, and ``ToolServerError`` when it cannot be started.
    """
    async with open_runtime() as corral:
        from corral.tools.pin_store import DatabasePins

        warn_if_unconfined(corral.settings)
        store = DatabasePins(corral.records.database)
        now = await _declared(corral.provider(name))
        entry = corral.settings.mcp.get(name)
        is_believed = entry is None or entry.trust
        yield Look(now, await store.load(name), entry is None, is_believed), store


async def _declared(provider: ToolProvider) -> Pins:
    from corral.tools.pins import Pins
    from corral.tools.server import McpServer
    from corral.tools.wire import Declared, Hints

    if isinstance(provider, McpServer):
        return await provider.declared()
    specs = await provider.list_tools()
    return Pins.of(
        provider.name,
        [
            Declared(
                spec.tool,
                spec.description,
                spec.input_schema,
                spec.output_schema,
                Hints(spec.read_only, spec.destructive, spec.idempotent, spec.open_world),
            )
            for spec in specs
        ],
    )


async def first_look(name: str, *, yes: bool) -> int:
    """Start a server that was just added, show its tools, and trust them if the user does.

    With ``yes`` what looks as if it was written to deceive waits all the same.
    """
    try:
        async with looked(name) as (look, store):
            show(look, whole=False)
            suspicious = {words.split(":")[0] for words in look.now.warnings}
            fine = look.now.only(tool for tool in look.now.tools if tool not in suspicious)
            if look.now.warnings and not yes:
                confirm("Trust these tools all the same?", yes=False, undone="none is trusted")
                fine = look.now
            await store.trust(fine)
    except CorralError as error:
        report(error.message, error.hint)
        note(f"It stays configured. Take it out with: {current().command('mcp', 'remove', name)}")
        return 1
    waiting = len(look.now.tools) - len(fine.tools)
    note(f"{len(fine.tools)} tools are pinned as they are now; a change will ask again.")
    if waiting:
        note(f"{waiting} are not trusted. Look at them: {current().command('mcp', 'trust', name)}")
    return 0


async def forget(name: str) -> None:
    """Forget what was trusted of a server."""
    async with open_records() as records:
        from corral.tools.pin_store import DatabasePins

        await DatabasePins(records.database).forget(name)


def show(look: Look, *, whole: bool) -> None:
    """Print a server's tools; ``whole`` with schemas, fingerprints and instructions."""
    out = console()
    count, tokens = len(look.now.tools), look.tokens
    out.print(f"{clean(look.now.server)}: {count} tools, ~{tokens:,} tokens", style="bold")
    for pin in look.now.tools.values():
        for line, style in _tool(pin, look, whole=whole):
            out.print(line, style=style)
    if whole and look.now.instructions:
        out.print("instructions (agents are not shown them)", style="bold")
        out.print(_indented(look.now.instructions))
    for words in look.now.warnings:
        out.print(f"! {clean(words)}", style="bold yellow")


def _claims(pin: Pin) -> str:
    """What the hints of a tool say of it."""
    said = ({True: yes, False: no}.get(pin.definition[key]) for key, (yes, no) in _HINTS.items())
    return ", ".join(filter(None, said))


def _tool(pin: Pin, look: Look, *, whole: bool) -> Iterator[tuple[str, str]]:
    definition = pin.definition
    claims = _claims(pin)
    hints = claims if look.is_believed or not claims else f"says it {claims}"
    about = "; ".join(filter(None, (hints, look.standing(pin.tool))))
    yield f"  {one_line(pin.tool)}" + (f"  ({about})" if about else ""), "bold"
    description = str(definition["description"])
    if not whole:
        yield f"    {one_line(description, 160)}", ""
        return
    if title := definition["title"]:
        yield f"    title: {one_line(str(title))}", ""
    yield _indented(description), ""
    for key in ("input_schema", "output_schema"):
        if schema := definition[key]:
            yield f"    {key}: {_json(schema)}", "dim"
    yield f"    fingerprint: {pin.fingerprint}", "dim"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in clean(text).splitlines())


def _json(value: object) -> str:
    import json

    return json.dumps(value, ensure_ascii=True)
