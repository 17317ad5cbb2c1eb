"""One entry ``[mcp.NAME]``: checked, shown to a person as what it may do, and written."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from corral.cli.context import current
from corral.cli.mcp.clients.files import Change, ConfigFile
from corral.cli.output import clean, console, fitted
from corral.errors import ConfigError

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject

Where = Literal["project", "user"]
_SECTION = "mcp"
_LABEL = len("  starts   ")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)")


def config_file(where: Where) -> ConfigFile:
    """The file that an entry is written into: that of ``--config``, the project's or the user's."""
    from corral.runtime.config import PROJECT_FILE, user_file  # pydantic: not for --help

    given = current()
    path = given.config or (
        user_file() if where == "user" else (given.workspace or Path.cwd()) / PROJECT_FILE
    )
    return ConfigFile.read(path, _SECTION, "toml")


def checked(name: str, entry: JsonObject, where: Where) -> None:
    """Raise ``ConfigError`` for an entry that could not be used where it is to be written."""
    from pydantic import ValidationError

    from corral.runtime.config import user_file
    from corral.runtime.project_file import restrain
    from corral.tools.config import ServerConfig, check_server_name

    check_server_name(name)
    _require_own(name)
    try:
        ServerConfig.model_validate(entry)
    except ValidationError as error:
        why = "; ".join(
            f"{'.'.join(map(str, one['loc']))} {one['msg'].removeprefix('Value error, ')}".strip()
            for one in error.errors()
        )
        raise ConfigError(
            f"{name} cannot be added: {why}.", hint="See: corral mcp add --help"
        ) from None
    _require_no_other(name, where)
    if where == "project" and current().config is None:
        users = [{_SECTION: config_file("user").entries}]
        try:
            restrain(config_file(where).path, {_SECTION: {name: entry}}, user_file(), users)
        except ConfigError as error:
            raise ConfigError(
                error.message, hint="Add it to your own settings: --scope user"
            ) from None


def require_free(name: str, where: Where) -> None:
    """Raise ``ConfigError`` for a name that no new entry can have there."""
    from corral.tools.config import check_server_name

    check_server_name(name)
    _require_own(name)
    _require_no_other(name, where)
    _require_new(config_file(where), name)


def _require_own(name: str) -> None:
    from corral.tools.settings import RESERVED_NAMES

    if name in RESERVED_NAMES:
        raise ConfigError(
            f"{name} is the name of a server that Corral brings.",
            hint="Add it by another name: corral mcp add NAME",
        )


def _require_new(file: ConfigFile, name: str) -> None:
    if name in file.entries:
        raise ConfigError(
            f"{file.path} has a server named {name} already.",
            hint=f"Remove it first: corral mcp remove {name}",
        )


def _require_no_other(name: str, where: Where) -> None:
    """Raise ``ConfigError`` where the other file has that name: nothing would run any more."""
    other = config_file("user" if where == "project" else "project")
    if current().config is None and name in other.entries:
        whose = "of your own" if where == "project" else "of this folder's"
        raise ConfigError(
            f"{name} is a server {whose} already: {other.path}.",
            hint=f"Choose another name, or remove that one: corral mcp remove {name}",
        )


def added(file: ConfigFile, name: str, entry: JsonObject) -> Change:
    """The file with a new entry. Raises ``ConfigError`` when it has one of that name."""
    _require_new(file, name)
    return file.with_entry(name, entry, [])


def show(name: str, entry: JsonObject) -> None:
    """Print what an entry would do."""
    out = console()
    for line, style in lines(name, entry):
        label, text = line[:_LABEL], line[_LABEL:]
        out.print(label + fitted(text, sys.stdout, _LABEL), style=style, soft_wrap=True)


def lines(name: str, entry: JsonObject) -> Iterator[tuple[str, str]]:
    """What an entry would do, whole and cleaned, with styles. Of values only that is shown which
    variables of the user's go into them.
    """
    yield _whole(name), "bold"
    if "url" in entry:
        yield f"  reaches  {_whole(str(entry['url']))}", ""
    else:
        command = shlex.join([str(entry.get("command", "")), *map(str, entry.get("args", ()))])
        yield f"  starts   {_whole(command)}", ""
        yield f"  sandbox  {_sandbox(entry)}", "" if entry.get("sandbox", True) else "bold red"
    for key, word in (("env", "env"), ("headers", "headers")):
        if values := entry.get(key):
            yield f"  {word:<8} {_whole(', '.join(starmap(_named, values.items())))}", ""
    for key, word in (("grants", "reads"), ("writable", "changes"), ("network", "network")):
        if values := entry.get(key):
            yield f"  {word:<8} {_whole(', '.join(map(str, values)))}", ""


def _named(name: str, value: object) -> str:
    """A variable or a header of the server's, with the user's variables that it is made of."""
    mine = ", ".join(_VARIABLE.findall(str(value)))
    return f"{name} (your {mine})" if mine else name


def _whole(text: str) -> str:
    """All of a text on one line, so that none of it looks like a line of ours."""
    return clean(text).replace("\n", "\\n")


def _sandbox(entry: JsonObject) -> str:
    """What the sandbox leaves a command, in words."""
    if entry.get("sandbox", True) is False:
        return "none: it can do whatever you can do"
    files = bool(entry.get("grants") or entry.get("writable"))
    return {
        (True, True): "the files and hosts below, and nothing else",
        (True, False): "no network, and of your files those below",
        (False, True): "no files, and of the network the hosts below",
        (False, False): "no files and no network",
    }[files, bool(entry.get("network"))]
