"""Which patterns say at least as much as others, and which can never fit.

Only what is certain: where it is not, a pattern does not cover the other one, and can fit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from corral.jsontypes import Json, canonical
from corral.policies.patterns.arguments import ArgumentPattern, Kind
from corral.policies.patterns.commands import CommandPattern, parse_command_pattern
from corral.policies.patterns.globs import compile_glob, glob_covers, is_literal, segments_cover
from corral.policies.patterns.paths import locate
from corral.policies.patterns.urls import UrlPattern, parse_url_pattern


def covers(
    wider: ArgumentPattern, narrower: ArgumentPattern, name: str, *, strictly: bool = False
) -> bool:
    """Whether every value of the argument ``name`` that fits ``narrower`` also fits ``wider``.

    Both are matched in the same way, strictly or loosely, or ``wider`` loosely. ``strictly`` leaves
    out the values that fit ``narrower`` only loosely.
    """
    if wider == narrower:
        return True
    mine, theirs = wider.patterns(name), narrower.patterns(name)
    if any(
        kind not in theirs
        or not all(any(_covers_text(kind, a, b, strictly) for a in texts) for b in theirs[kind])
        for kind, texts in mine.items()
        if kind != "text" or set(texts) != {"*"}
    ):
        return False
    if wider.from_user and not narrower.from_user:
        return False
    return _covers_values(wider, narrower) and _covers_bounds(wider, narrower)


def why_never(pattern: ArgumentPattern, name: str) -> str:
    """Why no value can fit a pattern, in words; empty if one can."""
    if pattern.one_of is not None and not pattern.one_of:
        return "one_of is empty"
    if pattern.min is not None and pattern.max is not None and pattern.min > pattern.max:
        return f"min {pattern.min:g} is greater than max {pattern.max:g}"
    values = _values(pattern)
    if values is not None and not any(_in_bounds(pattern, value) for value in values):
        return "no value in one_of or equals is within min and max"
    texts = pattern.patterns(name).get("text")
    if values is not None and texts and not any(_fits_any(texts, value) for value in values):
        return "no value in one_of or equals fits the text"
    if "equals" not in pattern.model_fields_set or pattern.one_of is None:
        return ""
    known = map(canonical, pattern.one_of)
    return "" if canonical(pattern.equals) in known else "equals is not in one_of"


def why_never_allows(pattern: ArgumentPattern, name: str) -> str:
    """Why an ``allow`` with a pattern can never hold, in words; empty if it can."""
    paths = pattern.patterns(name).get("path", ())
    if paths and all(map(_lies_outside, paths)):
        return f"{paths[0]!r} lies outside of the workspace, where no allow reaches"
    return why_never(pattern, name)


def can_match(pattern: ArgumentPattern, name: str) -> bool:
    """Whether any value can fit a pattern."""
    return not why_never(pattern, name)


def _lies_outside(path: str) -> bool:
    """Whether a pattern leads out of any workspace; one that begins with ``/`` may be in it."""
    return path.startswith("~") or (
        not path.startswith("/") and locate(path, "/workspace").below is None
    )


def _covers_text(kind: Kind, wider: str, narrower: str, strictly: bool) -> bool:
    if wider == narrower:
        return True
    if kind in ("path", "url") and not (strictly or _covers_as_text(wider, narrower)):
        return False
    match kind:
        case "path":
            return _covers_path(wider, narrower)
        case "url":
            return _covers_url(parse_url_pattern(wider), parse_url_pattern(narrower))
        case "command":
            return _covers_command(parse_command_pattern(wider), parse_command_pattern(narrower))
        case "text":
            return glob_covers(wider, narrower)


def _covers_as_text(wider: str, narrower: str) -> bool:
    """A pattern matched loosely also fits values that are no path or URL, by their text.

    The one text that a literal pattern fits is a path or URL that fits the pattern as such.
    """
    return glob_covers(wider, narrower) or (is_literal(narrower) and "\\" not in narrower)


def _covers_path(wider: str, narrower: str) -> bool:
    """Only for patterns below the workspace that are written plainly."""
    parts = [
        [part for part in text.split("/") if part not in ("", ".")] for text in (wider, narrower)
    ]
    for text, own in zip((wider, narrower), parts, strict=True):
        if text.startswith(("/", "~")) or ".." in own:
            return False
        if text.endswith("/"):
            own.append("**")
    return segments_cover(*parts)


def _covers_url(wider: UrlPattern, narrower: UrlPattern) -> bool:
    if wider.scheme not in ("*", narrower.scheme) or wider.port not in ("*", narrower.port):
        return False
    if wider.host not in ("*", narrower.host) and not _covers_host(wider, narrower):
        return False
    if wider.path is None or narrower.path is None:
        return wider.path == narrower.path
    return segments_cover(wider.path, narrower.path)


def _covers_host(wider: UrlPattern, narrower: UrlPattern) -> bool:
    """Only ``*.example.com`` and what ends in ``.example.com``."""
    rest = wider.host.removeprefix("*")
    return wider.host.startswith("*.") and "*" not in rest and narrower.host.endswith(rest)


def _covers_command(wider: CommandPattern, narrower: CommandPattern) -> bool:
    count = len(wider.words)
    if len(narrower.words) < count or (not wider.more and narrower.more):
        return False
    if not wider.more and len(narrower.words) != count:
        return False
    return all(map(glob_covers, wider.words, narrower.words[:count]))


def _fits_any(texts: Sequence[str], value: Json) -> bool:
    """Whether a value may fit one of the texts, whatever its case."""
    text = value if isinstance(value, str) else canonical(value)
    return any(compile_glob(glob.casefold()).matches(text.casefold()) for glob in texts)


def _values(pattern: ArgumentPattern) -> Sequence[Json] | None:
    if "equals" in pattern.model_fields_set:
        return (pattern.equals,)
    return pattern.one_of


def _covers_values(wider: ArgumentPattern, narrower: ArgumentPattern) -> bool:
    mine, theirs = _values(wider), _values(narrower)
    if mine is None:
        return True
    if theirs is None:
        return False
    known = {canonical(value) for value in mine}
    return all(canonical(value) in known for value in theirs)


def _covers_bounds(wider: ArgumentPattern, narrower: ArgumentPattern) -> bool:
    if wider.min is None and wider.max is None:
        return True
    values = _values(narrower)
    if values is not None:
        return all(_in_bounds(wider, value) for value in values)
    if narrower.min is None and narrower.max is None:
        return False
    return _low(wider) <= _low(narrower) and _high(narrower) <= _high(wider)


def _in_bounds(pattern: ArgumentPattern, value: Json) -> bool:
    if pattern.min is None and pattern.max is None:
        return True
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return _low(pattern) <= value <= _high(pattern)


def _low(pattern: ArgumentPattern) -> float:
    return -math.inf if pattern.min is None else pattern.min


def _high(pattern: ArgumentPattern) -> float:
    return math.inf if pattern.max is None else pattern.max
