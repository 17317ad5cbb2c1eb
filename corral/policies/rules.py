"""Rules: which tool calls are allowed, asked about or denied. The first rule that matches wins.

A rule that allows is matched strictly and a rule that asks or denies loosely, so that a path
which can be read in two ways is never let through by a rule that meant the other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from corral.jsontypes import canonical
from corral.policies.facts import ToolCall
from corral.policies.globs import compile_glob, escape
from corral.policies.paths import (
    is_folder_name,
    is_inside,
    is_path_name,
    locate,
    matches_loosely,
    matches_strictly,
    path_values,
)

Action = Literal["allow", "ask", "deny"]

_CODE = "code"
_CONTENT = frozenset(
    {"content", "contents", "text", "data", "edits", "old", "new", "old_text", "new_text"}
    | {"old_str", "new_str", "old_string", "new_string", "oldText", "newText"}
)


class Rule(BaseModel):
    """One rule. All that it names must fit the call.

    ``tool`` is a tool's name, and ``args`` holds patterns for arguments by their names; ``*``
    stands for any characters, ``?`` for one, and nothing else is special. The argument must be
    there. In an argument that is a path (``path``, ``file``, ``dir``, ``cwd``, ``output_file``, …)
    the pattern is one of a path in the workspace: ``*`` stays in a segment, ``**`` goes across
    them, and ``reports/**`` is the folder and all in it. An argument that is not a text is
    compared as canonical JSON.

    ``paths`` are such patterns for the paths in a call, whatever the arguments are called: an
    ``allow`` needs all of them to fit, any other action one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: str = Field(default="*", min_length=1, description="The tool's name, or a pattern.")
    args: dict[str, str] = Field(default_factory=dict, description="Patterns of arguments.")
    paths: tuple[str, ...] = Field(
        default=(), description="Patterns of any argument that is a path."
    )
    read_only: StrictBool | None = Field(
        default=None, description="Only calls that change nothing (true) or that may (false)."
    )
    sandboxed: StrictBool | None = Field(
        default=None, description="Only tools that run in the sandbox (true) or outside (false)."
    )
    within_workspace: StrictBool = Field(
        default=False, description="Only calls of which no path leaves the granted folder."
    )
    exact_args: StrictBool = Field(
        default=False, description="Only calls without any argument that `args` does not name."
    )
    action: Action = Field(description="What happens to a call that matches.")
    reason: str = Field(default="", description="Shown to the user and to the model.")


@dataclass(frozen=True)
class Decision:
    """What happens to a call, why, and by which rule; ``rule`` is ``None`` where none matched."""

    action: Action
    reason: str
    rule: str | None


@dataclass(frozen=True)
class Policy:
    """Named rules in their order, followed by those of ``base``.

    ``files`` are the files that the rules come from: no agent may write them.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    base: Policy | None = None
    files: tuple[str, ...] = ()

    @cached_property
    def decisions(self) -> tuple[tuple[Rule, Decision], ...]:
        """All rules in their order, those that are always there first, with what they decide."""
        return tuple(
            (rule, Decision(rule.action, rule.reason or _because(rule, label), label))
            for rule, label in _labelled(self)
        )


def decide(policy: Policy, call: ToolCall, standing: Sequence[Rule] = ()) -> Decision:
    """Decide on a call.

    Writing ``corral.toml``, a policy's file or anything in ``.git`` is denied before any rule is
    asked: an agent never edits its own policy. A call that no rule matches is allowed when it is
    read-only and else asked about. ``standing`` are the user's "always" rules; they turn an
    ``ask`` into ``allow`` (or ``deny``) and never change a ``deny``.
    """
    for rule, decision in policy.decisions:
        if matches(rule, call):
            return _with_standing(decision, call, standing)
    if call.read_only:
        return Decision("allow", f"{call.name} is read-only", None)
    unmatched = Decision("ask", f"{call.name} may change things, and no rule covers it", None)
    return _with_standing(unmatched, call, standing)


def matches(rule: Rule, call: ToolCall) -> bool:
    """Whether a call fits all that a rule names."""
    if not compile_glob(rule.tool).matches(call.name):
        return False
    if rule.read_only not in (None, call.read_only) or rule.sandboxed not in (None, call.sandboxed):
        return False
    if rule.exact_args and call.args.keys() - rule.args.keys():
        return False
    if not all(_matches_argument(rule, name, call) for name in rule.args):
        return False
    return _matches_paths(rule, call)


def always_rule(call: ToolCall) -> Rule:
    """The rule that answering "always" to this call adds.

    A path becomes all of its folder, or exactly itself for a file at the top of the workspace.
    Code may be any, and so may the content that goes to a path. All other arguments stay as they
    are, and none may be added. The rule never fits a path outside the workspace.
    """
    args = {
        name: _always_path(name, value, call.workspace)
        for name, value in call.args.items()
        if is_path_name(name)
    }
    inside = bool(args)
    if _CODE not in call.args:
        for name, value in call.args.items():
            free = inside and name in _CONTENT and not path_values({name: value})
            args.setdefault(name, "*" if free else _exactly(value))
    return Rule(
        tool=escape(call.name),
        args=args,
        within_workspace=inside,
        exact_args=_CODE not in call.args,
        action="allow",
    )


def describe(rule: Rule) -> str:
    """A rule in words: ``allow files__write_file where path is reports/**``."""
    conditions = [f"{name} is {_shown(pattern)}" for name, pattern in rule.args.items()]
    if rule.paths:
        conditions.append(f"a path is {' or '.join(map(_shown, rule.paths))}")
    if rule.read_only is not None:
        conditions.append("it is read-only" if rule.read_only else "it is not read-only")
    if rule.sandboxed is not None:
        conditions.append("it is sandboxed" if rule.sandboxed else "it is not sandboxed")
    if rule.within_workspace and not any(map(is_path_name, rule.args)):
        conditions.append("no path leaves the workspace")
    if rule.exact_args:
        conditions.append("no other argument is given" if rule.args else "no argument is given")
    tool = "any tool" if rule.tool == "*" else _shown(rule.tool)
    return f"{rule.action} {tool}" + (f" where {' and '.join(conditions)}" if conditions else "")


_GUARDS = (
    Rule(
        read_only=False,
        paths=("**/corral.toml", "**/*.policy.toml"),
        action="deny",
        reason="An agent does not edit its own policy or configuration; change this file yourself.",
    ),
    Rule(
        read_only=False,
        paths=("**/.git/**",),
        action="deny",
        reason="What is in .git can run code later; no tool may write there.",
    ),
)


def _labelled(policy: Policy) -> Iterator[tuple[Rule, str]]:
    """All rules in their order, each with its name in words."""
    for guard in _GUARDS:
        yield guard, "a rule that is always there"
    layer: Policy | None = policy
    while layer is not None:
        if layer.files:
            files = tuple(map(escape, layer.files))
            own = _GUARDS[0].model_copy(update={"paths": files})
            yield own, "a rule that is always there"
        layer = layer.base
    layer = policy
    while layer is not None:
        for number, rule in enumerate(layer.rules, start=1):
            yield rule, f"rule {number} of {layer.name}"
        layer = layer.base


def _with_standing(decision: Decision, call: ToolCall, standing: Sequence[Rule]) -> Decision:
    if decision.action != "ask":
        return decision
    fitting = [rule for rule in standing if rule.action != "ask" and matches(rule, call)]
    if not fitting:
        return decision
    rule = next((rule for rule in fitting if rule.action == "deny"), fitting[0])
    label = f"your standing rule: {describe(rule)}"
    return Decision(rule.action, rule.reason or label, label)


def _because(rule: Rule, label: str) -> str:
    return f"{label}: {describe(rule)}"


def _matches_argument(rule: Rule, name: str, call: ToolCall) -> bool:
    if name not in call.args:
        return False
    value, pattern = call.args[name], rule.args[name]
    if not is_path_name(name):
        return compile_glob(pattern).matches(value if isinstance(value, str) else canonical(value))
    if isinstance(value, str):
        return _matches_path(rule, pattern, value, call.workspace)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        fits = (_matches_path(rule, pattern, item, call.workspace) for item in value)
        return all(fits) if rule.action == "allow" else any(fits)
    if rule.action == "allow":
        return pattern == _exactly(value)
    return compile_glob(pattern).matches(canonical(value))


def _matches_paths(rule: Rule, call: ToolCall) -> bool:
    if not rule.paths and not rule.within_workspace:
        return True
    values = path_values(call.args)
    if rule.within_workspace and not all(is_inside(value, call.workspace) for value in values):
        return False
    if not rule.paths:
        return True
    fits = (
        any(_matches_path(rule, pattern, value, call.workspace) for pattern in rule.paths)
        for value in values
    )
    return bool(values) and all(fits) if rule.action == "allow" else any(fits)


def _matches_path(rule: Rule, pattern: str, path: str, workspace: str) -> bool:
    if rule.action == "allow":
        return matches_strictly(pattern, path, workspace)
    return matches_loosely(pattern, path, workspace)


def _always_path(name: str, value: Any, workspace: str) -> str:
    """The folder of a path, or of all in a list; else a pattern for just this value."""
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) for item in values):
        return _exactly(value)
    found = [locate(item, workspace).below for item in values]
    if any(below is None for below in found):
        return escape(values[0])
    folders = {(below if is_folder_name(name) else below[:-1]) for below in found if below}
    folder = folders.pop() if len(folders) == 1 and all(found) else ()
    pattern = (
        "/".join(map(escape, folder)) + "/**" if folder else "/".join(map(escape, found[0] or "."))
    )
    return f"./{pattern}" if pattern.startswith("~") else pattern


def _exactly(value: Any) -> str:
    return escape(value if isinstance(value, str) else canonical(value))


def _shown(pattern: str) -> str:
    """A pattern as it may be shown: on one line, not too long, with nothing invisible in it."""
    if pattern == "*":
        return "anything"
    short = pattern if len(pattern) <= 80 else f"{pattern[:79]}…"
    return short if short.isprintable() else ascii(short)
