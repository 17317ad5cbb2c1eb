"""What a tool call can do that matters once somebody else may have had a say in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from typing import Literal
from urllib.parse import unquote

from corral.policies.facts import ToolCall
from corral.policies.patterns.globs import compile_glob
from corral.policies.patterns.names import last_word
from corral.policies.patterns.paths import is_inside, locate, path_values
from corral.policies.patterns.urls import (
    DOTS,
    host_fits,
    hosts_of,
    is_host_name,
    is_url_name,
    looks_like_url,
)
from corral.policies.provenance.verbatim import leaves

Capability = Literal["send", "change", "irreversible", "secret"]

CAPABILITIES: tuple[Capability, ...] = ("send", "change", "irreversible", "secret")

IN_WORDS: dict[Capability, str] = {
    "send": "send data out",
    "irreversible": "change what cannot be brought back",
    "secret": "use a secret",
    "change": "change something",
}

_FILES, _MEMORY, _AGENTS = "files", "memory", "agents"
_CODE = ("python", "shell")

_RUNS_LATER = (
    *("makefile", "gnumakefile", "justfile", "rakefile", "jenkinsfile", "dockerfile"),
    *("docker-compose*.y*ml", "compose.y*ml", "package.json", "pyproject.toml", "setup.py"),
    *("setup.cfg", "tox.ini", "noxfile.py", "conftest.py", "sitecustomize.py", "usercustomize.py"),
    *("*.pth", "*.sh", "*.bash", "*.zsh", "*.fish", "*.bat", "*.cmd", "*.ps1", "*.desktop"),
    *("*.service", "*.timer", "crontab", "agents.md", "claude.md", "gemini.md", ".*"),
)
"""Names of files that something runs, or reads as an order, without anybody reading them first."""

_HOST = re.compile(r"(?<![\w@.-])(?:[\w-]+\.)+[^\W\d_][\w-]+(?![\w@])")
_MAIL = re.compile(r"(?<![\w.!#$%&'*+/=?^`{|}~-])[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(?:\.[\w-]+)*")
_ADDRESS = re.compile(r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\])(?![\w.])")
_LINK = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[/\\]{2}[^\s\"'<>]*")
_TO = frozenset(
    {"to", "cc", "bcc", "recipient", "recipients", "email", "emails", "address", "addresses"}
    | {"channel", "channels", "phone", "iban", "account", "receiver", "attendees", "participants"}
    | {"destination", "server", "remote", "target", "user", "users", "chat", "room", "topic"}
)


def capabilities(call: ToolCall) -> frozenset[Capability]:
    """What a call can do, as far as is known; where nothing is known, all."""
    found: set[Capability] = set()
    if can_send(call):
        found.add("send")
    if not call.read_only:
        found.add("change")
        if not _can_be_undone(call):
            found.add("irreversible")
    if call.holds_secret:
        found.add("secret")
    return frozenset(found)


def can_send(call: ToolCall) -> bool:
    """Whether what is in the arguments can leave this machine.

    A read-only call can, too: what is fetched, looked up or searched for is itself a message.
    """
    if call.remote:
        return True
    if call.sandboxed and not call.network:
        return False
    return call.open_world or call.server in _CODE


def destinations(call: ToolCall) -> tuple[str, ...]:
    """Where the arguments say that data goes: hosts, and addresses of mail, in lower case.

    Those in the middle of a text count as well. Empty: the call names none, so that it goes to
    wherever the tool's own server sends it.
    """
    return tuple(dict.fromkeys(_named(call)))


def names_destination(call: ToolCall) -> bool:
    """Whether the call's arguments decide where data goes, rather than the tool itself."""
    return bool(destinations(call)) or any(
        last_word(name) in _TO or is_url_name(name) or is_host_name(name) for name in call.args
    )


def is_reader(pattern: str, destination: str) -> bool:
    """Whether a destination is one of those that a pattern of ``Label.readers`` names.

    ``example.com`` and ``*.example.com`` name hosts, and the addresses of mail there;
    ``ann@example.com`` is one address, and ``server:mail`` a tool server.
    """
    wanted = pattern.lower()
    if ":" in wanted or "@" in wanted or destination.startswith("server:"):
        return compile_glob(wanted).matches(destination)
    return host_fits(wanted, destination.rpartition("@")[2])


def _named(call: ToolCall) -> Iterator[str]:
    for name, value in call.args.items():
        for leaf in leaves(value):
            if not isinstance(leaf, str):
                continue
            if is_url_name(name) or is_host_name(name) or looks_like_url(leaf):
                yield from (host.lower() for host in hosts_of(leaf))
            for text in _readable(leaf):
                yield from _written_in(text, holds_path=_is_file(name))


def _readable(text: str) -> Iterator[str]:
    """A text, and what it is once its signs are put in their usual form and decoded."""
    usual = unicodedata.normalize("NFKC", text.translate(DOTS))
    decoded = unquote(unquote(usual)) if "%" in usual else usual
    yield from dict.fromkeys((text, usual, decoded))


def _written_in(text: str, *, holds_path: bool) -> Iterator[str]:
    yield from (match[0].lower() for match in _MAIL.finditer(text))
    for link in _LINK.finditer(text):
        yield from (host.lower() for host in hosts_of(link[0]))
    if not holds_path:
        yield from (match[0].lower() for match in _HOST.finditer(text))
    yield from (match[0].strip("[]").lower() for match in _ADDRESS.finditer(text))


def _is_file(name: str) -> bool:
    return bool(path_values({name: "x"}))


def _can_be_undone(call: ToolCall) -> bool:
    """Whether a rewind undoes what the call changes."""
    if call.server == _MEMORY:
        return True
    if call.server not in (_FILES, *_CODE) or not call.sandboxed or call.network:
        return False
    paths = path_values(call.args)
    leads = [*paths, *(call.links[path] for path in paths if path in call.links)]
    return call.rewindable and all(
        is_inside(path, call.workspace) and not _runs_later(path, call.workspace) for path in leads
    )


def _runs_later(path: str, workspace: str) -> bool:
    names = [segment.casefold() for segment in locate(path, workspace).below or ()]
    return any(compile_glob(pattern).matches(name) for name in names for pattern in _RUNS_LATER)
