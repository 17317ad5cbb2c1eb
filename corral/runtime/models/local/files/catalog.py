"""The models that the user has already, and the one that a short name means."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.errors import NotFoundError
from corral.runtime.models.contract import Adapter, Sampling
from corral.runtime.models.local.files.index import FileFacts, FileIndex
from corral.runtime.models.local.files.places import Candidate, candidates

_QUANTIZATION = re.compile(r"[-._](?P<name>(?:UD-)?(?:I?Q\d[\w]*|BF16|F16|F32|MXFP4\w*))$", re.I)
_GGUF = re.compile(r"[-._]gguf$", re.I)
_LISTED = 12


@dataclass(frozen=True)
class FoundModel:
    """A model on this machine; ``local:NAME`` opens it.

    ``place`` is where it was found, ``names`` are all that can be written for it, the shortest
    that tells it from others first. ``adapters`` and ``sampling`` are what its place runs it with.
    """

    names: tuple[str, ...]
    place: str
    path: Path
    facts: FileFacts
    adapters: tuple[Adapter, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)

    @property
    def name(self) -> str:
        """The name to show."""
        return self.names[0]


def find_models(
    folders: Sequence[Path] = (),
    environ: Mapping[str, str] | None = None,
    index: FileIndex | None = None,
) -> list[FoundModel]:
    """All models in ``folders`` and in the known places, by place and name.

    Reads the headers of new files. Files that are no models, such as adapters, are left out.
    """
    index = index or FileIndex()
    found = list(candidates(folders, os.environ if environ is None else environ))
    facts = [index.facts(candidate.path) for candidate in found]
    index.save()
    pairs = [(each, known) for each, known in zip(found, facts, strict=True) if known.is_model]
    aliases = [list(_aliases(each, known)) for each, known in pairs]
    claimed: dict[str, int] = {}
    for names in aliases:
        for name in {name.casefold() for name in names}:
            claimed[name] = claimed.get(name, 0) + 1
    return [
        FoundModel(
            names=tuple(sorted(names, key=lambda name: claimed[name.casefold()] > 1)),
            place=candidate.place,
            path=candidate.path,
            facts=known,
            adapters=tuple(Adapter(str(path)) for path in candidate.adapters),
            sampling=candidate.sampling,
        )
        for (candidate, known), names in zip(pairs, aliases, strict=True)
    ]


def match_model(name: str, models: Sequence[FoundModel]) -> FoundModel:
    """The one model that a name means: one of its names, or the end of one.

    Raises ``NotFoundError`` that lists what was meant if it is not one.
    """
    wanted = name.casefold().removesuffix(".gguf")
    exact = [model for model in models if wanted in _folded(model)]
    ends = [
        model
        for model in models
        if any(alias.endswith((f"/{wanted}", f":{wanted}")) for alias in _folded(model))
    ]
    found = _different(exact or ends)
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFoundError(
            f"{name!r} means {len(found)} models: {_listed(found)}.",
            hint="Write more of the name, or the file's path.",
        )
    raise _unknown(name, models)


def _different(models: Sequence[FoundModel]) -> list[FoundModel]:
    """Without those that are another one's file, run in the same way."""
    different: list[FoundModel] = []
    for model in models:
        if not any(_same(model, other) for other in different):
            different.append(model)
    return different


def _same(one: FoundModel, other: FoundModel) -> bool:
    if (one.adapters, one.sampling) != (other.adapters, other.sampling):
        return False
    try:
        return one.path.samefile(other.path)
    except OSError:
        return False


def resolve_model(
    name: str, folders: Sequence[Path] = (), environ: Mapping[str, str] | None = None
) -> FoundModel:
    """The model of ``local:NAME``: a path, a folder with one model, or a name that is found.

    Raises ``NotFoundError``.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return _only_model(path)
    if path.exists() or name.startswith(("/", "./", "../", "~")):
        return FoundModel((name,), "path", path, FileFacts())
    return match_model(name, find_models(folders, environ))


def _only_model(folder: Path) -> FoundModel:
    inside = find_models([folder], {"HOME": os.devnull, "OLLAMA_MODELS": os.devnull})
    if len(inside) == 1:
        return inside[0]
    if not inside:
        raise NotFoundError(
            f"There is no GGUF model in the folder {folder}.",
            hint="Give the path of a GGUF file, or see: corral models list",
        )
    raise NotFoundError(
        f"There are {len(inside)} models in the folder {folder}: {_listed(inside)}.",
        hint="Give the path of one of the files.",
    )


def _aliases(candidate: Candidate, facts: FileFacts) -> Iterator[str]:
    """The names of a file, the one that is shown first.

    ``owner/repo:QUANT``, ``repo:QUANT``, ``owner/repo``, ``repo`` (each also without the ``-GGUF``
    at its end), ``file`` with and without its quantization, and ``owner/repo/file``. Of Ollama
    ``name:tag``, and ``name`` for ``name:latest``.
    """
    name = candidate.name
    if candidate.place == "ollama":
        yield name
        if name.endswith(":latest"):
            yield name.removesuffix(":latest")
        return
    *folders, stem = name.split("/")
    stem = re.sub(r"-00001-of-\d{5}$", "", stem)
    named = _QUANTIZATION.search(stem)
    quantization = named["name"] if named else facts.quantization
    plain = stem[: named.start()] if named else stem
    repository = "/".join(folders[:2])
    if candidate.place in {"hugging face", "lm studio"} and len(folders) >= 2:
        for name in dict.fromkeys((repository, _GGUF.sub("", repository))):
            short = name.partition("/")[2]
            yield from (f"{name}:{quantization}", f"{short}:{quantization}", name, short)
    yield stem
    yield "/".join([*folders, stem])
    if plain != stem:
        yield plain


def _folded(model: FoundModel) -> list[str]:
    return [name.casefold() for name in model.names]


def _listed(models: Sequence[FoundModel]) -> str:
    names = [model.names[0] for model in models[:_LISTED]]
    more = len(models) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")


def _unknown(name: str, models: Sequence[FoundModel]) -> NotFoundError:
    known = {alias: model.name for model in models for alias in _folded(model)}
    close = difflib.get_close_matches(name.casefold(), known, n=3, cutoff=0.6)
    meant = list(dict.fromkeys(known[alias] for alias in close))
    said = f"Did you mean {' or '.join(f'local:{each}' for each in meant)}? " if meant else ""
    return NotFoundError(
        f"There is no model {name!r} on this machine.",
        hint=f"{said}corral models list shows those that there are; a path works as well.",
    )
