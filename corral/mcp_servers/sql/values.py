"""Cells and rows as JSON, each of bounded size whatever a database gives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, NamedTuple

MAX_BYTES = 100_000
"""What the rows of one answer may measure as JSON."""

MAX_CELL = 4_000
"""How many characters of a text, and bytes of a binary value, are given."""

_LEAST_CELL = 16
_MAX_ITEMS = 200
_MAX_DEPTH = 6
_SAFE_INTEGER = 2**53  # what every reader of JSON keeps exactly: RFC 8259, section 6
_INFINITE = {datetime.max: "infinity", datetime.min: "-infinity"}  # DuckDB's names for them
_INFINITE_DATES = {date.max: "infinity", date.min: "-infinity"}


class Rows(NamedTuple):
    """Rows as they are sent. ``more`` says that others follow; ``cut`` counts shortened cells."""

    rows: list[list[Any]]
    more: bool
    cut: int


_MAX_NAME = 200
_MAX_LISTED = 500


class Window(NamedTuple):
    """Which rows are wanted: ``limit`` of them after the first ``offset``."""

    offset: int
    limit: int


def collect(rows: Iterable[Sequence[Any]], window: Window) -> Rows:
    """Read no more rows than are wanted and fit into ``MAX_BYTES``."""
    kept: list[list[Any]] = []
    cutter = _Cutter()
    size = 0
    for number, row in enumerate(rows):
        if number < window.offset:
            continue
        if len(kept) >= window.limit:
            return Rows(kept, True, cutter.count)
        cut_before = cutter.count
        room = max(_LEAST_CELL, min(MAX_CELL, MAX_BYTES // max(1, len(row))))
        sent = [cutter.cell(value, room) for value in row]
        size += len(json.dumps(sent, ensure_ascii=False))
        if kept and size > MAX_BYTES:
            return Rows(kept, True, cut_before)
        kept.append(sent)
    return Rows(kept, False, cutter.count)


def described(tables: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many descriptions of tables as fit into ``MAX_BYTES``, long names and lists shortened."""
    kept: list[dict[str, Any]] = []
    size = 0
    for table in tables:
        sent = {name: _short(value, MAX_CELL) for name, value in table.items()}
        size += len(json.dumps(sent, ensure_ascii=False))
        if kept and size > MAX_BYTES:
            break
        kept.append(sent)
    return kept


def _short(value: Any, room: int) -> Any:
    match value:
        case str():
            return value if len(value) <= room else f"{value[:room]}…"
        case list():
            return [_short(item, _MAX_NAME) for item in value[:_MAX_LISTED]]
        case dict():
            return {name: _short(item, _MAX_NAME) for name, item in value.items()}
    return value


class _Cutter:
    """Makes cells of values and counts those that it has shortened."""

    def __init__(self) -> None:
        self.count = 0

    def cell(self, value: Any, room: int, depth: int = 0) -> Any:
        """A value as JSON; what JSON cannot hold exactly is text, as the database writes it."""
        match value:
            case None | bool():
                return value
            case int():
                return value if abs(value) <= _SAFE_INTEGER else self._text(_digits(value), room)
            case float():
                return value if math.isfinite(value) else _not_finite(value)
            case str():
                return self._text(value, room)
            case bytes() | bytearray() | memoryview():
                return self._binary(bytes(value[: room + 1]), len(value), room)
            case list() | tuple() | set() | frozenset():
                return self._items(list(value), room, depth)
            case Mapping():
                return self._members(value, room, depth)
        return self._text(_written(value), room)

    def _text(self, text: str, room: int) -> str:
        if len(text) <= room:
            return text
        self.count += 1
        return f"{text[:room]}… [{len(text) - room} more characters]"

    def _binary(self, start: bytes, size: int, room: int) -> str:
        if size <= room:
            return f"\\x{start.hex()}"
        self.count += 1
        return f"\\x{start[:room].hex()}… [{size - room} more bytes]"

    def _items(self, items: list[Any], room: int, depth: int) -> Any:
        if depth >= _MAX_DEPTH:
            return self._text(str(items[:_MAX_ITEMS]), room)
        kept = items[: min(_MAX_ITEMS, room)]
        each = max(1, room // max(1, len(kept)))
        cells = [self.cell(item, each, depth + 1) for item in kept]
        if len(items) > len(kept):
            self.count += 1
            cells.append(f"… [{len(items) - len(kept)} more items]")
        return cells

    def _members(self, members: Mapping[Any, Any], room: int, depth: int) -> Any:
        if depth >= _MAX_DEPTH or len(members) > _MAX_ITEMS:
            return self._text(str(dict(list(members.items())[:_MAX_ITEMS])), room)
        each = max(1, room // max(1, 2 * len(members)))
        return {
            self._text(_written(name), each): self.cell(value, each, depth + 1)
            for name, value in members.items()
        }


def _digits(value: int) -> str:
    """Without Python's limit on long integers, which would be an error here."""
    return str(value) if value.bit_length() < 4096 else hex(value)


def _not_finite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _written(value: Any) -> str:
    match value:
        case datetime():
            plain = value.replace(tzinfo=None)
            return _INFINITE.get(plain) or value.isoformat(" ")
        case date():
            return _INFINITE_DATES.get(value) or value.isoformat()
        case time():
            return value.isoformat()
        case timedelta():
            return _interval(value)
    return str(value)


def _interval(value: timedelta) -> str:
    """``3 days 4:05:06``, with one sign for all of it."""
    whole = abs(value // timedelta(microseconds=1))
    days, rest = divmod(whole, 86_400_000_000)
    seconds, micros = divmod(rest, 1_000_000)
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    clock += f".{micros:06}" if micros else ""
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}{days} days {clock}" if days else f"{sign}{clock}"
