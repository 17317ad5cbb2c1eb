"""What a server says about its tools, checked before anything else sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from corral.jsontypes import JsonObject
from corral.tools.bounded_validators import TooMuchWorkError
from corral.tools.contract import SEPARATOR, ToolResult, ToolSpec
from corral.tools.schemas import UnusableSchemaError, check_output, checked_schema
from corral.tools.text import cap, clean, one_line
from corral.tools.wire import Answer, Declared

MAX_NAME = 64
"""The longest full name of a tool; hosted providers refuse longer ones."""

MAX_TOOLS = 500
"""How many tools of one server are taken."""

MAX_TEXT = 1_000_000
"""How many characters of a result are kept at all; the pool keeps fewer."""

MAX_DESCRIPTION = 4000

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_ALREADY_SAID = 2000


@dataclass(frozen=True)
class Listing:
    """The usable tools of a server, and in words what was left out and why.

    ``withheld`` are those that would be usable if they were trusted.
    """

    specs: tuple[ToolSpec, ...]
    problems: tuple[str, ...]
    withheld: frozenset[str] = frozenset()


def check_tools(server: str, declared: Iterable[Declared], *, trusted: bool) -> Listing:
    """Turn what ``server`` declared into specs; a tool that cannot be used becomes a problem."""
    specs: dict[str, ToolSpec] = {}
    problems: list[str] = []
    seen: set[str] = set()
    for tool in declared:
        shown = one_line(tool.name, 80)
        try:
            if tool.name in seen:  # it is the first one that is pinned, even if it is of no use
                raise UnusableSchemaError("the server declares it twice; the first one counts")
            seen.add(tool.name)
            if len(specs) >= MAX_TOOLS:
                raise UnusableSchemaError(f"only the first {MAX_TOOLS} tools are used")
            specs[tool.name] = _spec(server, tool, trusted=trusted)
        except UnusableSchemaError as error:
            problems.append(f"{server}: tool {shown!r} left out: {error}")
    return Listing(tuple(specs.values()), tuple(problems))


def result_of(spec: ToolSpec, answer: Answer) -> ToolResult:
    """What a call gave, checked against what the tool declares.

    Structured content that breaks the tool's own output schema gives an error result that says
    so and keeps the text: the call was made, and what it did should be known. Structured content
    that is too much to check is left out.
    """
    raw, dropped = cap(answer.text, MAX_TEXT)
    text = clean(raw)
    if answer.is_error:
        said = text or "The tool failed without saying why."
        return ToolResult(said, None, True, dropped, images=answer.images)
    if not text and answer.has_structured:
        text = clean(json.dumps(answer.structured, ensure_ascii=False))
    try:
        broken = _broken_promise(spec, answer)
    except TooMuchWorkError:
        return ToolResult(text or "(no output)", dropped=dropped, images=answer.images)
    if broken:
        said = f"\nIts text was: {text[:_ALREADY_SAID]}" if text else ""
        return ToolResult(f"{spec.name} was called, but {broken}.{said}", is_error=True)
    return ToolResult(
        text or "(no output)", structured=answer.structured, dropped=dropped, images=answer.images
    )


def _broken_promise(spec: ToolSpec, answer: Answer) -> str:
    if spec.output_schema is None:
        return ""
    if not answer.has_structured:
        return "its answer lacks the structured content that its output schema promises"
    wrong = check_output(spec, answer.structured)
    return f"its structured content breaks its own output schema: {wrong}" if wrong else ""


def _spec(server: str, tool: Declared, *, trusted: bool) -> ToolSpec:
    full = f"{server}{SEPARATOR}{tool.name}"
    if not _NAME.fullmatch(tool.name):
        raise UnusableSchemaError("a name may hold only letters, digits, _ and -")
    if len(full) > MAX_NAME:
        raise UnusableSchemaError(f"{one_line(full, 100)} is longer than {MAX_NAME} characters")
    hints = tool.hints
    return ToolSpec(
        server=server,
        tool=tool.name,
        description=clean(tool.description[: 2 * MAX_DESCRIPTION])[:MAX_DESCRIPTION].strip(),
        input_schema=_checked("input", tool.input_schema, of_object=True),
        output_schema=_checked("output", tool.output_schema, of_object=False)
        if tool.output_schema
        else None,
        read_only=hints.read_only is True,
        destructive=hints.destructive is not False,
        idempotent=hints.idempotent is True,
        open_world=hints.open_world is not False,
        trusted=trusted,
    )


def _checked(which: str, schema: JsonObject, *, of_object: bool) -> JsonObject:
    try:
        return checked_schema(schema, of_object=of_object)
    except UnusableSchemaError as error:
        raise UnusableSchemaError(f"its {which} schema cannot be used: {error}") from error
