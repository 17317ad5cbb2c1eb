"""The rules that answering "always" to a call suggests: just this call, and calls like it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from corral.policies.conditions import describe
from corral.policies.facts import ToolCall
from corral.policies.matching import matches
from corral.policies.patterns.arguments import ArgumentPattern, exactly, kind_of
from corral.policies.patterns.commands import commands_of
from corral.policies.patterns.globs import escape
from corral.policies.patterns.names import is_content_name
from corral.policies.patterns.paths import is_folder_name, is_path_name, locate, path_values
from corral.policies.patterns.urls import read_plainly
from corral.policies.rules import Rule

_CODE = "code"
_SUBCOMMAND = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
ANYTHING = ArgumentPattern.model_validate("*")


@dataclass(frozen=True)
class Suggestion:
    """A rule that "always" may add, and what it says in words."""

    rule: Rule
    words: str


def suggestions(call: ToolCall) -> list[Suggestion]:
    """The rules that fit a call, from just this one to wider ones.

    None fits a call with a further argument, nor one whose paths leave the workspace.
    """
    rules = [_rule(call, {name: exactly(name, value) for name, value in call.args.items()})]
    wider = always_rule(call)
    if wider not in rules:
        rules.append(wider)
    return [Suggestion(rule, describe(rule)) for rule in rules if matches(rule, call)]


def always_rule(call: ToolCall) -> Rule:
    """The rule for calls like this one.

    A path becomes all of its folder, or exactly itself for a file at the top of the workspace; a
    URL all below its path's folder on its host; a command all that begin with its program and
    subcommand. Code may be any, and so may the content that goes to a path. All other arguments
    stay as they are.
    """
    args = {
        name: _wider(name, value, call)
        for name, value in call.args.items()
        if kind_of(name) != "text"
    }
    free = any(map(is_path_name, args)) and _CODE not in call.args
    if _CODE not in call.args:
        for name, value in call.args.items():
            is_free = free and is_content_name(name) and not path_values({name: value})
            args.setdefault(name, ANYTHING if is_free else exactly(name, value))
    return _rule(call, args)


def _rule(call: ToolCall, args: Mapping[str, ArgumentPattern]) -> Rule:
    return Rule(
        tool=escape(call.name),
        args=dict(args),
        within_workspace=bool(path_values(call.args)),
        exact_args=args.keys() == call.args.keys(),
        action="allow",
    )


def _wider(name: str, value: Any, call: ToolCall) -> ArgumentPattern:
    """The pattern for values like this one; the value itself where there is none that is safe."""
    wide: str | list[str] | None
    match kind_of(name):
        case "path":
            wide = _folder(name, value, call.workspace)
        case "url":
            wide = _below(value) if isinstance(value, str) else None
        case _:
            wide = _same_program(value)
    return exactly(name, value) if wide is None else ArgumentPattern.model_validate(wide)


def _folder(name: str, value: Any, workspace: str) -> str | None:
    """The folder of a path, or the one of all in a list."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) for item in values):
        return None
    places = [locate(item, workspace) for item in values]
    found = [place.below for place in places if place.plain]
    if len(found) < len(places) or not all(found):
        return None
    folders = {below if is_folder_name(name) else below[:-1] for below in found if below}
    folder = folders.pop() if len(folders) == 1 else ()
    if not folder and len(found) > 1:
        return None
    pattern = "/".join(map(escape, folder or found[0] or ())) + ("/**" if folder else "")
    return f"./{pattern}" if pattern.startswith("~") else pattern


def _below(url: str) -> str | None:
    """All URLs on the host, below the folder of this one's path."""
    read = read_plainly(url)
    if read is None or read.port is None:
        return None
    host = f"[{read.host}]" if ":" in read.host else read.host
    folder = "".join(f"/{escape(segment)}" for segment in read.segments[:-1])
    return f"{read.scheme}://{host}:{read.port}{folder}/**"


def _same_program(value: Any) -> list[str] | None:
    """All commands with the same program and subcommand; ``None`` where one has no subcommand."""
    patterns = []
    for command in commands_of(value) if isinstance(value, str) else ():
        if not command.literal or not all(map(_SUBCOMMAND.fullmatch, command.argv[:2])):
            return None
        patterns.append(f"{' '.join(command.argv[:2])} *")
    return list(dict.fromkeys(patterns)) or None
