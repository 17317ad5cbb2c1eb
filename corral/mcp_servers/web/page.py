"""What is found in a page by the process that reads it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Want = Literal["markdown", "text", "html", "links"]
Kind = Literal["html", "json", "text"]

MAX_LINKS = 5_000
"""How many different links of a page are told."""

IDLE = 120.0
"""Seconds without an order after which the process leaves."""


class Link(NamedTuple):
    """An address that a page links to, and the text that it gives it."""

    url: str
    text: str


class Page(NamedTuple):
    """A page as it was read; what it does not say is empty. ``refresh`` is where it leads on."""

    text: str = ""
    title: str = ""
    author: str = ""
    date: str = ""
    canonical: str = ""
    refresh: str = ""
    links: list[Link] = []  # noqa: RUF012  # a tuple's default, never changed
    note: str = ""
