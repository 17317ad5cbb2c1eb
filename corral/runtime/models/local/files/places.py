"""The folders in which other programs keep GGUF files, and what a user would call each file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.runtime.models.contract import Sampling
from corral.runtime.models.local.files.gguf import is_later_part
from corral.runtime.models.local.files.ollama import ollama_models

_DEPTH = 6
_MOST = 5_000
"""Files that are looked at in one place. A folder that is not for models may hold any number."""


@dataclass(frozen=True)
class Candidate:
    """A GGUF file in one of the places.

    ``name`` is a path without folder and ending as its place shows it (``owner/repo/file``), or
    Ollama's ``name:tag``. ``adapters`` and ``sampling`` are what its place says it is run with.
    """

    place: str
    name: str
    path: Path
    adapters: tuple[Path, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


def candidates(folders: Sequence[Path], environ: Mapping[str, str]) -> Iterator[Candidate]:
    """All GGUF files that can be found: in ``folders`` and in the known places of other programs.

    A file that has several names, as a base model of Ollama's often has, comes once for each.
    """
    home = Path(environ.get("HOME") or Path.home())
    seen: set[tuple[str, str, int, int]] = set()
    for candidate in _all(folders, environ, home):
        try:
            state = candidate.path.stat()
        except OSError:
            continue
        key = (candidate.place, candidate.name, state.st_dev, state.st_ino)
        if stat.S_ISREG(state.st_mode) and key not in seen:
            seen.add(key)
            yield candidate


def _all(folders: Sequence[Path], environ: Mapping[str, str], home: Path) -> Iterator[Candidate]:
    for folder in folders:
        yield from _in_folder("folder", folder.expanduser())
    yield from _hugging_face(_hub(environ, home))
    for root in _ollama_roots(environ, home):
        for model in ollama_models(root):
            yield Candidate("ollama", model.name, model.path, model.adapters, model.sampling)
    for folder in (home / ".lmstudio" / "models", home / ".cache" / "lm-studio" / "models"):
        yield from _in_folder("lm studio", folder)
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "llama.cpp"
    yield from _in_folder("llama.cpp", Path(environ.get("LLAMA_CACHE") or cache))


def _hub(environ: Mapping[str, str], home: Path) -> Path:
    if named := environ.get("HF_HUB_CACHE") or environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(named).expanduser()
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return Path(environ.get("HF_HOME") or cache / "huggingface").expanduser() / "hub"


def _ollama_roots(environ: Mapping[str, str], home: Path) -> list[Path]:
    if named := environ.get("OLLAMA_MODELS"):
        return [Path(named).expanduser()]
    return [home / ".ollama" / "models", Path("/usr/share/ollama/.ollama/models")]


def _hugging_face(hub: Path) -> Iterator[Candidate]:
    """The newest of each ``models--OWNER--REPO/snapshots/COMMIT/FILE``, a link to a blob."""
    for repository in sorted(hub.glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        snapshots = sorted((repository / "snapshots").glob("*"), key=_changed, reverse=True)
        newest: dict[str, Path] = {}
        for snapshot in snapshots:
            for found in _in_folder("hugging face", snapshot):
                newest.setdefault(f"{name}/{found.name}", found.path)
        for file, path in newest.items():
            yield Candidate("hugging face", file, path)


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _in_folder(place: str, folder: Path) -> Iterator[Candidate]:
    for number, path in enumerate(_gguf_files(folder, _DEPTH)):
        if number == _MOST:
            return
        yield Candidate(place, str(path.relative_to(folder).with_suffix("")), path)


def _gguf_files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        path = Path(entry.path)
        if entry.name.lower().endswith(".gguf"):
            if not is_later_part(path):
                yield path
        elif depth and not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
            yield from _gguf_files(path, depth - 1)
