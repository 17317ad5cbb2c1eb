"""``corral mcp bundle``: a file that clients install by a double click, and registry data."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import wait
from corral.cli.mcp.command_line import AGENTS, program, serve_command
from corral.cli.mcp.installing import WhatArgument, require_ours
from corral.cli.options import taking
from corral.cli.output import note, one_line
from corral.errors import UsageError
from corral.version import VERSION

if TYPE_CHECKING:
    from corral.cli.mcp.probe import Met
    from corral.jsontypes import JsonObject

_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
_TITLE = "Corral"
_ABOUT = "Agents that are durable, sandboxed and ask before they act."
_REGISTRY_NAME = re.compile(r"[a-zA-Z0-9.-]{1,100}/[a-zA-Z0-9._-]{1,100}")
_PACKAGE = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LAUNCHER = "server/start.py"
_LIMIT = 60.0
_WHEN = (1980, 1, 1, 0, 0, 0)
"""The time of every file in a bundle: the same content gives the same bytes."""


@dataclass(frozen=True)
class BundleOptions:
    """What goes into a bundle, and what is written."""

    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="corral.mcpb if left out.")
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option("--env", "-e", metavar="NAME", help="A secret that its user is asked for."),
    ] = None
    server_json: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Write server.json as well, for the registry: io.github.USER/corral.",
        ),
    ] = None
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the bundle will be, for server.json.")
    ] = None
    package: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A package of yours on PyPI that `uvx NAME` starts Corral from."
        ),
    ] = None


@taking(BundleOptions)
def bundle(what: WhatArgument = AGENTS, options: BundleOptions = BundleOptions()) -> None:
    """Make an .mcpb file, which clients install by a double click.

    Claude Desktop is such a client. A bundle holds no copy of Corral: it starts the one that is
    installed where it is opened.
    """
    from corral.cli.mcp.probe import meet_command  # asyncio: not needed for --help

    require_ours(what)
    names = options.env or ()
    for name in names:
        if not _VARIABLE.fullmatch(name):
            raise UsageError(
                f"{one_line(name)} is no variable's name.", hint="Give no values here."
            )
    _check_registry(options)
    argv = serve_command(what)
    met = wait(meet_command(argv, os.environ, _LIMIT, modern=True))
    path = options.out or Path(f"{'corral' if what == AGENTS else f'corral-{what}'}.mcpb")
    here = program()
    shared = options.server_json is not None or len(here) > 1
    try:
        _write(path, manifest(what, met, names, "corral" if shared else " ".join(here)))
        note(f"Wrote {path}: {len(met.tools)} tools. Open it with Claude Desktop to install it.")
        if options.server_json is not None:
            beside = path.with_name("server.json")
            data = registry_entry(options.server_json, what, options, path)
            beside.write_text(json.dumps(data, indent=2) + "\n", "utf-8")
            note(f"Wrote {beside}.")
            if options.package is not None:
                note(
                    f"The registry asks for a proof that {options.package} is yours: this line in "
                    f"its README: mcp-name: {options.server_json}"
                )
    except OSError as error:
        raise UsageError(
            f"{error.filename or path} cannot be written: {error.strerror}.",
            hint="Name another place: --out FILE",
        ) from error


def manifest(what: str, met: Met, secrets: Sequence[str], start: str) -> JsonObject:
    """The bundle's ``manifest.json`` (MCPB 0.4). ``start`` is the program, unless changed."""
    asked: JsonObject = {
        "workspace": {
            "type": "directory",
            "title": "Workspace",
            "description": "The folder that agents may work in.",
            "required": True,
        },
        "corral": {
            "type": "string",
            "title": "Corral",
            "description": "The program that is started: the path of `corral`.",
            "required": True,
            "default": start,
        },
    }
    asked |= {
        name.lower(): {
            "type": "string",
            "title": name,
            "description": f"{name}, if a model or a tool of yours needs it.",
            "sensitive": True,
            "required": False,
        }
        for name in secrets
    }
    config: JsonObject = {
        "command": "python3",
        "args": [
            f"${{__dirname}}/{_LAUNCHER}",
            "${user_config.corral}",
            "${user_config.workspace}",
            what,
        ],
    }
    if secrets:
        config["env"] = {name: f"${{user_config.{name.lower()}}}" for name in secrets}
    return {
        "manifest_version": "0.4",
        "name": "corral" if what == AGENTS else f"corral-{what}",
        "display_name": _TITLE,
        "version": VERSION,
        "description": _ABOUT,
        "author": {"name": "Corral"},
        "license": "Apache-2.0",
        "server": {"type": "python", "entry_point": _LAUNCHER, "mcp_config": config},
        "user_config": asked,
        "tools": [
            {"name": tool["name"], "description": one_line(str(tool.get("description", "")), 300)}
            for tool in met.tools
        ],
        "tools_generated": True,
        "compatibility": {"platforms": ["darwin", "linux"], "runtimes": {"python": ">=3.8"}},
    }


def _check_registry(options: BundleOptions) -> None:
    """Raise ``UsageError`` for data of the registry that would be wrong, or would name nothing."""
    if options.server_json is None:
        if options.url or options.package:
            raise UsageError(
                "--url and --package are for the registry's data.",
                hint="Add --server-json io.github.USER/corral, or leave them out.",
            )
        return
    if not _REGISTRY_NAME.fullmatch(options.server_json):
        raise UsageError(
            f"{one_line(options.server_json)} is no name in the registry.",
            hint="Write it as io.github.USER/corral.",
        )
    if options.package is not None and not _PACKAGE.fullmatch(options.package):
        raise UsageError(
            f"{one_line(options.package)} is no package's name.", hint="Write it as PyPI has it."
        )
    if options.url is None and options.package is None:
        raise UsageError(
            "server.json would say nowhere how Corral is had.",
            hint="Name where you will put the bundle (--url URL), or a package of yours on PyPI "
            "(--package NAME). Nothing was written.",
        )


def registry_entry(name: str, what: str, options: BundleOptions, path: Path) -> JsonObject:
    """What the MCP registry is told (``server.json``): the user's own package, the bundle's URL.

    No package is named that nobody has said is theirs, not even one that is called as this is.
    """
    words = [{"type": "positional", "value": word} for word in ("mcp", "serve", what)]
    packages: list[JsonObject] = []
    if options.package is not None:
        packages.append(
            {
                "registryType": "pypi",
                "identifier": options.package,
                "version": VERSION,
                "runtimeHint": "uvx",
                "packageArguments": words,
                "transport": {"type": "stdio"},
            }
        )
    if options.url is not None:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        packages.append(
            {
                "registryType": "mcpb",
                "identifier": options.url,
                "version": VERSION,
                "fileSha256": digest,
                "transport": {"type": "stdio"},
            }
        )
    return {
        "$schema": _SCHEMA,
        "name": name,
        "title": _TITLE,
        "description": _ABOUT,
        "version": VERSION,
        "packages": packages,
    }


def _write(path: Path, about: JsonObject) -> None:
    import zipfile  # not needed for --help

    launcher = Path(__file__).with_name("bundle_start.py").read_text("utf-8")
    files = {"manifest.json": json.dumps(about, indent=2) + "\n", _LAUNCHER: launcher}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name, _WHEN)
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(info, text)
