"""``corral mcp doctor``: would an MCP client reach Corral as its own file says?"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli.context import current, wait
from corral.cli.doctor import Check, show_checks
from corral.cli.mcp.command_line import is_ours, program, serve_command
from corral.cli.mcp.installing import ClientArgument, places
from corral.cli.output import emit, note
from corral.jsontypes import JsonObject
from corral.version import VERSION

if TYPE_CHECKING:
    from corral.cli.mcp.clients.files import ConfigFile
    from corral.cli.mcp.clients.known import Client, Scope
    from corral.cli.mcp.probe import Met

_PLACE = re.compile(r"\$\{(?:env:|input:)?([A-Za-z_][A-Za-z0-9_]*)\}")
_LOOPBACK = re.compile(r"https?://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]+)?/")
_BARE_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_FEW = ("HOME", "LANG", "LC_ALL", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER")


@dataclass(frozen=True)
class Found:
    """One entry of ours in a client's file: the user's own, or that of this folder."""

    client: Client
    file: ConfigFile
    name: str
    entry: JsonObject
    scope: Scope = "user"


def doctor(
    client: ClientArgument,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="This entry; all of ours if left out.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Say whether an MCP client would reach Corral.

    Starts or reaches it exactly as that client would, and says what is wrong. Exits 1 when
    the client would not reach it.
    """
    from corral.cli.mcp.clients.known import find_client

    known = find_client(client)
    entries = list(find_entries(known, name))
    checks = [check for one in entries for check in wait(examine(one))]
    if not entries:
        fix = f"Write one: {current().command('mcp', 'install', known.name)}"
        called = f" named {name}" if name else ""
        checks = [Check("entry", "fail", f"{known.title} has no entry of ours{called}.", fix)]
    if json:
        for check in checks:
            emit(check.to_json())
    else:
        show_checks(checks)
    return 1 if any(check.status == "fail" for check in checks) else 0


def find_entries(client: Client, name: str | None) -> Iterator[Found]:
    """The entries of a client's files that are ours, or have that name."""
    from corral.cli.mcp.clients.files import ConfigFile

    scopes: tuple[Scope, ...] = ("user", "project") if client.project_file else ("user",)
    for scope in scopes:
        file = ConfigFile.read(client.file(places(), scope), client.section, client.syntax)
        local = file.entries_in(places().workspace) if scope == "user" else {}
        for called, entry in (*file.entries.items(), *local.items()):
            if called == name or (name is None and (is_ours(entry) or called == "corral")):
                yield Found(client, file, called, entry, scope)


async def examine(found: Found) -> list[Check]:
    """What is to be said of one entry."""
    checks = [Check("entry", "ok", f"{found.name} in {found.file.path}")]
    if found.entry.get("disabled") is True or found.entry.get("enabled") is False:
        checks.append(Check("entry", "fail", "It is switched off there.", "Switch it on again."))
        return checks
    if found.scope == "project" and not _is_as_installed(found.entry):
        said = "This folder brings it, and `corral mcp install` writes another one: not tried."
        fix = "Look at what it does. If you want it, start it yourself, or install ours instead."
        return [*checks, Check("entry", "fail", said, fix)]
    if "url" in found.entry:
        return checks + await _reached(found)
    return checks + await _started(found)


def _is_as_installed(entry: JsonObject) -> bool:
    """Whether an entry does no more than ``install`` would write here.

    Whoever made a folder can have written its file, and what is started or sent has your rights
    and your variables.
    """
    if "url" in entry:
        named = {*_PLACE.findall(dumps(entry)), entry.get("bearer_token_env_var")} - {None}
        to_this_machine = bool(_LOOPBACK.match(str(entry["url"])))
        return not named or (to_this_machine and named == {current().settings().serve.token_env})
    args, env = entry.get("args"), entry.get("env")
    argv = (entry.get("command"), *(args if isinstance(args, list) else ()))
    values = env.values() if isinstance(env, dict) else ()
    is_handed_on = all(_PLACE.fullmatch(str(value)) for value in values)
    return argv == serve_command(str(argv[-1])) and is_handed_on


