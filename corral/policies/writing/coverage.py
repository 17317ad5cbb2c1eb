"""Whether one rule takes all calls that another one would match.

The answer is sound and not complete: yes is certain, no means that it could not be shown.
"""

from __future__ import annotations

from collections.abc import Iterable

from corral.policies.conditions import names_fit
from corral.policies.patterns import pattern_order
from corral.policies.patterns.globs import glob_covers, is_literal, unescape
from corral.policies.rules import Depth, Rule

_FLAGS = (
    *("read_only", "destructive", "idempotent", "open_world", "sandboxed"),
    *("untrusted", "private"),
)


def covers(wider: Rule, narrower: Rule, *, plainly: bool = False) -> bool:
    """Whether every call that ``narrower`` matches is matched by ``wider``.

    ``plainly`` leaves out calls with a value that can be read in two ways: an ``allow`` matches
    none of them, and other rules do.
    """
    return (
        _covers_names(wider, narrower)
        and _covers_flags(wider, narrower)
        and _covers_context(wider, narrower)
        and _covers_time(wider, narrower)
        and _covers_arguments(wider, narrower, plainly=plainly)
    )


def may_share_tools(one: Rule, other: Rule) -> bool:
    """Whether there may be a tool that both mean; ``False`` is certain."""
    literal = _literal_name(one), _literal_name(other)
    if literal[0] is not None:
        return names_fit(other, literal[0])
    if literal[1] is not None:
        return names_fit(one, literal[1])
    return True


def _literal_name(rule: Rule) -> str | None:
    """The one tool that a rule means, if it is written out."""
    if not is_literal(rule.tool) or (rule.server is not None and not is_literal(rule.server)):
        return None
    tool = unescape(rule.tool)
    return tool if rule.server is None or "__" in tool else f"{unescape(rule.server)}__{tool}"


def _covers_names(wider: Rule, narrower: Rule) -> bool:
    name = _literal_name(narrower)
    if name is not None:
        return names_fit(wider, name)
    if wider.server is None and wider.tool == "*":
        return True
    if wider.server is not None and narrower.server is not None:
        same_tool = wider.tool == "*" or glob_covers(wider.tool, narrower.tool)
        return glob_covers(wider.server, narrower.server) and same_tool
    wide, narrow = _pattern(wider), _pattern(narrower)
    return wide is not None and narrow is not None and glob_covers(wide, narrow)


def _pattern(rule: Rule) -> str | None:
    """The pattern of full names that a rule means, if it is one pattern."""
    if rule.server is None:
        return rule.tool
    return None if "__" in rule.tool else f"{rule.server}__{rule.tool}"


def _covers_flags(wider: Rule, narrower: Rule) -> bool:
    same = all(getattr(wider, flag) in (None, getattr(narrower, flag)) for flag in _FLAGS)
    return same and (not wider.within_workspace or narrower.within_workspace)


def _covers_context(wider: Rule, narrower: Rule) -> bool:
    if wider.agent is not None and (
        narrower.agent is None or not glob_covers(wider.agent, narrower.agent)
    ):
        return False
    if wider.can and not (narrower.can and set(narrower.can) <= set(wider.can)):
        return False
    if not set(wider.from_user) <= set(narrower.from_user):
        return False
    wide, narrow = wider.depth or Depth(), narrower.depth or Depth()
    if wide.min > narrow.min:
        return False
    return wide.max is None or (narrow.max is not None and narrow.max <= wide.max)


def _covers_time(wider: Rule, narrower: Rule) -> bool:
    if (wider.after, wider.before) not in ((None, None), (narrower.after, narrower.before)):
        return False
    if wider.days and not (narrower.days and set(narrower.days) <= set(wider.days)):
        return False
    if wider.until is None:
        return True
    if narrower.until is None or (wider.until.tzinfo is None) != (narrower.until.tzinfo is None):
        return False
    return narrower.until <= wider.until


def _covers_arguments(wider: Rule, narrower: Rule, *, plainly: bool) -> bool:
    asks = bool(wider.args or wider.paths or wider.hosts or wider.commands)
    if asks and wider.loosens and not narrower.loosens and not plainly:
        return False  # what a strict pattern leaves out, a loose one may still match
    if wider.exact_args and not (narrower.exact_args and narrower.args.keys() <= wider.args.keys()):
        return False
    strictly = narrower.loosens or plainly
    if not all(
        name in narrower.args
        and pattern_order.covers(pattern, narrower.args[name], name, strictly=strictly)
        for name, pattern in wider.args.items()
    ):
        return False
    return all(
        _covers_list(wide, narrow)
        for wide, narrow in (
            (wider.paths, narrower.paths),
            (wider.hosts, narrower.hosts),
            (wider.commands, narrower.commands),
        )
    )


def _covers_list(wider: Iterable[str], narrower: Iterable[str]) -> bool:
    wide, narrow = set(wider), set(narrower)
    return not wide or (bool(narrow) and narrow <= wide)
