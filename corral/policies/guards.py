"""What no rule can allow: that an agent changes its own policy, or what git runs later."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from corral.policies.facts import ToolCall
from corral.policies.patterns.arguments import path_fits
from corral.policies.patterns.commands import is_command_name
from corral.policies.patterns.contents import commands_in
from corral.policies.patterns.globs import escape
from corral.policies.patterns.names import is_prose_name
from corral.policies.patterns.paths import path_values
from corral.policies.rules import Decision
from corral.policies.texts import texts_of

LAYER = "built in"

_CONFIGURATION = ("**/corral.toml", "**/*.policy.toml", "**/.corral/**")
_GIT = ("**/.git/**",)
_LONGEST_PATH = 4096
_BETWEEN_WORDS = re.compile(r"""[\s'"=;|&<>(){}$,`]+""")


def guard(call: ToolCall, files: Sequence[str]) -> Decision | None:
    """The denial of a call that may write a policy, the configuration or git's own files.

    ``files`` are further files and folders to protect, by their absolute paths. A path is looked
    for in every argument, under whatever name, and among the words of commands.
    """
    if call.read_only:
        return None
    own, hints = _protected(tuple(files))
    for text in dict.fromkeys(_paths(call)):
        if not _may_hold(text, call.links.get(text, ""), hints):
            continue
        if path_fits(_GIT, text, call, loosens=False):
            return _deny("What is in .git can run code later; no tool may write there.")
        if path_fits(own, text, call, loosens=False):
            return _deny(
                "An agent does not edit its own policy or configuration; change this file yourself."
            )
    return None


@lru_cache(maxsize=64)
def _protected(files: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Patterns of what no agent may write besides git's files, and what their names hold."""
    own = (*_CONFIGURATION, *(f"{escape(file.rstrip('/'))}/**" for file in files))
    return own, ("corral.toml", ".policy.toml", ".corral", ".git", *map(_last, files))


def _paths(call: ToolCall) -> Iterator[str]:
    """All that may be a path: texts that are not contents, and the words of commands."""
    yield from path_values(call.args)
    for name, value in call.args.items():
        if not is_prose_name(name):
            yield from (text for text in texts_of(value) if len(text) <= _LONGEST_PATH)
        if is_command_name(name):
            for text in texts_of(value):
                yield from _BETWEEN_WORDS.split(text)
    for command in commands_in(call.args):
        yield from command.argv


def _may_hold(path: str, target: str, hints: Sequence[str]) -> bool:
    """A quick look: only a path that holds one of the names, or that hides something, can fit."""
    if not path.isascii() or not path.isprintable() or "\\" in path:
        return True
    both = f"{path}\n{target}".lower()
    return any(hint in both for hint in hints)


def _last(file: str) -> str:
    return file.rstrip("/").rpartition("/")[2].lower()


def _deny(reason: str) -> Decision:
    return Decision("deny", reason, "a rule that is always there", LAYER)
