"""TOML files of policies: what they hold, on which line, and mistakes told with both."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from corral.errors import ConfigError
from corral.jsontypes import JsonObject

_HEADER = re.compile(r"""\s*\[\[\s*([\w-]+|'[^']*'|"[^"]*")\s*\]\]""")
_ANY_HEADER = re.compile(r"\s*\[")
_MULTILINE = re.compile(
    r"""\"{3}(?:[^"\\]|\\.|"(?!""))*+\"{3}|'{3}(?:[^']|'(?!''))*+'{3}""", re.DOTALL
)


@dataclass(frozen=True)
class Document:
    """The text of a file and where it comes from."""

    text: str
    source: str

    def load(self) -> JsonObject:
        """What the file holds. Raises ``ConfigError`` with the line."""
        try:
            return tomllib.loads(self.text)
        except ValueError as error:
            found = re.search(
                r"\s*\((?:at line (\d+), column \d+|at end of document)\)", str(error)
            )
            line = int(found[1]) if found and found[1] else self.text.count("\n") + 1
            what = str(error)[: found.start()] if found else str(error)
            raise self.error(
                f"this is not valid TOML: {what}",
                "Correct this line; texts stand in double quotes.",
                line,
            ) from error
        except RecursionError as error:
            raise self.error("values are nested too deeply", "Write it flatter.", None) from error

    def tables(self, data: JsonObject, key: str) -> list[JsonObject]:
        """The tables ``[[key]]``. Raises ``ConfigError`` where there is something else."""
        found = data.get(key, [])
        if isinstance(found, list) and all(isinstance(table, dict) for table in found):
            return found
        raise self.error(
            f"'{key}' is not a list of {key}",
            f"Begin each one with a line [[{key}]], then write its keys below.",
            self.line_of(key),
        )

    def error(self, what: str, hint: str, line: int | None) -> ConfigError:
        """A mistake in this file."""
        where = self.source if line is None else f"{self.source}, line {line}"
        return ConfigError(f"{where}: {what}.", hint=hint)

    def line_of(self, key: str) -> int | None:
        """The line on which a key stands at the top, or its first table."""
        return self._find(key, range(len(self._lines)))

    def line_in(self, tables: str, number: int, key: str) -> int | None:
        """The line of a key in the ``number``-th of some tables; else that table's first line."""
        start = self.line_of_table(tables, number)
        if start is None:
            return None
        following = (
            at for at in range(start, len(self._lines)) if _ANY_HEADER.match(self._lines[at])
        )
        # The keys of a table come before the next header, but [table.key] is one as well.
        end = next(following, len(self._lines) - 1)
        return self._find(key, range(start, end + 1)) or start

    def line_of_table(self, tables: str, number: int) -> int | None:
        """The line ``[[tables]]`` that begins the ``number``-th of them; ``None``: inline."""
        starts = self._headers.get(tables, [])
        return starts[number - 1] if number <= len(starts) else None

    @cached_property
    def _headers(self) -> dict[str, list[int]]:
        """The lines on which tables of a list begin, by the list's name."""
        found: dict[str, list[int]] = {}
        for at, line in enumerate(self._lines, start=1):
            if header := _HEADER.match(line):
                found.setdefault(header[1].strip("'\""), []).append(at)
        return found

    @cached_property
    def _lines(self) -> list[str]:
        """The lines, without what stands in texts of several lines."""
        blank = _MULTILINE.sub(lambda text: re.sub(r"[^\n]", " ", text.group()), self.text)
        return blank.split("\n")

    def _find(self, key: str, lines: range) -> int | None:
        name = re.escape(key)
        pattern = re.compile(rf"""\s*(?:\[+\s*)?(?:\w+\.)?(?:{name}|'{name}'|"{name}")\s*[\]=.]""")
        return next((at + 1 for at in lines if pattern.match(self._lines[at])), None)


def suggest(word: object, known: Iterable[str]) -> str:
    """A question that names the nearest of the known words, or nothing."""
    nearest = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f'Did you mean "{nearest[0]}"?' if nearest else ""


def listed(words: Iterable[str]) -> str:
    """The words in quotes, the last after "or"."""
    *most, last = (f'"{word}"' for word in words)
    return f"{', '.join(most)} or {last}" if most else last


def as_toml(value: Any) -> str:
    """A value as it may stand in the file, cut where it is long."""
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        shown = shown.lower()
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
