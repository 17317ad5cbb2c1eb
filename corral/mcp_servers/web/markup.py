"""A page as Markdown or plain text, all of it: for short pages, and where no main text is found."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_BLOCKS = frozenset(
    {"address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details"}
    | {"div", "dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr"}
    | {"html", "legend", "main", "nav", "ol", "option", "p", "pre", "section", "summary", "table"}
    | {"tbody", "tfoot", "thead", "title", "ul"}
)
_HEADINGS = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_AROUND = {"b": "**", "strong": "**", "em": "*", "i": "*", "code": "`"}
_SPACES = re.compile(r"\s+")
_GAPS = re.compile(r"\n{3,}")


def to_markdown(root: HtmlElement, url: str) -> str:
    """All text of a page with headings, lists, links, tables and code."""
    return _Writer(url).written(root)


def to_text(root: HtmlElement) -> str:
    """All text of a page, one line for each block."""
    return _Writer(None).written(root)


class _Writer:
    """Walks the tree without recursion; ``url`` is what links start at, ``None`` for no markup."""

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._out: list[str] = []
        self._pre = 0

    def written(self, root: HtmlElement) -> str:
        import lxml.etree

        for event, node in lxml.etree.iterwalk(root, events=("start", "end")):
            if event == "start":
                self._open(node)
                self._say(node.text)
            else:
                self._close(node)
                if node is not root:
                    self._say(node.tail)
        lines = "".join(self._out).split("\n")
        return _GAPS.sub("\n\n", "\n".join(line.rstrip(" \t") for line in lines)).strip()

    def _say(self, text: str | None) -> None:
        if text:
            self._out.append(text if self._pre else _SPACES.sub(" ", text))

    def _open(self, node: HtmlElement) -> None:
        tag = node.tag
        if tag in _HEADINGS:
            self._out.append("\n\n" + self._mark(_HEADINGS[tag]))
        elif tag == "pre":
            self._out.append(self._mark("\n\n```\n", "\n\n"))
            self._pre += 1
        elif tag in _BLOCKS:
            self._out.append("\n\n")
        elif tag == "li":
            self._out.append(self._mark("\n- ", "\n"))
        elif tag == "tr":
            self._out.append(self._mark("\n| ", "\n"))
        elif tag == "br":
            self._out.append("\n")
        elif tag == "a" and node.get("href"):
            self._out.append(self._mark("["))
        elif tag in _AROUND and not self._pre:
            self._out.append(self._mark(_AROUND[tag]))

    def _close(self, node: HtmlElement) -> None:
        tag = node.tag
        if tag == "pre":
            self._pre -= 1
            self._out.append(self._mark("\n```\n\n", "\n\n"))
        elif tag in _HEADINGS or tag in _BLOCKS:
            self._out.append("\n\n")
        elif tag in {"td", "th"}:
            self._out.append(self._mark(" | ", " "))
        elif tag == "a" and (link := node.get("href")):
            self._out.append(self._mark(f"]({_resolved(self._url or '', link)})"))
        elif tag in _AROUND and not self._pre:
            self._out.append(self._mark(_AROUND[tag]))

    def _mark(self, mark: str, plain: str = "") -> str:
        return plain if self._url is None else mark


@lru_cache(maxsize=1024)
def _resolved(base: str, link: str) -> str:
    try:
        return urljoin(base, link.strip())
    except ValueError:
        return link
