"""Anchors: the top folders of a rule's path patterns, to leave out rules that cannot match.

Only where both sides are plain: a pattern that begins with a folder's written name, and calls
whose paths are ordinary ones in the workspace. For all else every rule is asked.
"""

from __future__ import annotations

import re

from corral.policies.facts import ToolCall
from corral.policies.patterns.paths import is_path_name, locate, path_values
from corral.policies.rules import Rule

Anchors = frozenset[str]

_PATTERN = re.compile(r"(?:\./)*([A-Za-z0-9_-][A-Za-z0-9_.-]*)(?:/.*)?", re.DOTALL)
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
    if call.links or not all(_is_flat(name, value) for name, value in call.args.items()):
        return None
    found = []
    for path in path_values(call.args):
        below = locate(path, call.workspace).below if _PATH.fullmatch(path) else None
        if not below or ".." in path or below[0].endswith("."):
            return None
        found.append(below[0].lower())
    return frozenset(found)


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
