"""What a rule asks of a call, condition by condition: each can be tested and said in words.

A rule that allows is matched strictly and a rule that asks or denies loosely, so that what can be
read in two ways is never let through by a rule that meant the other one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from corral.jsontypes import canonical
from corral.policies.facts import ToolCall
from corral.policies.moments import in_hours, is_over
from corral.policies.patterns import arguments, contents
from corral.policies.patterns.arguments import shown
from corral.policies.patterns.globs import compile_glob
from corral.policies.patterns.paths import is_path_name, path_values
from corral.policies.patterns.urls import host_fits
from corral.policies.provenance import guard as provenance
from corral.policies.provenance.capabilities import IN_WORDS, capabilities, destinations
from corral.policies.rules import Rule

Test = Callable[[ToolCall], bool]
Words = Callable[[ToolCall], str]


@dataclass(frozen=True)
class Condition:
    """One thing that must be true of a call.

    ``about`` is the key of the rule that asks for it, ``words`` says it as a sentence goes on after
    "where" (``path is reports/**``), and ``seen`` says what is so with a call. Conditions with no
    ``words`` are said by others.
    """

    about: str
    words: str
    holds: Test
    seen: Words


def names_fit(rule: Rule, name: str) -> bool:
    """Whether a tool's name is one that a rule means."""
    if rule.server is None:
        return is_like(rule.tool, name)
    server, _, tool = name.partition("__")
    return is_like(rule.server, server) and (is_like(rule.tool, tool) or is_like(rule.tool, name))


def is_like(pattern: str, name: str) -> bool:
    """Whether a name is the one that is written, or fits the pattern."""
    return pattern in ("*", name) or compile_glob(pattern).matches(name)


def conditions(rule: Rule) -> tuple[Condition, ...]:
    """All that a rule asks of a call besides the tool's name; what costs most stands first."""
    return (
        *_of_the_arguments(rule),
        *_of_the_tool(rule),
        *_of_the_context(rule),
        *_of_the_time(rule),
    )


def describe(rule: Rule) -> str:
    """A rule in words: ``allow files__write_file where path is reports/**``."""
    tool = "any tool" if rule.tool == "*" else shown(rule.tool)
    if rule.server is not None:
        tool = f"{tool} of {shown(rule.server)}"
    asked = " and ".join(each.words for each in conditions(rule) if each.words)
    return f"{rule.action} {tool}" + (f" where {asked}" if asked else "")


def _of_the_arguments(rule: Rule) -> Iterator[Condition]:
    for name, pattern in rule.args.items():
        words = f"{shown(name)} {arguments.describe(pattern, name)}"
        yield Condition(
            f"args.{name}",
            words,
            partial(_argument_fits, rule, name),
            partial(_argument_seen, name),
        )
    for about, words, patterns, fits, seen in (
        ("paths", "a path", rule.paths, _paths_fit, _paths_seen),
        ("hosts", "a host", rule.hosts, _hosts_fit, _hosts_seen),
        ("commands", "a command", rule.commands, _commands_fit, _commands_seen),
    ):
        if patterns:
            yield Condition(about, f"{words} is {_either(patterns)}", partial(fits, rule), seen)
    if rule.from_user:
        names = "all" if "*" in rule.from_user else _both(rule.from_user)
        yield Condition(
            "from_user", f"{names} comes from the user", partial(_from_user, rule), _not_from_user
        )
    if rule.within_workspace:
        said = any(map(is_path_name, rule.args))
        words = "" if said else "no path leaves the workspace"
        yield Condition("within_workspace", words, contents.stays_inside, _paths_seen)
    if rule.exact_args:
        words = "no other argument is given" if rule.args else "no argument is given"
        yield Condition("exact_args", words, partial(_has_no_more, rule), partial(_more_seen, rule))


_HINTS = {
    "read_only": "read-only",
    "sandboxed": "sandboxed",
    "destructive": "destructive",
    "idempotent": "idempotent",
    "open_world": "open to the outside",
}


def _of_the_tool(rule: Rule) -> Iterator[Condition]:
    for about, adjective in _HINTS.items():
        wanted = getattr(rule, about)
        if wanted is not None:
            yes, no = f"it is {adjective}", f"it is not {adjective}"
            has = partial(_has, about)
            yield _yes_or_no(about, wanted, (yes, no), has)
    if rule.can:
        yield Condition(
            "can",
            f"it can {' or '.join(IN_WORDS[each] for each in rule.can)}",
            lambda call: not capabilities(call).isdisjoint(rule.can),
            _capabilities_seen,
        )


def _of_the_context(rule: Rule) -> Iterator[Condition]:
    if rule.agent is not None:
        agent = rule.agent
        yield Condition(
            "agent",
            f"the agent is {shown(agent)}",
            lambda call: is_like(agent, call.agent),
            lambda call: f"the agent is {shown(call.agent) or 'not known'}",
        )
    if rule.depth is not None:
        depth = rule.depth
        yield Condition(
            "depth",
            f"the depth is {depth.in_words()}",
            lambda call: depth.holds(call.depth),
            lambda call: f"the depth is {call.depth}",
        )
    read = ("untrusted content was read", "no untrusted content was read")
    if rule.untrusted is not None:
        yield _yes_or_no("untrusted", rule.untrusted, read, lambda call: call.label.untrusted)
    read = ("private content was read", "no private content was read")
    if rule.private is not None:
        yield _yes_or_no("private", rule.private, read, lambda call: call.label.private)


def _of_the_time(rule: Rule) -> Iterator[Condition]:
    if rule.after is not None or rule.before is not None or rule.days:
        parts = [
            f"after {rule.after:%H:%M}" if rule.after is not None else "",
            f"before {rule.before:%H:%M}" if rule.before is not None else "",
            f"on {_either(rule.days)}" if rule.days else "",
        ]
        words = f"the time is {' '.join(filter(None, parts))}"
        yield Condition("after", words, partial(_in_hours, rule), _time_seen)
    if rule.until is not None:
        words = f"it is before {rule.until:%Y-%m-%d %H:%M}"
        yield Condition("until", words, partial(_not_over, rule), _time_seen)


def _yes_or_no(about: str, wanted: bool, words: tuple[str, str], has: Test) -> Condition:
    yes, no = words
    return Condition(
        about,
        yes if wanted else no,
        lambda call: has(call) is wanted,
        lambda call: yes if has(call) else no,
    )


def _has(hint: str, call: ToolCall) -> bool:
    return bool(getattr(call, hint))


def _argument_fits(rule: Rule, name: str, call: ToolCall) -> bool:
    if name not in call.args:
        return False
    return arguments.fits(rule.args[name], name, call, loosens=rule.loosens)


def _argument_seen(name: str, call: ToolCall) -> str:
    if name not in call.args:
        return f"there is no argument {shown(name)}"
    value = call.args[name]
    return f"{shown(name)} is {shown(value if isinstance(value, str) else canonical(value))}"


def _paths_fit(rule: Rule, call: ToolCall) -> bool:
    return contents.paths_fit(rule.paths, call, loosens=rule.loosens)


def _hosts_fit(rule: Rule, call: ToolCall) -> bool:
    if contents.hosts_fit(rule.hosts, call, loosens=rule.loosens):
        return True
    # What tightens also means a host, or a mail address there, in the middle of any text.
    named = () if rule.loosens else destinations(call)
    hosts = [to.rpartition("@")[2] for to in named]
    return any(host_fits(pattern, host) for pattern in rule.hosts for host in hosts)


def _commands_fit(rule: Rule, call: ToolCall) -> bool:
    return contents.commands_fit(rule.commands, call, loosens=rule.loosens)


def _paths_seen(call: ToolCall) -> str:
    return _seen("path", path_values(call.args))


def _hosts_seen(call: ToolCall) -> str:
    hosts = dict.fromkeys((*contents.hosts_in(call.args), *destinations(call)))
    return _seen("host", tuple(hosts))


def _commands_seen(call: ToolCall) -> str:
    return _seen("command", (" ".join(each.argv) for each in contents.commands_in(call.args)))


def _seen(what: str, values: Iterable[str]) -> str:
    found = list(dict.fromkeys(values))
    return f"the {what} is {_both(found)}" if found else f"there is no {what}"


def _from_user(rule: Rule, call: ToolCall) -> bool:
    return provenance.from_user(call, rule.from_user)


def _not_from_user(call: ToolCall) -> str:
    others = [name for name in call.args if not provenance.from_user(call, (name,))]
    return f"{_both(others)} does not stand there word for word" if others else "it does"


def _has_no_more(rule: Rule, call: ToolCall) -> bool:
    return call.args.keys() <= rule.args.keys()


def _more_seen(rule: Rule, call: ToolCall) -> str:
    return f"{_both(sorted(call.args.keys() - rule.args.keys()))} is given"


def _in_hours(rule: Rule, call: ToolCall) -> bool:
    if call.at is None:
        return not rule.loosens
    return in_hours(call.at, rule.after, rule.before, rule.days)


def _not_over(rule: Rule, call: ToolCall) -> bool:
    assert rule.until is not None
    over = None if call.at is None else is_over(call.at, rule.until)
    return not rule.loosens if over is None else not over


def _time_seen(call: ToolCall) -> str:
    return f"it is {call.at:%a %Y-%m-%d %H:%M}" if call.at is not None else "the time is not known"


def _capabilities_seen(call: ToolCall) -> str:
    found = [IN_WORDS[each] for each in sorted(capabilities(call))]
    return f"it can {' and '.join(found)}" if found else "it can do none of that"


def _either(patterns: Iterable[str]) -> str:
    return " or ".join(map(shown, patterns))


def _both(names: Iterable[str]) -> str:
    return " and ".join(map(shown, names))
