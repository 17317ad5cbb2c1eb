"""Anchors: the top folders of a rule's path patterns, to leave out rules that cannot match.

Only where both sides are plain: a pattern that begins with a folder's written name, and calls
whose paths are ordinary ones in the workspace. For all else every rule is asked. So it is with the
programs of command patterns: they must be written out, and what the call runs be understood.
"""

from __future__ import annotations

import re

from corral.policies.facts import ToolCall
from corral.policies.patterns.arguments import kind_of
from corral.policies.patterns.commands import (
    command_value,
    commands_of,
    is_command_name,
    parse_command_pattern,
)
from corral.policies.patterns.contents import other_paths
from corral.policies.patterns.paths import is_path_name, locate, path_values
from corral.policies.patterns.wrappers import base_name
from corral.policies.rules import Rule

Anchors = frozenset[str]

_PATTERN = re.compile(r"(?:\./)*([A-Za-z0-9_-][A-Za-z0-9_.-]*)(?:/.*)?", re.DOTALL)
_PROGRAM = re.compile(r"[A-Za-z0-9_./+-]{1,256}")
_PATH = re.compile(r"[A-Za-z0-9_./-]{1,1024}")


def of_rule(rule: Rule) -> Anchors | None:
    """The folders, in lower case, in one of which a call's path must lie; ``None``: anywhere."""
    patterns = [
        pattern.short for name, pattern in rule.args.items() if pattern.short and is_path_name(name)
    ]
    if rule.paths:
        patterns.append(rule.paths)
    found = (_of_patterns(texts) for texts in patterns)
    return next((anchors for anchors in found if anchors is not None), None)


def of_call(call: ToolCall) -> Anchors | None:
    """The top folders, in lower case, of a call's paths; ``None`` if one is not ordinary."""
    if (
        call.links
        or other_paths(call.args)
        or not all(_is_flat(name, value) for name, value in call.args.items())
    ):
        return None
    found = []
    for path in path_values(call.args):
        below = locate(path, call.workspace).below if _PATH.fullmatch(path) else None
        if not below or ".." in path or below[0].endswith("."):
            return None
        found.append(below[0].lower())
    return frozenset(found)


def programs_of_rule(rule: Rule) -> Anchors | None:
    """The programs, in lower case, one of which a call must run; ``None``: any."""
    patterns = (
        pattern.short
        for name, pattern in rule.args.items()
        if pattern.short and kind_of(name) == "command"
    )
    found = (_programs(texts) for texts in patterns)
    return next((programs for programs in found if programs is not None), None)


def programs_of_call(call: ToolCall) -> Anchors | None:
    """All programs, in lower case, that a call may run; ``None`` if one is not known."""
    readings = (
        reading
        for name in filter(is_command_name, call.args)
        for reading in command_value(name, call.args).readings
    )
    found = set()
    for command in (command for reading in readings for command in commands_of(reading)):
        program = command.words[0] if command.words else None
        if command.opaque or program is None or not _PROGRAM.fullmatch(program):
            return None
        found.add(base_name(program).lower())
    return frozenset(found)


def _programs(patterns: tuple[str, ...]) -> Anchors | None:
    words = [parse_command_pattern(pattern).words for pattern in patterns]
    if not all(first and _PROGRAM.fullmatch(first[0]) for first in words):
        return None
    return frozenset(base_name(first[0]).lower() for first in words)


def _of_patterns(patterns: tuple[str, ...]) -> Anchors | None:
    found = [_PATTERN.fullmatch(pattern) for pattern in patterns]
    names = [match[1] for match in found if match is not None]
    if len(names) < len(patterns) or any(".." in pattern for pattern in patterns):
        return None
    return None if any(name.endswith(".") for name in names) else frozenset(map(str.lower, names))


def _is_flat(name: str, value: object) -> bool:
    """Whether a path's argument holds only texts: what is in anything else is read differently."""
    if not is_path_name(name) or isinstance(value, str):
        return True
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
