"""What is in a call's arguments, whatever they are called: paths, URLs, hosts and commands."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from corral.jsontypes import JsonObject
from corral.policies.facts import ToolCall
from corral.policies.patterns.arguments import path_fits
from corral.policies.patterns.commands import (
    command_value,
    commands_of,
    is_command_name,
    matches_command_loosely,
    matches_command_strictly,
)
from corral.policies.patterns.names import is_prose_name
from corral.policies.patterns.paths import is_inside, is_path_name, path_values
from corral.policies.patterns.shell import Command
from corral.policies.patterns.urls import (
    MAX_LENGTH,
    host_fits,
    hosts_of,
    is_host_name,
    is_url_name,
    looks_like_url,
    read_host,
    read_plainly,
)
from corral.policies.patterns.wrappers import base_name
from corral.policies.texts import texts_of

_CLIENTS = frozenset(
    {"curl", "wget", "http", "https", "xh", "aria2c", "lynx", "w3m", "links", "ssh", "scp", "sftp"}
    | {"rsync", "mosh", "telnet", "ftp", "lftp", "tftp", "nc", "ncat", "netcat", "socat", "openssl"}
    | {"ping", "traceroute", "dig", "nslookup", "host", "whois", "nmap", "mail", "sendmail"}
)
_LONGEST_PATH = 4096
_EXTENSION = re.compile(r"[^\s.]\.[A-Za-z0-9]{1,8}$")
_URL_IN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2}.*", re.DOTALL)
_REMOTE = re.compile(r"(?:[^@/\s]+@)?(\[[0-9A-Fa-f:.]+\]|[^@/:\s]+)(?:[:/].*)?", re.DOTALL)


@dataclass(frozen=True)
class Destination:
    """Where something in a call leads: its host, if it has one only, and all that it may have.

    Nobody can say where one that leads ``anywhere`` does.
    """

    host: str | None
    hosts: tuple[str, ...]
    anywhere: bool = False


def urls_in(args: JsonObject) -> tuple[str, ...]:
    """All URLs in a call's arguments, as they are written, also those in commands."""
    found = [text for name, text in _texts(args) if is_url_name(name) or looks_like_url(text)]
    words = (word for command in commands_in(args) for word in command.argv)
    in_words = (match[0] for word in words if (match := _URL_IN_WORD.search(word)))
    return tuple(dict.fromkeys((*found, *in_words)))


def hosts_in(args: JsonObject) -> tuple[str, ...]:
    """All hosts to which a call's arguments may lead, also those in commands."""
    return tuple(dict.fromkeys(host for one in destinations_in(args) for host in one.hosts))


def commands_in(args: JsonObject) -> tuple[Command, ...]:
    """All commands that a call's arguments may run, and those that they run, outer ones first."""
    return tuple(
        dict.fromkeys(
            command
            for group, name in _command_arguments(args)
            for reading in command_value(name, group).readings[:1]
            for command in commands_of(reading)
        )
    )


def destinations_in(args: JsonObject) -> tuple[Destination, ...]:
    """Where the URLs, hosts and commands in a call's arguments lead."""
    found: list[Destination] = []
    for name, text in _texts(args):
        if is_url_name(name) or looks_like_url(text):
            found.append(_of_url(text))
        elif is_host_name(name):
            found.append(Destination(*read_host(text)))
    for command in commands_in(args):
        found.extend(_of_command(command))
    return tuple(dict.fromkeys(found))


def paths_fit(patterns: Sequence[str], call: ToolCall, *, loosens: bool) -> bool:
    """Whether all paths in a call fit a pattern and there is one; loosely, whether any does."""
    paths = path_values(call.args)
    others = [text for text in other_paths(call.args) if not loosens or _leads_away(text)]
    found = [path_fits(tuple(patterns), path, call, loosens=loosens) for path in [*paths, *others]]
    return bool(paths) and all(found) if loosens else any(found)


def other_paths(args: JsonObject) -> list[str]:
    """The texts that look like paths in arguments whose names do not say so: ``output``, ``to``."""
    return [
        text
        for name, value in args.items()
        if not (is_path_name(name) or is_prose_name(name))
        and not (is_url_name(name) or is_command_name(name))
        for text in texts_of(value)
        if _looks_like_path(text)
    ]


