"""An MCP server that wants a login, and who gives it: one small HTTP server on loopback."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import httpx2

Answer = tuple[int, dict[str, str], Any]


@dataclass
class Provider:
    """Everything of it, and what it has seen.

    ``issuer`` is its name, ``says_issuer`` the one that its answers have, and ``called`` the one
    in its description of itself.
    """

    port: int = 0
    issuer: str = ""
    says_issuer: str | None = None
    called: str | None = None
    expires_in: int = 3600
    refuses: str = ""
    valid: set[str] = field(default_factory=set)
    grants: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _refreshers: set[str] = field(default_factory=set)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.base}/mcp"

    def answer(self, method: str, target: str, headers: dict[str, str], body: str) -> Answer:
        parts = urlsplit(target)
        self.seen.append(f"{method} {parts.path}")
        query = {k: v[0] for k, v in parse_qs(parts.query).items()}
        match method, parts.path:
            case "GET", "/.well-known/oauth-protected-resource/mcp":
                resource = {"resource": self.url, "authorization_servers": [self.issuer]}
                return 200, {}, resource
            case "GET", "/.well-known/oauth-authorization-server":
                return 200, {}, self._metadata()
            case "POST", "/register":
                return 201, {}, {**json.loads(body), "client_id": f"client-{len(self.seen)}"}
            case "GET", "/authorize":
                return self._authorize(query)
            case "POST", "/token":
                return self._token({k: v[0] for k, v in parse_qs(body).items()})
            case "POST", "/mcp":
                return self._mcp(headers, body)
            case _:
                return 404, {}, {}

    def _metadata(self) -> dict[str, Any]:
        return {
            "issuer": self.called or self.issuer,
            "authorization_endpoint": f"{self.base}/authorize",
            "token_endpoint": f"{self.base}/token",
            "registration_endpoint": f"{self.base}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }

    def _authorize(self, query: dict[str, str]) -> Answer:
        code = f"code-{len(self._codes)}"
        self._codes[code] = query
        says = self.says_issuer if self.says_issuer is not None else self.issuer
        back = {"state": query["state"], "iss": says}
        back |= {"error": self.refuses} if self.refuses else {"code": code}
        return 302, {"location": f"{query['redirect_uri']}?{urlencode(back)}"}, {}

    def _token(self, form: dict[str, str]) -> Answer:
        self.grants.append(form["grant_type"])
        if form["grant_type"] == "refresh_token":
            if form["refresh_token"] not in self._refreshers:
                return 400, {}, {"error": "invalid_grant"}
        else:
            asked = self._codes.pop(form["code"], {})
            verifier = hashlib.sha256(form["code_verifier"].encode()).digest()
            challenge = base64.urlsafe_b64encode(verifier).decode().rstrip("=")
            if asked.get("code_challenge") != challenge or form["resource"] != self.url:
                return 400, {}, {"error": "invalid_grant", "secret": "tok-not-to-be-shown"}
        number = len(self.grants)
        access, refresh = f"tok-access-{number}", f"tok-refresh-{number}"
        self.valid, self._refreshers = {access}, {refresh}
        given = {"access_token": access, "refresh_token": refresh, "token_type": "Bearer"}
        return 200, {}, {**given, "expires_in": self.expires_in}

    def _mcp(self, headers: dict[str, str], body: str) -> Answer:
        if headers.get("authorization", "").removeprefix("Bearer ") not in self.valid:
            where = f"{self.base}/.well-known/oauth-protected-resource/mcp"
            return 401, {"www-authenticate": f'Bearer resource_metadata="{where}"'}, {}
        message = json.loads(body)
        if "id" not in message:
            return 202, {}, None
        return 200, {}, {"jsonrpc": "2.0", "id": message["id"], **_mcp_answer(message)}


def _mcp_answer(message: dict[str, Any]) -> dict[str, Any]:
    more = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    tool = {"name": "hello", "description": "Says hello.", "inputSchema": {"type": "object"}}
    able = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}
    match message["method"]:
        case "server/discover":
            return {"result": {**able, **more}}
        case "tools/list":
            return {"result": {"tools": [tool], **more}}
        case "tools/call":
            return {"result": {"content": [{"type": "text", "text": "hello"}], **more}}
        case _:
            return {"error": {"code": -32601, "message": "no such method"}}


@asynccontextmanager
async def open_provider() -> AsyncIterator[Provider]:
    """A provider on a free port."""
    provider = Provider()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.split("\r\n")
        pairs = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        method, target, _ = first.split(" ")
        status, more, content = provider.answer(method, target, headers, body)
        data = b"" if content is None else json.dumps(content).encode()
        lines = [f"HTTP/1.1 {status} Answer", *(f"{k}: {v}" for k, v in more.items())]
        lines += ["content-type: application/json", f"content-length: {len(data)}"]
        writer.write("\r\n".join([*lines, "connection: close", "", ""]).encode() + data)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider.port = server.sockets[0].getsockname()[1]
    provider.issuer = provider.base
    async with server:
        yield provider


async def browse(url: str) -> None:
    """What the browser of a person does who agrees to everything."""
    async with httpx2.AsyncClient(follow_redirects=True) as client:
        await client.get(url)
