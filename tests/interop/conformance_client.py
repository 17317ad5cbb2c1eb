"""Corral's client pool as the official conformance suite drives a client.

The suite starts a command for each scenario, all at once. Ours (``conformance_stub.py``) asks the
process that serves ``by_socket``, so that the SDK is imported once. A person who says yes to
everything sits in front of the pool.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx2

from corral.errors import ToolServerError
from corral.tools.address import Address
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.http import HttpServer
from corral.tools.inquiry import Answers, Inquiry, Reply, Sample, Sampled
from corral.tools.oauth.logins import Login, Person
from corral.tools.oauth.settings import OAuthEntry
from corral.tools.pool import ToolPool
from corral.tools.server import Standing, Timing

CLIENT_METADATA = "https://conformance-test.local/client-metadata.json"
MOST_ROUNDS = 5


@dataclass(frozen=True)
class Scenario:
    """What the suite asks for: where its server is, and what a user would have configured."""

    url: str
    name: str
    context: Mapping[str, Any]

    def entry(self, issuer: str) -> OAuthEntry:
        known = {name: self.context.get(name) for name in ("client_id", "client_secret")}
        if self.name == "auth/client-credentials-basic":
            return OAuthEntry(**known, unattended=True, issuer=issuer)
        return OAuthEntry(**known, client_metadata_url=CLIENT_METADATA)

    def calls(self, specs: tuple[ToolSpec, ...]) -> list[tuple[ToolSpec, dict[str, Any]]]:
        by_name = {spec.tool: spec for spec in specs}
        if wanted := self.context.get("toolCalls"):
            return [(by_name[c["name"]], c["arguments"]) for c in wanted if c["name"] in by_name]
        if self.name == "json-schema-2020-12-preservation":
            # the suite's other tool is given the schema of the first, as it has arrived here
            first, *others = sorted(
                specs, key=lambda spec: "schema" in arguments(spec.input_schema)
            )
            return [(spec, {"schema": first.input_schema}) for spec in others]
        return [(spec, arguments(spec.input_schema)) for spec in specs]


class Yes:
    """Accepts every form with the values that it suggests, and opens every address."""

    run = "r-1"

    async def ask(self, inquiry: Inquiry, seconds: float) -> Reply:
        del seconds
        return Reply("accept", suggested(inquiry) if inquiry.mode == "form" else None)

    async def sample(self, wanted: Sample, seconds: float) -> Sampled:
        return Sampled(f"{len(wanted.messages)} messages", "test-model")


class Browser:
    """Follows a login to the address to which it returns, and reads that."""

    def __init__(self) -> None:
        self.came_back: dict[str, str] = {}

    async def show(self, url: str) -> None:
        async with httpx2.AsyncClient(timeout=60.0) as client:
            answer = await client.get(url)
        self.came_back = dict(parse_qsl(urlsplit(answer.headers["location"]).query))

    async def returned(self) -> Mapping[str, str]:
        return self.came_back


def suggested(inquiry: Inquiry) -> dict[str, Any]:
    fields = inquiry.schema.get("properties", {})
    needed = inquiry.schema.get("required", ())
    return {
        name: field.get("default", example(field))
        for name, field in fields.items()
        if "default" in field or name in needed
    }


def example(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    values = {"string": "test", "number": 5, "integer": 5, "boolean": True, "array": []}
    kind = schema.get("type", "string")
    if kind == "object":
        return arguments(schema)
    return values.get(kind if isinstance(kind, str) else kind[0], "test")


def arguments(schema: Mapping[str, Any]) -> dict[str, Any]:
    fields = schema.get("properties", {})
    return {name: example(field) for name, field in fields.items()}


async def call(pool: ToolPool, spec: ToolSpec, args: dict[str, Any]) -> ToolResult:
    """One call, made again with answers for as long as the server asks."""
    desk, answers = Yes(), None
    for number in range(MOST_ROUNDS):
        options = CallOptions(f"{spec.name}-{number}", 20.0, desk=desk, answers=answers)
        result = await pool.call(spec, args, options)
        if result.asks is None:
            return result
        replies = {key: await desk.ask(one, 1.0) for key, one in result.asks.inquiries.items()}
        answers = Answers(result.asks, replies)
    raise AssertionError("it asks for ever")


async def issuer_of(url: str) -> str:
    """Who issues the tokens for a server, as its administrator would tell a user."""
    base, _, path = url.rpartition("/")
    async with httpx2.AsyncClient(timeout=60.0) as client:
        answer = await client.get(f"{base}/.well-known/oauth-protected-resource/{path}")
    known = answer.json() if answer.status_code == 200 else {}
    return str(next(iter(known.get("authorization_servers", ())), ""))


async def play(scenario: Scenario) -> str:
    """Use every tool of the suite's server once; what came of it, in words."""
    browser = Browser()
    person = Person("http://127.0.0.1:3000/callback", browser.show, browser.returned)
    with tempfile.TemporaryDirectory() as folder:
        asks_issuer = scenario.name == "auth/client-credentials-basic"
        entry = scenario.entry(await issuer_of(scenario.url) if asks_issuer else "")
        login = Login(entry, Path(folder), person)
        server = HttpServer(
            "conformance",
            Address(scenario.url, login=login),
            standing=Standing(samples=True),
            timing=Timing(startup=60.0, call=60.0),
        )
        async with ToolPool([server]) as pool:
            catalog = await pool.catalog()
            said = [*catalog.problems, f"tools: {[spec.tool for spec in catalog.tools]}"]
            for spec, args in scenario.calls(catalog.tools):
                try:
                    said.append(f"{spec.tool}: {(await call(pool, spec, args)).text[:500]}")
                except ToolServerError as error:
                    said.append(f"{spec.tool} failed: {error}")
    failed = bool(catalog.problems) and not catalog.tools
    return json.dumps({"said": said, "code": int(failed)})


@asynccontextmanager
async def by_socket(path: Path) -> AsyncIterator[None]:
    """Play the scenarios that stubs ask for at a Unix socket."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(await reader.readline())
        writer.write((await play(Scenario(**asked))).encode() + b"\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(serve, path):
        yield
