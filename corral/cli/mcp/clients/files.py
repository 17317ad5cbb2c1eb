"""A client's configuration file: read with care, changed in one place, written whole or not."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from datetime import datetime
from difflib import unified_diff
from pathlib import Path

from corral.cli.mcp.clients.jsonc import BrokenJsonError, JsonText
from corral.cli.mcp.clients.known import MANAGED, Syntax
from corral.cli.mcp.clients.toml_text import BrokenTomlError, TomlText
from corral.cli.output import clean, one_line
from corral.errors import ConfigError
from corral.jsontypes import JsonObject

MOST = 32 * 1024 * 1024
"""The longest file that is read, in bytes."""

_CONTEXT = 1
_WIDTH = 200
_BOM = "\ufeff"


@dataclass(frozen=True)
class ConfigFile:
    """A configuration file as it was read. ``text`` is empty where there is no file yet."""

    path: Path
    section: str
    syntax: Syntax
    text: str

    @classmethod
    def read(cls, path: Path, section: str, syntax: Syntax) -> ConfigFile:
        """Read a file, which need not exist. Raises ``ConfigError`` that says what is wrong."""
        real = Path(os.path.realpath(path))  # a link is followed, and stays a link
        file = cls(real, section, syntax, _text(real))
        file.document()
        return file

    @property
    def entries(self) -> dict[str, JsonObject]:
        """The servers in it by name; what is no object is left out."""
        return _objects(self.document().value.get(self.section))

    def entries_in(self, folder: Path) -> dict[str, JsonObject]:
        """Those that Claude Code keeps in its user's file for one folder ("local")."""
        folders = _objects(self.document().value.get("projects"))
        return _objects(folders.get(str(folder), {}).get(self.section))

    def document(self) -> JsonText | TomlText:
        """The text, taken apart. Raises ``ConfigError`` with the place of what is wrong."""
        text = self.text.removeprefix(_BOM).replace("\r\n", "\n")
        try:
            if self.syntax == "toml":
                return TomlText.of(text)
            return JsonText.of(text, comments=self.syntax == "jsonc")
        except (BrokenJsonError, BrokenTomlError) as error:
            raise _broken(self.path, error) from None

    def with_entry(self, name: str, entry: JsonObject, inputs: list[JsonObject]) -> Change:
        """Set a server; what the user has added to its entry stays. ``inputs`` are VS Code's."""
        merged = _merged(self.entries.get(name, {}), entry)
        document = self.document()
        try:
            match document:
                case TomlText():
                    return self._changed(document.put(self.section, name, merged), name, merged)
                case JsonText():
                    after = document.put((self.section, name), merged)
                    asked = after.value.get("inputs", [])
                    known = {one.get("id") for one in asked if isinstance(one, dict)}
                    for one in inputs:
                        if one["id"] not in known:
                            after = after.append(("inputs",), one)
                    return self._changed(after, name, merged)
        except (BrokenJsonError, BrokenTomlError) as error:
            raise _broken(self.path, error) from None

    def without_entry(self, name: str) -> Change:
        """Take a server out."""
        document = self.document()
        try:
            match document:
                case TomlText():
                    return self._changed(document.remove(self.section, name), name, None)
                case JsonText():
                    return self._changed(document.remove((self.section, name)), name, None)
        except (BrokenJsonError, BrokenTomlError) as error:
            raise _broken(self.path, error) from None

    def _changed(self, after: JsonText | TomlText, name: str, entry: JsonObject | None) -> Change:
        """The change, if nothing but that entry changes by it."""
        wanted = {key: value for key, value in self.entries.items() if key != name}
        if entry is not None:
            wanted[name] = entry
        now = after.value.get(self.section, {})
        kept = {key: value for key, value in now.items() if isinstance(value, dict)}
        if kept != wanted or self._rest(after) != self._rest(self.document()):
            raise ConfigError(
                f"{self.path} is written in a way that cannot be changed safely.",
                hint="Nothing was changed. Change it yourself; --print shows the entry.",
            )
        text = after.text.replace("\n", "\r\n") if "\r\n" in self.text else after.text
        bom = _BOM if self.text.startswith(_BOM) else ""
        return Change(self, bom + text)

    def _rest(self, document: JsonText | TomlText) -> JsonObject:
        """What no change of ours may touch."""
        ours = (self.section, "inputs")
        return {key: value for key, value in document.value.items() if key not in ours}


