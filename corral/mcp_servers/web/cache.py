"""Answers kept in memory while the server runs (RFC 9111, as far as a private cache needs it)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from corral.mcp_servers.web.transport import Head

_MAX_BYTES = 32 * 1024 * 1024
_MAX_AGE = 24 * 3600.0


class Kept(NamedTuple):
    """One answer; ``until`` is the time on the monotonic clock up to which it counts as new."""

    url: str
    head: Head
    body: bytes
    cut: bool
    until: float

    @classmethod
    def of(cls, url: str, head: Head, body: bytes, cut: bool) -> Kept:
        """What just came from ``url``."""
        return cls(url, head, body, cut, time.monotonic() + _seconds(head))

    @property
    def fresh(self) -> bool:
        """Whether it needs not be asked for again."""
        return time.monotonic() < self.until

    @property
    def conditions(self) -> dict[str, str]:
        """Headers that ask for it only if it has changed."""
        headers = self.head.headers
        found = {"If-None-Match": headers.get("etag")}
        found["If-Modified-Since"] = headers.get("last-modified")
        return {name: value for name, value in found.items() if value}


class Cache:
    """The newest answers, up to a size in all."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, url: str) -> Kept | None:
        """What came from an address."""
        with self._lock:
            return self._kept.get(url)

    def keep(self, kept: Kept) -> None:
        """Keep an answer if it may be kept and could be used again."""
        control = _control(kept.head)
        useful = kept.fresh or kept.conditions
        varies = kept.head.headers.get("vary", "").strip() == "*"
        with self._lock:
            self._kept.pop(kept.url, None)
            if kept.head.status != 200 or "no-store" in control or varies or not useful:
                return
            self._kept[kept.url] = kept
            while sum(len(one.body) for one in self._kept.values()) > _MAX_BYTES:
                self._kept.popitem(last=False)

    def renew(self, kept: Kept, head: Head) -> tuple[Head, bytes, bool]:
        """What was kept, after the site has said (304) that it holds still."""
        merged = Head(kept.head.status, {**kept.head.headers, **head.headers})
        self.keep(Kept.of(kept.url, merged, kept.body, kept.cut))
        return merged, kept.body, kept.cut


def _control(head: Head) -> dict[str, str]:
    parts = (part.partition("=") for part in head.headers.get("cache-control", "").split(","))
    return {name.strip().lower(): value.strip(' "') for name, _, value in parts}


def _seconds(head: Head) -> float:
    """How long an answer counts as new; a guess is never made."""
    control = _control(head)
    age = control.get("max-age", "")
    if "no-cache" in control or not (age.isascii() and age.isdigit()):
        return 0.0
    return min(float(age[:9]), _MAX_AGE)
