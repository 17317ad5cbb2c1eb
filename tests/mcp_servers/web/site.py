"""Web sites of a test, and the proxy that leads to them, in one server."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

Headers = dict[str, str]


@dataclass
class Reply:
    """What a page answers. ``body`` may be pieces; they are sent until the client has enough."""

    body: bytes | Iterator[bytes] = b""
    status: int = 200
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What was asked: the method, host, path with query, headers in lower case, and the body."""

    method: str
    host: str
    path: str
    headers: Headers
    body: bytes = b""


Page = Callable[[Request], Reply]


class Sites:
    """Pages by host and path. A host without a robots.txt has none."""

    def __init__(self) -> None:
        self.pages: dict[tuple[str, str], Page] = {}
        self.requests: list[Request] = []
        self.proxy = ""

    def at(self, url: str, page: Page | Reply | bytes | str) -> None:
        """Put something at an address."""
        parts = urlsplit(url)
        self.pages[parts.netloc, parts.path] = _page(page)

    def asked(self, *, robots: bool = False) -> list[str]:
        """The addresses that were asked for, in order."""
        return [
            f"http://{one.host}{one.path}"
            for one in self.requests
            if robots or one.path != "/robots.txt"
        ]

    def answer(self, request: Request) -> Reply:
        """What is at an address."""
        self.requests.append(request)
        page = self.pages.get((request.host, request.path.partition("?")[0]))
        return Reply(b"nothing here", 404) if page is None else page(request)


def html(text: str, **headers: str) -> Reply:
    """A page of HTML."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(text.encode(), headers={"Content-Type": "text/html; charset=utf-8", **named})


def redirect(url: str, status: int = 302) -> Reply:
    """A page that leads elsewhere."""
    return Reply(status=status, headers={"Location": url})


def _page(page: Page | Reply | bytes | str) -> Page:
    match page:
        case Reply():
            return lambda _request: page
        case str():
            return lambda _request: html(page)
        case bytes():
            return lambda _request: Reply(page)
        case _:
            return page


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sites: Sites

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        host = parts.netloc or self.headers.get("Host", "")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        reply = self.sites.answer(Request(self.command, host, path, headers, body))
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has had enough
            self._send(reply)

    do_POST = do_GET  # noqa: N815  # the name that the base class looks for

    def _send(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        headers = {"Connection": "close", **reply.headers}
        pieces = [reply.body] if isinstance(reply.body, bytes) else reply.body
        if isinstance(reply.body, bytes):
            headers.setdefault("Content-Length", str(len(reply.body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in pieces:
            self.wfile.write(piece)
            self.wfile.flush()

    def log_message(self, *args: object) -> None:
        pass


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that leaves early is what some tests are about


@contextmanager
def serving() -> Iterator[Sites]:
    """Serve on a port of the loopback for as long as the context lasts."""
    sites = Sites()
    handler = type("Handler", (_Handler,), {"sites": sites})
    with _Server(("127.0.0.1", 0), handler) as server:
        sites.proxy = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield sites
        finally:
            server.shutdown()
            thread.join()