@dataclass(frozen=True)
class Change:
    """A change of one file, not made yet."""

    file: ConfigFile
    after: str

    @property
    def is_none(self) -> bool:
        """Whether the file is as wanted already."""
        return self.after == self.file.text

    def diff(self) -> list[str]:
        """The change as the lines of a unified diff, safe to show."""
        before, after = (text.splitlines() for text in (self.file.text, self.after))
        path = str(self.file.path)
        lines = unified_diff(before, after, path, path, lineterm="", n=_CONTEXT)
        return [line[:1] + _shown(line[1:]) for line in lines]

    def make(self, *, backup: bool) -> Path | None:
        """Write the file, as one step. With ``backup``: the copy of what was there, if anything.

        Another program's file gets one beside it; in our own a change that was shown is enough.
        Raises ``ConfigError`` when it cannot be written, or has changed since it was read.
        """
        path = self.file.path
        if _text(path) != self.file.text:
            raise ConfigError(
                f"{path} has changed while you were asked.", hint="Run the command again."
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
            copy = _backup(path, mode) if backup and path.exists() else None
            _write(path, self.after, mode)
        except OSError as error:
            raise ConfigError(
                f"{path} could not be written: {error.strerror}.",
                hint="Check that you may write there; nothing was changed.",
            ) from error
        return copy


def _objects(value: object) -> dict[str, JsonObject]:
    items = value.items() if isinstance(value, dict) else ()
    return {name: one for name, one in items if isinstance(one, dict)}


def _shown(text: str) -> str:
    """A line for the eye, with its indentation."""
    body = text.lstrip()
    return text[: len(text) - len(body)] + (one_line(body, _WIDTH) if body else "")


def _merged(before: JsonObject, entry: JsonObject) -> JsonObject:
    """Our keys in the user's entry; what else stands in it, and variables added to it, stay."""
    kept = {key: value for key, value in before.items() if key not in MANAGED}
    ours = {key: value for key, value in entry.items() if key not in kept}
    merged = {key: ours.get(key, kept.get(key)) for key in before if key in ours or key in kept}
    merged |= ours
    theirs = before.get("env")
    if isinstance(theirs, dict) and "url" not in entry:
        merged["env"] = {**theirs, **entry.get("env", {})}
    return {key: value for key, value in merged.items() if value != {} or key not in MANAGED}


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.", hint="Check that you may read it."
        ) from error
    if len(data) > MOST:
        raise ConfigError(
            f"{path} is longer than {MOST >> 20} MiB.", hint="Is this the client's own file?"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a UTF-8 text file.", hint="Save it as UTF-8; nothing was changed."
        ) from error


def _broken(path: Path, error: ConfigError) -> ConfigError:
    return ConfigError(
        f"{path} is broken: {clean(error.message)}.",
        hint=error.hint or "Correct that place, or move the file away; nothing was changed.",
    )


def _backup(path: Path, mode: int) -> Path:
    """A copy beside the file, named by the time; one that is there already is not overwritten."""
    stamp = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
    for number in range(100):
        copy = path.with_name(f"{path.name}.before-corral-{stamp}{f'-{number}' if number else ''}")
        try:
            descriptor = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as file:
            file.write(path.read_bytes())
        return copy
    raise FileExistsError(17, "there are too many backups", str(path))


def _write(path: Path, text: str, mode: int) -> None:
    """Put a new file in the old one's place, so that a reader sees one of both, whole."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(text.encode())
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
