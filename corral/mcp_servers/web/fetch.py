"""The tool ``fetch``: a page as a model can read it, in parts."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from http import HTTPStatus
from typing import NamedTuple, get_args

from corral.mcp_servers.tool import Answer, Call, Image, JsonObject, ToolFault
from corral.mcp_servers.web.addresses import Address, read_address
from corral.mcp_servers.web.page import Kind, Page, Want
from corral.mcp_servers.web.reader import Order, Reader
from corral.mcp_servers.web.texts import marked, one_line
from corral.mcp_servers.web.transport import Head, Transport, run
from corral.mcp_servers.web.visiting import Found, Visitor

PART_SIZES = (4_000, 20_000, 60_000)
"""How long a part of a page may be, in characters."""

DEFAULT_TIMEOUT, MAX_TIMEOUT = 30, 120

_KEPT_PAGES = 8
_MAX_IMAGE = 3 * 1024 * 1024
_IMAGES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
_HTML = ("text/html", "application/xhtml+xml")
_TEXTS = re.compile(
    r"text/.*|application/(?:xml|.*\+xml|x?-?yaml|toml|javascript|x-javascript|x-sh|sql|x-ndjson)"
)
_LOOKS_LIKE_HTML = re.compile(rb"\s*<(?:!doctype html|html|head|body)\b", re.IGNORECASE)
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w:.-]{2,40})", re.IGNORECASE)


class Document(NamedTuple):
    """One page as it was read, and how it was come by."""

    found: Found
    page: Page
    image: Image | None = None


class Fetcher:
    """Gets pages and reads them; keeps the last ones, so that their parts fit together."""

    def __init__(self, visitor: Visitor, reader: Reader) -> None:
        self._visitor, self._reader = visitor, reader
        self._read: OrderedDict[tuple[str, str], Document] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(self, call: Call) -> Answer:
        """The tool."""
        start = self._visitor.start(call.text("url"))
        form, part = call.text("format", "markdown"), int(call.number("part", 1))
        key = (start.url, form)
        with self._lock:
            document = self._read.get(key) if part > 1 else None
        if document is None:
            document = self.read(start, call, form)
            with self._lock:
                self._read[key] = document
                self._read.move_to_end(key)
                while len(self._read) > _KEPT_PAGES:
                    self._read.popitem(last=False)
        return _answer(document, part, int(call.number("part_size", PART_SIZES[1])))

    def read(self, start: Address, call: Call, form: str) -> Document:
        """Visit an address and read what is there, wherever the page itself leads on to."""
        self._reader.warm()
        seconds = call.number("timeout", DEFAULT_TIMEOUT)

        async def work(transport: Transport) -> Document:
            hops: list[Address] = []
            at = start
            while True:
                found = await self._visitor.visit(transport, at, call)
                found = found._replace(hops=(*hops, *found.hops))
                document = self._document(found, call, form)
                if not document.page.refresh or not _leads_on(document):
                    return document
                hops = [*found.hops, found.address]
                at = self._visitor.follow(hops, document.page.refresh)

        return run(call, self._visitor.settings.agent, seconds, work)

    def _document(self, found: Found, call: Call, form: str) -> Document:
        _check_status(found)
        kind = found.head.kind
        if kind in _IMAGES:
            return Document(found, Page(), _image(found, kind))
        order = Order(
            kind=_kind(found),
            content=found.body,
            url=found.address.url,
            charset=_charset(found.head),
        )
        if form == "raw" or (form == "text" and order.kind == "json"):
            order = order._replace(kind="text")
        if form in get_args(Want):
            order = order._replace(want=form)  # type: ignore[arg-type]  # one of these, as was checked
        call.progress(len(found.body) + 1, message="reading the page")
        return Document(found, self._reader.read(order, call))


def _leads_on(document: Document) -> bool:
    """Whether a page that sends its readers on leads anywhere else than to itself."""
    try:
        return read_address(document.page.refresh) != document.found.address
    except ToolFault:
        return True


def _check_status(found: Found) -> None:
    """Raise ``ToolFault`` for an answer that is no page."""
    if found.head.status != HTTPStatus.OK:
        told = found.head.told(found.address)
        raise ToolFault(f"{found.address.url} could not be got: {told}")


def _image(found: Found, kind: str) -> Image:
    data = found.body
    if found.cut or len(data) > _MAX_IMAGE:
        raise ToolFault(
            f"The image is too large to be shown: use download for {found.address.url}."
        )
    if not data.startswith(_IMAGES[kind]):
        raise ToolFault(f"{found.address.url} says that it is {kind}, and is not.")
    return Image(data, kind)


def _kind(found: Found) -> Kind:
    """How a body is to be read. Raises ``ToolFault`` for what is no text."""
    kind = found.head.kind
    if kind in _HTML or (not kind and _LOOKS_LIKE_HTML.match(found.body)):
        return "html"
    if kind == "application/json" or kind.endswith("+json"):
        return "json"
    if _TEXTS.fullmatch(kind) or (not kind and b"\0" not in found.body[:4096]):
        return "text"
    what = (
        "a PDF" if kind == "application/pdf" else f"of the type {one_line(kind, 80) or 'unknown'}"
    )
    raise ToolFault(
        f"{found.address.url} is {what}, which cannot be shown as text: "
        "use download to put it into the workspace."
    )


def _charset(head: Head) -> str:
    found = _CHARSET.search(head.headers.get("content-type", "")[:500])
    return found[1] if found else ""


def _answer(document: Document, part: int, size: int) -> Answer:
    found, page = document.found, document.page
    parts = max(1, -(-len(page.text) // size))
    if part > parts:
        raise ToolFault(
            f"The page has {parts} parts of {size} characters; there is no part {part}."
        )
    text = page.text[(part - 1) * size : part * size]
    data = _facts(document)
    data |= {
        "content": text,
        "part": part,
        "parts": parts,
        "next_part": part + 1 if part < parts else None,
    }
    shown = "\n".join([*_header(data), text or _nothing(document)])
    lines = [*found.moved(), marked(shown, found.address.url), *_notes(document, data)]
    return Answer("\n".join(lines), data, blocks=(document.image,) if document.image else ())


def _facts(document: Document) -> JsonObject:
    found, page = document.found, document.page
    return {
        "url": found.address.url,
        "redirects": [hop.url for hop in found.hops],
        "type": found.head.kind,
        "title": page.title,
        "author": page.author,
        "date": page.date,
        "canonical": page.canonical,
        "truncated": found.cut,
    }


def _header(data: JsonObject) -> list[str]:
    shown = ("title", "author", "date", "canonical")
    same = {"canonical": data["url"]}
    lines = [
        f"{name.capitalize()}: {data[name]}"
        for name in shown
        if data[name] and data[name] != same.get(name)
    ]
    return [*lines, ""] if lines else []


def _nothing(document: Document) -> str:
    return "(the image follows)" if document.image else "(there is no text)"


def _notes(document: Document, data: JsonObject) -> list[str]:
    notes = [document.page.note]
    if data["truncated"]:
        notes.append(f"Only the first {len(document.found.body)} bytes of it were read.")
    if data["next_part"]:
        notes.append(
            f"Part {data['part']} of {data['parts']}: read on with part={data['next_part']}."
        )
    return [f"[{note}]" for note in notes if note]
