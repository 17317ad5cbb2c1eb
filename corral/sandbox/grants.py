"""What a profile grants, checked and put in order, the same for every back end of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.contract import Grant, Profile
from corral.sandbox.launcher.order import Bind

_PSEUDO = (Path("/proc"), Path("/sys"), Path("/dev"))
_SYSTEM = (Path("/usr"), Path("/etc"), Path("/bin"), Path("/sbin"), Path("/lib"), Path("/boot"))


def check_text(argv: tuple[str, ...], profile: Profile) -> None:
    """Raise ``SandboxError`` for a command, environment or path that no program can be given."""
    parts = (*argv, *profile.env, *profile.env.values(), *(str(g.path) for g in profile.grants))
    if not argv or any("\0" in part for part in parts):
        raise SandboxError(
            "A command or setting for the sandbox is empty or holds a NUL character.",
            hint="Correct the command, its environment or the granted folder.",
        )
    if any(not name or "=" in name for name in profile.env):
        raise SandboxError(
            "An environment variable for the sandbox has no usable name.",
            hint="A name is not empty and holds no '='.",
        )


def inside(path: Path) -> Path:
    """The path under which a folder of the host is visible inside: the same, made absolute."""
    return Path.cwd() / path


def binds(profile: Profile) -> list[Bind]:
    """What is visible inside, outer folders before the inner ones that cover a part of them.

    The grants, the folders of packages, and the interpreter. Raises ``SandboxError`` for what
    does not exist or cannot be granted.
    """
    wanted = [*profile.grants, *(Grant(folder) for folder in profile.packages)]
    grants = {inside(grant.path): grant for grant in wanted}
    for target, grant in grants.items():
        _check_grant(target, grant)
    if profile.workdir is not None and not _within(inside(profile.workdir), list(grants)):
        raise SandboxError(
            f"The working folder {profile.workdir} is not in a granted folder.",
            hint="Grant it, or leave the working folder out for a private empty one.",
        )
    found = {
        str(target): Bind(str(target.resolve()), str(target), grant.writable)
        for target, grant in grants.items()
    }
    folder = host.interpreter_folder()
    if folder is not None:
        found.setdefault(str(folder), Bind(str(folder), str(folder)))
    for target in _hidden_in(profile.hidden, grants):
        found.setdefault(str(target), Bind("", str(target)))
    for own, target in _own_folders_in(grants):
        found.setdefault(str(target), Bind(str(own), str(target)))
    return [found[target] for target in sorted(found, key=lambda text: Path(text).parts)]


def _own_folders_in(grants: Mapping[Path, Grant]) -> Iterator[tuple[Path, Path]]:
    """What Corral itself runs from, where it lies in a writable grant, and its place inside.

    Code that could change it would run outside at the next start.
    """
    for own in _own_folders():
        for target, grant in grants.items():
            real = target.resolve()
            if grant.writable and real in own.parents:
                yield own, target / own.relative_to(real)


def _hidden_in(hidden: Iterable[Path], grants: Iterable[Path]) -> Iterator[Path]:
    """Where hidden folders that there are would be seen inside."""
    for folder in (path.resolve() for path in hidden if path.is_dir()):
        for target in grants:
            real = target.resolve()
            if real in folder.parents:
                yield target / folder.relative_to(real)


@cache
def _own_folders() -> tuple[Path, ...]:
    return (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), host.PACKAGE)


def _within(path: Path, folders: list[Path]) -> bool:
    return any(folder == path or folder in path.parents for folder in folders)


def _check_grant(target: Path, grant: Grant) -> None:
    real = target.resolve()
    if not real.exists():
        raise SandboxError(
            f"The granted folder {grant.path} does not exist.",
            hint="Create it, or take it out of the configuration.",
        )
    refused = _within(real, list(_PSEUDO)) or real == Path("/")
    if grant.writable and _within(real, list(_own_folders())):
        raise SandboxError(
            f"{grant.path} belongs to what Corral runs from, and cannot be granted for writing.",
            hint="Grant a folder outside of its installation.",
        )
    if refused or (grant.writable and _within(real, list(_SYSTEM))):
        raise SandboxError(
            f"{grant.path} belongs to the system and cannot be granted.",
            hint="Grant a folder of your own.",
        )