async def _started(found: Found) -> list[Check]:
    from corral.cli.mcp.probe import ProbeError, meet_command

    entry = found.entry
    argv = [str(entry.get("command", "")), *map(str, entry.get("args", ()))]
    checks = [*_command(found.client, argv[0]), *_workspace(argv)]
    given, unknown = _given(found)
    if unknown:
        fix = f"Set {', '.join(unknown)} for {found.client.title}; here it is tried without."
        checks.append(Check("variables", "warn", f"{', '.join(unknown)}: not set here", fix))
    if any(check.status == "fail" for check in checks):
        return checks
    if not is_ours(entry):
        note(f"starting {found.name}: {shlex.join(argv)}")
    limit = float(entry.get("startup_timeout_sec") or found.client.limit)
    try:
        met = await meet_command(argv, given, limit, modern=found.client.modern)
    except ProbeError as error:
        fix = "See what it does: " + shlex.join(argv)
        return [*checks, Check("start", "fail", error.message, fix)]
    return [*checks, *_met(met, limit)]


def _command(client: Client, command: str) -> Iterator[Check]:
    fix = f"Write it anew: {current().command('mcp', 'install', client.name)}"
    if not Path(command).is_absolute():
        yield Check("command", "fail", f"{command} is no absolute path.", fix)
    elif not os.access(command, os.X_OK):
        yield Check("command", "fail", f"There is no program {command}.", fix)
    elif command != program()[0]:
        found = f"{command} is another Corral than this one, {program()[0]}."
        yield Check("command", "warn", found, fix)
    else:
        yield Check("command", "ok", command)


def _workspace(argv: list[str]) -> Iterator[Check]:
    for flag, folder in pairwise(argv):
        if flag in ("--workspace", "--config") and not Path(folder).exists():
            fix = "Make it, or install again from the folder that you mean."
            yield Check("workspace", "fail", f"{folder} is not there.", fix)


def _given(found: Found) -> tuple[dict[str, str], list[str]]:
    """The environment that the client gives the server, and what of it cannot be known here."""
    client, entry = found.client, found.entry
    whole = client.hands is None and not client.bare
    env = {k: v for k, v in os.environ.items() if whole or k in (*_FEW, "PATH")}
    if client.bare:
        env["PATH"] = _BARE_PATH
    unknown: list[str] = []
    listed = entry.get("env_vars")
    for name in listed if isinstance(listed, list) else ():
        if str(name) in os.environ:
            env[str(name)] = os.environ[str(name)]
        else:
            unknown.append(str(name))
    theirs = entry.get("env")
    for name, value in theirs.items() if isinstance(theirs, dict) else ():
        env[name] = _filled(str(value), os.environ, unknown)
    return env, unknown


def _filled(text: str, environ: Mapping[str, str], unknown: list[str]) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in environ:
            unknown.append(match[1])
        return environ.get(match[1], "")

    return _PLACE.sub(value, text)


async def _reached(found: Found) -> list[Check]:
    from corral.cli.mcp.probe import ProbeError, meet_url

    entry, unknown = found.entry, list[str]()
    headers: dict[str, str] = {}
    theirs: Any = entry.get("headers")
    for name, value in theirs.items() if isinstance(theirs, dict) else ():
        headers[name] = _filled(str(value), os.environ, unknown)
    if token := entry.get("bearer_token_env_var"):
        headers["Authorization"] = _filled(f"Bearer ${{{token}}}", os.environ, unknown)
    if unknown:
        fix = f"Set {unknown[0]} to the server's token, here and for {found.client.title}."
        return [Check("token", "fail", f"{unknown[0]} is not set.", fix)]
    limit = found.client.limit
    try:
        met = await meet_url(str(entry["url"]), headers, limit, modern=found.client.modern)
    except ProbeError as error:
        return [Check("reach", "fail", error.message, error.hint or _where_else())]
    return _met(met, limit)


def _where_else() -> str:
    """Which servers run here, or how one is started."""
    from corral.mcp_servers.serving.announcing import running

    if here := ", ".join(one.url for one in running(current().settings().home)):
        return f"What runs here: {here}. Install that address."
    return f"Is it running? {current().command('mcp', 'serve', 'agents', '--http')}"


def _met(met: Met, limit: float) -> list[Check]:
    slow = met.seconds > limit / 2
    said = f"answered in {met.seconds:.2f} s of {limit:g}, {met.name} {met.version}"
    checks = [Check("start", "warn" if slow else "ok", f"{said}, protocol {met.protocol}")]
    if met.name == "corral" and met.version != VERSION:
        fix = "Quit the client and start it again, so that the newer one is started."
        checks.append(Check("version", "warn", f"It is {met.version}; this is {VERSION}.", fix))
    names = ", ".join(str(tool.get("name", "")) for tool in met.tools)
    if met.tools:
        checks.append(Check("tools", "ok", f"{len(met.tools)}: {names}"))
    else:
        checks.append(Check("tools", "fail", "It offers no tools.", "See: corral agents list"))
    return checks
