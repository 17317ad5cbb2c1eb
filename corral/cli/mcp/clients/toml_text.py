"""Edits in the text of a TOML file that leave everything else as it is, by tomlkit."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from corral.errors import ConfigError
from corral.jsontypes import JsonObject

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


class BrokenTomlError(ConfigError):
    """The text is no TOML, or cannot be changed; the message says where and why."""


@dataclass(frozen=True)
class TomlText:
    """A TOML document."""

    text: str
    value: JsonObject

    @classmethod
    def of(cls, text: str) -> TomlText:
        """Read a document. Raises ``BrokenTomlError``."""
        try:
            return cls(text, tomllib.loads(text))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise BrokenTomlError(str(error) or "it is nested too deeply") from None

    def put(self, section: str, name: str, entry: JsonObject) -> TomlText:
        """The document with the table ``[SECTION.NAME]`` set to ``entry``."""
        import tomlkit

        document = self._document()
        tables = document.get(section, {})
        if not hasattr(tables, "keys"):
            raise BrokenTomlError(f"{section} is no table")
        if name in tables:
            _update(tables[name], entry)
            return TomlText.of(tomlkit.dumps(document))
        new = tomlkit.dumps({section: {name: _sorted(entry)}})
        try:
            return TomlText.of("\n\n".join(filter(None, (self.text.rstrip(), new))))
        except BrokenTomlError:
            raise BrokenTomlError(
                f"{section} is written in a way to which no table can be added",
                hint=f"Write it as tables, [{section}.NAME], and try again.",
            ) from None

    def remove(self, section: str, name: str) -> TomlText:
        """The document without the table ``[SECTION.NAME]``; as it is when there is none."""
        import tomlkit

        document = self._document()
        tables = document.get(section, {})
        if not hasattr(tables, "keys") or name not in tables:
            return self
        del tables[name]
        if not tables:
            del document[section]
        text = tomlkit.dumps(document)
        return TomlText.of(f"{text.rstrip()}\n" if text.strip() else "")

    def _document(self) -> TOMLDocument:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            return tomlkit.parse(self.text)
        except TOMLKitError as error:
            raise BrokenTomlError(str(error)) from None


def _update(table: Any, entry: JsonObject) -> None:
    """Make an existing table equal to ``entry``; what is equal already keeps its place."""
    for key in [key for key in table if key not in entry]:
        del table[key]
    for key, value in entry.items():
        if key in table and isinstance(value, dict) and hasattr(table[key], "keys"):
            _update(table[key], value)
        elif key not in table or table[key] != value:
            table[key] = value


def _sorted(entry: JsonObject) -> JsonObject:
    """The entry with its tables behind its values, as TOML wants it."""
    return dict(sorted(entry.items(), key=lambda one: isinstance(one[1], dict)))