def _looks_like_path(text: str) -> bool:
    if len(text) > _LONGEST_PATH or "\n" in text or looks_like_url(text):
        return False
    usual = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return any(sign in usual for sign in "/\\%") or _EXTENSION.search(usual) is not None


def _leads_away(text: str) -> bool:
    """Whether a path starts elsewhere than in the workspace, or goes up."""
    return text.startswith(("/", "~", "\\")) or ".." in re.split(r"[/\\]", text)


def stays_inside(call: ToolCall) -> bool:
    """Whether no path in a call leaves the workspace, as it is written or by links."""
    return all(
        is_inside(reading, call.workspace)
        for path in path_values(call.args)
        for reading in (path, call.links.get(path, path))
    )


def hosts_fit(patterns: Sequence[str], call: ToolCall, *, loosens: bool) -> bool:
    """Whether all that a call leads to are such hosts and there is one; loosely, whether any is.

    An ``allow`` fits no call with a command that could lead elsewhere; an ``ask`` or ``deny`` fits
    a command that may lead anywhere.
    """
    found = destinations_in(call.args)
    commands = commands_in(call.args)
    if loosens:
        known = all(one.host is not None for one in found) and all(map(_is_client, commands))
        return bool(found) and known and all(_any_host(patterns, (one.host,)) for one in found)
    if any(map(_may_lead_anywhere, commands)):
        return True
    return any(one.anywhere or _any_host(patterns, one.hosts) for one in found)


def commands_fit(patterns: Sequence[str], call: ToolCall, *, loosens: bool) -> bool:
    """Whether all commands in a call fit a pattern and there is one; loosely, whether any does."""
    values = [command_value(name, group) for group, name in _command_arguments(call.args)]
    if loosens:
        return bool(values) and all(
            value.plain and all(matches_command_strictly(patterns, one) for one in value.plain)
            for value in values
        )
    return any(
        matches_command_loosely(patterns, reading) for value in values for reading in value.readings
    )


def _texts(args: JsonObject) -> Iterator[tuple[str, str]]:
    """All texts in a value, each with the name of the argument that it stands in."""
    todo: list[tuple[str, Any]] = list(args.items())
    for name, value in todo:  # which grows meanwhile
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, dict):
            todo.extend(value.items())
        elif isinstance(value, list | tuple):
            todo.extend((name, item) for item in value)


def _command_arguments(args: JsonObject) -> Iterator[tuple[JsonObject, str]]:
    """The objects in a call that have a command, each with its name there."""
    todo: list[Any] = [args]
    for value in todo:  # which grows meanwhile
        if isinstance(value, dict):
            commands = [name for name in value if is_command_name(name) and texts_of(value[name])]
            if "argv" in commands and len(commands) > 1:
                commands.remove("argv")
            yield from ((value, name) for name in commands)
            todo.extend(value.values())
        elif isinstance(value, list | tuple):
            todo.extend(value)


def _of_url(text: str) -> Destination:
    too_long = len(text) > MAX_LENGTH
    plain = None if too_long else read_plainly(text)
    return Destination(plain.host if plain else None, hosts_of(text), anywhere=too_long)


def _of_command(command: Command) -> Iterator[Destination]:
    """The URLs in a command, and for a program that talks to others, all that may be a host."""
    client = bool(command.argv) and base_name(command.argv[0]) in _CLIENTS
    for at, word in enumerate(command.argv[1:], start=1):
        url = _URL_IN_WORD.search(word)
        if url:
            yield _of_url(url[0])
        elif client and at not in command.unknown and not word.startswith("-"):
            remote = _REMOTE.fullmatch(word)
            plain, loose = read_host(remote[1] if remote else word)
            yield Destination(plain if remote else None, loose)


def _any_host(patterns: Sequence[str], hosts: Sequence[str | None]) -> bool:
    wanted = [pattern.lower().strip("[]") for pattern in patterns]
    return any(host is not None and host_fits(one, host) for one in wanted for host in hosts)


def _is_client(command: Command) -> bool:
    return command.literal and not command.via and base_name(command.argv[0]) in _CLIENTS


def _may_lead_anywhere(command: Command) -> bool:
    return command.opaque or (bool(command.unknown) and base_name(command.argv[0]) in _CLIENTS)
