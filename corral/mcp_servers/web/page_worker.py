"""The child process that reads what strangers wrote: HTML, JSON, and text in any charset.

An order is a line of JSON, which says how many bytes of content follow it. The answer is one or
two lines of JSON: what was found at once, and then, where it was asked for, the main text.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import re
import resource
import select
import sys
from copy import deepcopy
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import urljoin

from corral.mcp_servers.web.hidden import drop_hidden
from corral.mcp_servers.web.markup import to_markdown, to_text
from corral.mcp_servers.web.page import IDLE, MAX_LINKS, Link, Page, Want
from corral.mcp_servers.web.texts import one_line, visible

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_MEMORY = 768 * 1024 * 1024
_MAX_HTML = 4 * 1024 * 1024
_SHORT = 2_000
_MAX_PRETTY, _MAX_DEPTH = 512 * 1024, 24
_DECLARED = re.compile(
    rb"<meta[^>]{0,200}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w:.-]{2,40})", re.I
)
_REFRESH = re.compile(r"\s*(\d{1,9})(?:\.\d*)?\s*[;,]\s*url\s*=\s*(.*)", re.IGNORECASE | re.DOTALL)
_SOON = 10
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def main(argv: list[str]) -> int:
    """Answer orders until standard input ends, or none has come for a while."""
    sys.path += argv
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    logging.disable()
    import trafilatura  # noqa: F401  # while the page is still on its way

    orders = sys.stdin.buffer
    while select.select([orders], [], [], IDLE)[0] and (line := orders.readline()):
        order = json.loads(line)
        _answer(order, _exactly(orders, order["size"]))
    return 0


def _exactly(orders: BinaryIO, size: int) -> bytes:
    data = orders.read(size)
    if len(data) < size:
        raise SystemExit(0)
    return data


def _answer(order: dict[str, Any], content: bytes) -> None:
    text = decode(content, order["charset"])
    if order["kind"] == "json":
        _say(Page(text=visible(_pretty(text))))
    elif order["kind"] == "text":
        _say(Page(text=visible(text)))
    else:
        _read_html(text[:_MAX_HTML], order["url"], order["want"])


def _say(page: Page, *, more: bool = False) -> None:
    line = json.dumps({"more": more, "page": page._asdict()}).encode() + b"\n"
    data = memoryview(line)
    while data:
        data = data[os.write(1, data) :]


def decode(content: bytes, declared: str) -> str:
    """Bytes as text: by their mark, else as the headers or the page declare, else by a guess."""
    for mark, name in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    found = _DECLARED.search(content[:4096])
    in_page = found[1].decode("ascii", "replace") if found else ""
    for name in filter(None, (declared, in_page, "utf-8")):
        try:
            # Browsers read Latin-1 as Windows' superset of it (WHATWG Encoding, 4.2).
            usual = {"iso8859-1": "cp1252", "ascii": "cp1252"}.get(codecs.lookup(name).name, name)
            return content.decode(usual, "strict")
        except (UnicodeError, LookupError, ValueError):
            continue
    return _guessed(content)


def _guessed(content: bytes) -> str:
    from charset_normalizer import from_bytes  # only where nothing else fits

    best = from_bytes(content[: 1 << 16]).best()
    return content.decode(best.encoding if best else "cp1252", "replace")


def _pretty(text: str) -> str:
    """JSON with a line for each value, where that does not make it much longer."""
    if len(text) > _MAX_PRETTY or _depth(text) > _MAX_DEPTH:
        return text
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1)
    except (ValueError, RecursionError):
        return text


def _depth(text: str) -> int:
    """How deep brackets nest; those within strings count as well, so it is never too low."""
    depth = deepest = 0
    for sign in re.findall(r"[\[{\]}]", text):
        depth += 1 if sign in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _read_html(text: str, url: str, want: Want) -> None:
    root = _parsed(text)
    if root is None:
        _say(Page(text=visible(text), note="It is no HTML that can be read; this is its source."))
        return
    base = _base(root, url)
    first = Page(
        title=one_line(root.findtext(".//title") or ""),
        canonical=_canonical(root, base),
        refresh=_refresh(root, base),
    )
    whole = deepcopy(root)  # what names author and date is mostly not shown
    drop_hidden(root)
    body = root.find("body")
    shown = root if body is None else body
    match want:
        case "links":
            _say(first._replace(links=_links(root, base)))
        case "html":
            _say(first._replace(text=visible(_source(root))))
        case "text":
            _say(first._replace(text=visible(to_text(shown))))
        case "markdown":
            page = first._replace(text=visible(to_markdown(shown, base)))
            _say(page, more=True)
            _say(_with_main_text(_with_facts(page, whole, url), root, base))


def _parsed(text: str) -> HtmlElement | None:
    import lxml.etree
    from lxml import html

    try:
        # As bytes: a text that declares another charset would be refused.
        parser = html.HTMLParser(encoding="utf-8", remove_blank_text=False)
        root = html.document_fromstring(text.encode("utf-8", "replace"), parser=parser)
    except (lxml.etree.LxmlError, ValueError, AssertionError):
        return None
    return root


def _with_facts(page: Page, root: HtmlElement, url: str) -> Page:
    """The page with its title, author and date, as far as it names them."""
    import trafilatura

    facts = trafilatura.extract_metadata(root, default_url=url, extensive=False)
    return page._replace(
        title=one_line(facts.title or page.title),
        author=one_line(facts.author or ""),
        date=one_line(facts.date or "", 40),
    )


def _with_main_text(page: Page, root: HtmlElement, url: str) -> Page:
    """The page with its main text in place of all of it, where one stands out."""
    import trafilatura

    if len(page.text) <= _SHORT:
        return page
    found = trafilatura.extract(
        root, url=url, output_format="markdown", include_links=True, include_comments=False
    )
    main = visible(found or "").strip()
    if len(main) < min(_SHORT, len(page.text) // 4):
        return page._replace(note="No main text stands out; this is all text of the page.")
    return page._replace(text=main)


def _base(root: HtmlElement, url: str) -> str:
    node = root.find(".//base[@href]")
    return url if node is None else _joined(url, node.get("href", "")) or url


def _canonical(root: HtmlElement, base: str) -> str:
    for node in root.iterfind(".//link[@href]"):
        if "canonical" in node.get("rel", "").lower().split():
            return _joined(base, node.get("href", ""))
    return ""


def _refresh(root: HtmlElement, base: str) -> str:
    """Where a page sends its readers by itself, within a few seconds."""
    for node in root.iterfind(".//meta[@content]"):
        if node.get("http-equiv", "").strip().lower() == "refresh":
            found = _REFRESH.match(node.get("content", "")[:8_000])
            if found and int(found[1]) <= _SOON:
                return _joined(base, found[2].strip().strip("\"'"))
    return ""


def _links(root: HtmlElement, base: str) -> list[Link]:
    """Every address that is linked to, once, with the first text that names it."""
    found: dict[str, str] = {}
    for node in root.iter("a", "area"):
        link = node.get("href")
        url = "" if link is None else _joined(base, link).partition("#")[0]
        if not url.startswith(("http://", "https://")):
            continue
        if len(found) >= MAX_LINKS:
            break
        text = one_line(node.text_content() or node.get("title", "") or node.get("alt", ""))
        if not found.get(url):
            found[url] = text
    return [Link(url, text) for url, text in found.items()]


@lru_cache(maxsize=1024)
def _joined(base: str, link: str) -> str:
    try:
        return one_line(urljoin(base, link.strip()), 8_000)
    except ValueError:
        return ""


def _source(root: HtmlElement) -> str:
    from lxml import html

    return str(html.tostring(root, encoding="unicode"))
