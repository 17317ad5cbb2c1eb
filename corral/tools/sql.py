"""What the ``sql`` server is started with: its files, and gateways that hold the passwords."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.sandbox.contract import Grant
from corral.sandbox.network.postgres import PostgresGateway
from corral.sandbox.network.postgres_url import PostgresUrl
from corral.sandbox.network.rules import Forward, Network
from corral.tools.addition import Addition, Basis, library_folders, package_folders
from corral.tools.settings import SqlSettings

_FIRST_PORT = 15432
_LIBRARIES = ("duckdb", "psycopg")
_COMPANIONS = ("", "-wal", "-shm", "-journal", ".wal")
_SHARED = tuple(Path(name) for name in ("/tmp", "/var/tmp", "/var", "/usr", "/etc", "/opt"))  # noqa: S108  # refused, not used


def sql_addition(
    databases: Mapping[str, SqlSettings],
    workspace: Path,
    environ: Mapping[str, str] = os.environ,
) -> Addition:
    """The files, forwards and configuration of ``[sql.NAME]``. Raises ``ConfigError``.

    The server gets no workspace, but the folder of each file: a database is more than one file, and
    the others come and go.
    """
    entries: list[JsonObject] = []
    grants: dict[Path, Grant] = {}
    gateways: dict[Forward, PostgresGateway] = {}
    names: list[Path] = []
    for name, settings in databases.items():
        entry: JsonObject = {"name": name, "kind": settings.kind or "", "write": settings.write}
        entry |= {"max_rows": settings.max_rows, "timeout": settings.timeout}
        if settings.url_env:
            url = _url(name, settings.url_env, environ)
            forward = Forward(_FIRST_PORT + len(gateways), url.host, url.port, private=True)
            gateways[forward] = PostgresGateway(url)
            entry |= {"kind": "postgres", "port": forward.inside_port}
        else:
            file = _file(name, settings, workspace)
            for grant in _grants(name, file, settings, environ):
                kept = grants.get(grant.path)
                grants[grant.path] = kept if kept is not None and kept.writable else grant
            names += [file.parent, *_files(file)]
            entry["path"] = str(file)
        entries.append(entry)
    packages = package_folders(*_LIBRARIES)
    return Addition(
        config={"databases": entries, "packages": [str(folder) for folder in packages]},
        grants=(*grants.values(), *map(Grant, packages)),
        network=Network(forwards=tuple(gateways)),
        setting="[sql.NAME]",
        handlers={forward.inside_port: gateway for forward, gateway in gateways.items()},
        alone=True,
        basis=Basis(tuple(names), library_folders()),
    )


def _url(name: str, variable: str, environ: Mapping[str, str]) -> PostgresUrl:
    where = f"the variable {variable} of [sql.{name}]"
    if not environ.get(variable):
        raise ConfigError(
            f"The database {name} needs {where}, which is not set.",
            hint=f"Set {variable} to postgresql://USER:PASSWORD@HOST:5432/DATABASE.",
        )
    return PostgresUrl.parse(environ[variable], where)


def _file(name: str, settings: SqlSettings, workspace: Path) -> Path:
    """The database's file. What lies in the workspace must not lead out of it: code wrote there."""
    assert settings.path is not None
    folder = Path(os.path.normpath(Path.cwd() / workspace))
    file = Path(os.path.normpath(folder / settings.path.expanduser()))
    if file.is_relative_to(folder) and not file.resolve().is_relative_to(folder.resolve()):
        raise ConfigError(
            f"The file of [sql.{name}] is a link that leads out of the workspace.",
            hint="Write the path of the file that it leads to, if that is the one you mean.",
        )
    return file


def _grants(
    name: str, file: Path, settings: SqlSettings, environ: Mapping[str, str]
) -> Iterator[Grant]:
    folder = file.parent
    if not folder.is_dir():
        return  # the server says that there is no such file
    if not _is_shared(folder, environ):
        yield Grant(folder, writable=settings.write)
    elif settings.write:
        raise ConfigError(
            f"The file of [sql.{name}] is in {folder}, which holds other things as well.",
            hint="Put a database that may be changed into a folder of its own.",
        )
    else:
        yield from (
            Grant(path) for path in _files(file) if path.is_file() and not path.is_symlink()
        )


def _files(file: Path) -> list[Path]:
    """All that a database's file can be."""
    return [Path(f"{file}{ending}") for ending in _COMPANIONS]


def _is_shared(folder: Path, environ: Mapping[str, str]) -> bool:
    """Whether a folder holds everything of the user's, or the system's."""
    home = Path(environ.get("HOME", "/"))
    real = folder.resolve()
    above = (home.resolve(), *home.resolve().parents)
    return real in above or real in _SHARED
