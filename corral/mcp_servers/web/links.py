"""The tool ``links``: where a page leads."""

from __future__ import annotations

from corral.mcp_servers.paging import page_of
from corral.mcp_servers.tool import Answer, Call
from corral.mcp_servers.web.addresses import Address
from corral.mcp_servers.web.fetch import Fetcher
from corral.mcp_servers.web.page import MAX_LINKS, Link
from corral.mcp_servers.web.texts import marked
from corral.mcp_servers.web.visiting import Visitor

DEFAULT_LINKS, MOST_LINKS = 100, 500


def links(fetcher: Fetcher, visitor: Visitor, call: Call) -> Answer:
    """The tool."""
    document = fetcher.read(visitor.start(call.text("url")), call, "links")
    found, all_links = document.found, document.page.links
    if call.flag("same_site"):
        all_links = [link for link in all_links if _is_on(link, found.address)]
    page = page_of(all_links, call, DEFAULT_LINKS)
    lines = [f"- {link.url}  {link.text}".rstrip() for link in page.items] or ["(no links)"]
    full = f"[Only the first {MAX_LINKS} links of the page are told.]"
    notes = [page.note("links"), full if len(document.page.links) >= MAX_LINKS else ""]
    text = [*found.moved(), marked("\n".join(lines), found.address.url), *filter(None, notes)]
    return Answer(
        "\n".join(text),
        {
            "url": found.address.url,
            "links": [link._asdict() for link in page.items],
            "total": page.total,
            "next_offset": page.next,
        },
    )


def _is_on(link: Link, address: Address) -> bool:
    """Whether a link stays on the page's host."""
    return link.url == address.origin or link.url.startswith(f"{address.origin}/")
