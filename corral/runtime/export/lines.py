"""The lines of an export: JSON objects, each bound to all lines before it.

    {"sum":"<SHA-256>","type":"run", …}

``sum`` is the SHA-256 of the sum before and of the line's own text after it, so a line that was
cut off, changed, lost or moved is found and named. It tells an accident from a good file; it is
no signature, because whoever writes a file can compute its sums.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, BinaryIO

from corral.errors import ConfigError
from corral.jsontypes import Json, JsonObject, canonical

MAX_LINE = 16 * 2**20
"""Longest line, in bytes."""

MAX_SIZE = 2**30
"""Largest file, in bytes."""

MAX_LINES = 1_000_000
"""Most lines of a file."""

MAX_DEPTH = 100
"""How deep lists and objects may be nested in one line."""

_AGAIN = "Export the run again where it was made, and copy the file as it is."
_HEAD = re.compile(rb'\{"sum":"([0-9a-f]{64})",')
_HEAD_LENGTH = len('{"sum":"') + 64 + len('",')
_HALF_PAIR = re.compile("[\ud800-\udfff]")
_START = sha256(b"corral-run").hexdigest()


class LineWriter:
    """Writes records as lines. ``last`` is the sum of the newest one."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self.last = _START
        self.count = 0

    def write(self, record: JsonObject) -> None:
        """Write one record. Raises ``ConfigError`` when no reader would take it."""
        self.count += 1
        if depth(record) > MAX_DEPTH:
            raise ConfigError(
                f"The {record['type']} on line {self.count} is nested deeper than "
                f"{MAX_DEPTH} levels, which no import takes.",
                hint="Export the run with --scrub or --html instead.",
            )
        rest = canonical(record).encode()[1:]
        self.last = _sum(self.last, rest)
        line = b'{"sum":"%s",%s\n' % (self.last.encode(), rest)
        if len(line) > MAX_LINE:
            raise ConfigError(
                f"The {record['type']} on line {self.count} takes {len(line):,} bytes; a line of "
                f"an export takes at most {MAX_LINE:,}.",
                hint="Export the run with --scrub or --html instead.",
            )
        self._target.write(line)


class LineReader:
    """The records of an export, one by one, each checked against its sum.

    ``name`` is what messages call the file. ``count`` and ``last`` are the number and the sum of
    the newest line. Raises ``ConfigError`` that names the line and the limit or the damage.
    """

    def __init__(self, source: BinaryIO, name: str) -> None:
        self._source = source
        self._name = name
        self.last = _START
        self.count = 0

    def __iter__(self) -> Iterator[JsonObject]:
        size = 0
        while line := self._source.readline(MAX_LINE + 1):
            self.count += 1
            size += len(line)
            self._require_small(line, size)
            yield self._record(line)

    def problem(self, text: str, hint: str = _AGAIN) -> ConfigError:
        """An error about the newest line."""
        return ConfigError(f"{self._name}, line {self.count}: {text}", hint=hint)

    def _require_small(self, line: bytes, size: int) -> None:
        limits = (
            (len(line), MAX_LINE, "the line is longer than {:,} bytes"),
            (size, MAX_SIZE, "the file is larger than {:,} bytes"),
            (self.count, MAX_LINES, "the file has more than {:,} lines"),
        )
        for found, limit, text in limits:
            if found > limit:
                hint = "That is more than an import takes; nothing of it was stored."
                raise self.problem(text.format(limit) + ".", hint)

    def _record(self, line: bytes) -> JsonObject:
        whole = line.endswith(b"\n")
        line = line.rstrip(b"\r\n")
        head = _HEAD.match(line)
        if head is None:
            raise self.problem(
                "this is not a line of a Corral export.",
                "An export is made with `corral export RUN --jsonl`.",
            )
        rest = line[_HEAD_LENGTH:]
        expected = _sum(self.last, rest)
        if head[1].decode() != expected:
            raise self.problem(
                "the line was changed after the export, or a line before it is missing."
                if whole
                else "the file is cut off in the middle of this line."
            )
        self.last = expected
        return self._parsed(rest)

    def _parsed(self, rest: bytes) -> JsonObject:
        try:
            record: Any = json.loads(b"{" + rest)
        except RecursionError:
            raise self._too_deep() from None
        except ValueError as error:
            raise self.problem(f"this is not JSON: {error}.") from None
        # Cheap: an export writes letters as they are, so an escaped one is rare.
        if b"\\ud" in rest.lower() and _HALF_PAIR.search(canonical(record)):
            raise self.problem("the text is no valid Unicode: it holds half a surrogate pair.")
        if depth(record) > MAX_DEPTH:
            raise self._too_deep()
        return dict(record)

    def _too_deep(self) -> ConfigError:
        return self.problem(f"the JSON is nested deeper than {MAX_DEPTH} levels.")


def _sum(before: str, rest: bytes) -> str:
    made = sha256(before.encode())
    made.update(rest)
    return made.hexdigest()


def depth(value: Json) -> int:
    """How deep lists and objects are nested in a JSON value; 0 for a text or a number."""
    levels, found = [value], 0
    while True:
        inner: list[Json] = []
        for one in levels:
            if isinstance(one, dict):
                inner.extend(one.values())
            elif isinstance(one, list | tuple):
                inner.extend(one)
        if not any(isinstance(one, dict | list | tuple) for one in levels):
            return found
        found += 1
        levels = inner
