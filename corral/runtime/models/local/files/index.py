"""What is known of the GGUF files on this machine, remembered so that a list of them is quick.

A file's header is read once for each size and time of change. The memory is a JSON file in the
user's cache folder; it may be deleted at any time, and what cannot be read in it is read anew.
"""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import platformdirs

from corral.errors import ModelError
from corral.jsontypes import Json, JsonObject
from corral.runtime.models.local.files.checks import check_runnable, kind_of
from corral.runtime.models.local.files.gguf import read_gguf

_FORM = 1


@dataclass(frozen=True)
class FileFacts:
    """A GGUF file in a list. ``size`` is in bytes; ``problem`` says why it cannot be run."""

    kind: str = ""
    architecture: str = ""
    quantization: str = ""
    context_length: int = 0
    size: int = 0
    problem: str = ""

    @property
    def is_model(self) -> bool:
        """Whether it is something to chat or embed with, or was meant to be."""
        return self.kind in {"model", "embedding", ""}


class FileIndex:
    """Facts by path. ``file`` is where they are remembered."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file or platformdirs.user_cache_path("corral") / "gguf-files.json"
        self._build = _build()
        self._known = self._read()
        self._changed = False

    def facts(self, path: Path) -> FileFacts:
        """What a file's header says."""
        try:
            entry = self._entry(path)
        except OSError as error:
            return FileFacts(problem=f"It cannot be read: {error.strerror}.")
        facts = _facts(entry.get("facts"))
        if facts is None:
            facts, whole = read_facts(path)
            if whole:
                self._learn(path, facts=asdict(facts))
        return facts

    def passed(self, path: Path) -> bool:
        """Whether llama.cpp has loaded this file before, as it is now."""
        try:
            return self._entry(path).get("passed") is True
        except OSError:
            return False

    def pass_(self, path: Path) -> None:
        """Remember that llama.cpp could load this file."""
        self._learn(path, passed=True)
        self._write()

    def _entry(self, path: Path) -> JsonObject:
        """What is known of a file as it is now. Raises ``OSError``."""
        known = self._known.get(str(path))
        if isinstance(known, dict) and known.get("stamp") == _stamp(path):
            return dict(known)
        return {"stamp": _stamp(path)}

    def _learn(self, path: Path, **learnt: Json) -> None:
        with suppress(OSError):  # a file that is gone by now
            self._known[str(path)] = {**self._entry(path), **learnt}
            self._changed = True

    def save(self) -> None:
        """Remember what was learnt, and forget files that are gone."""
        gone = [key for key in self._known if not Path(key).exists()]
        for key in gone:
            del self._known[key]
        if self._changed or gone:
            self._write()

    def _write(self) -> None:
        data = json.dumps({"form": _FORM, "build": self._build, "files": self._known})
        # A list can be shown without its memory, so a full disk is nobody's concern here.
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            _replace(self._file, data)

    def _read(self) -> JsonObject:
        try:
            data = json.loads(self._file.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(data, dict) or (data.get("form"), data.get("build")) != (
            _FORM,
            self._build,
        ):
            return {}
        files = data.get("files")
        return files if isinstance(files, dict) else {}


def read_facts(path: Path) -> tuple[FileFacts, bool]:
    """What the header says, and whether that depends on this one file alone."""
    try:
        info = read_gguf(path)
    except ModelError as error:
        return FileFacts(problem=error.message), False
    kind, problem = kind_of(info), ""
    try:
        check_runnable(info, embeds=True)
    except ModelError as error:
        problem = error.message
    facts = FileFacts(
        kind=kind,
        architecture=info.architecture,
        quantization=info.quantization,
        context_length=info.context_length,
        size=info.size,
        problem=problem,
    )
    return facts, len(info.parts) == 1


def _facts(value: Any) -> FileFacts | None:
    kinds = {field.name: int if field.type == "int" else str for field in fields(FileFacts)}
    if not isinstance(value, dict) or set(value) != set(kinds):
        return None
    if any(not isinstance(value[name], kind) for name, kind in kinds.items()):
        return None
    return FileFacts(**value)


def _stamp(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_mtime_ns, state.st_size]


def _replace(file: Path, data: str) -> None:
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    try:
        with os.fdopen(number, "w", encoding="utf-8") as out:
            out.write(data)
        Path(name).replace(file)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise


def _build() -> str:
    """Which llama.cpp decided what can be run."""
    try:
        return version("llama-cpp-python")
    except PackageNotFoundError:
        return ""
