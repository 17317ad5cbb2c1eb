r"""Commands in the arguments of tool calls, compared word by word and never as one text.

A pattern that loosens fits only a script of plain words (``plain_shell``) of which every command
fits. One that tightens fits if any command anywhere in the script may: behind ``sudo`` and ``env``,
in ``bash -c '…'``, in a substitution; and it fits what cannot be understood (``shell``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from corral.policies.patterns.globs import compile_glob, is_literal
from corral.policies.patterns.names import last_word
from corral.policies.patterns.plain_shell import MAX_LENGTH, is_visible, plain_commands
from corral.policies.patterns.shell import MAX_DEPTH, Command, read_argv, read_script
from corral.policies.patterns.wrappers import Inner, Words, base_name, inner_commands, plain_inner
from corral.policies.texts import texts_of

_NAMES = frozenset(
    {"command", "commands", "cmd", "cmds", "cmdline", "commandline", "argv", "bash", "shell"}
    | {"script"}
)
_MORE_WORDS = ("args", "arguments", "argv", "params", "parameters")
_WHOLE_NAMES = frozenset({"command_line", "cmd_line"})


def is_command_name(name: str) -> bool:
    """Whether an argument of this name holds a command: ``command``, ``shell_cmd``, ``argv``."""
    return last_word(name) in _NAMES or name.lower() in _WHOLE_NAMES


@dataclass(frozen=True)
class CommandPattern:
    """A pattern for each of the first words; ``more``: any further words may follow."""

    words: tuple[str, ...]
    more: bool

    @property
    def spelled(self) -> int:
        """How many words at the start are written out, with nothing left open."""
        open_at = (at for at, word in enumerate(self.words) if not is_literal(word))
        return next(open_at, len(self.words))


@lru_cache(maxsize=8192)
def parse_command_pattern(pattern: str) -> CommandPattern:
    """Read a pattern. Raises ``ValueError`` that says what to write instead."""
    words = _pattern_words(pattern)
    if not words:
        raise ValueError("a pattern of commands is empty: write one such as 'git status *'")
    if words[-1] == "*":
        return CommandPattern(words[:-1], more=True)
    return CommandPattern(words, more=False)


def matches_command_strictly(patterns: Sequence[str], value: str | Sequence[str]) -> bool:
    """Whether all commands of a script (or an argument vector) are plain and fit a pattern."""
    wanted = [parse_command_pattern(pattern) for pattern in patterns]
    script = value[: MAX_LENGTH + 1] if isinstance(value, str) else None
    argvs = _plain_argv(value) if script is None else plain_commands(script)
    return argvs is not None and all(_permits(wanted, argv, depth=0) for argv in argvs)


def matches_command_loosely(patterns: Sequence[str], value: str | Sequence[str]) -> bool:
    """Whether any command of a script (or an argument vector) fits a pattern, or may."""
    found = commands_of(value)
    wanted = [parse_command_pattern(pattern) for pattern in patterns]
    return any(_may_fit(pattern, command) for pattern in wanted for command in found)


@dataclass(frozen=True)
class CommandValue:
    """What an argument makes a tool run: scripts and argument vectors.

    ``plain`` are those of its one reading, empty where it has several; ``readings`` are all.
    """

    plain: tuple[str | tuple[str, ...], ...]
    readings: tuple[str | tuple[str, ...], ...]


def command_value(name: str, args: Mapping[str, Any]) -> CommandValue:
    """What the argument ``name`` makes a tool run, together with ``args`` or ``argv`` beside it."""
    value = args[name]
    more = next((args[key] for key in _MORE_WORDS if key != name and args.get(key)), None)
    if isinstance(value, str):
        return _with_words(value, more)
    if not _is_words(value):
        return CommandValue((), tuple(texts_of(value)))
    if name.lower().endswith("s"):
        return CommandValue(tuple(value), (tuple(value), *value))
    return CommandValue((tuple(value),), (tuple(value), *value))


def _with_words(value: str, more: Any) -> CommandValue:
    if more is None:
        return CommandValue((value,), (value,))
    if isinstance(more, str):
        return CommandValue((), (value, f"{value} {more}", (value, more)))
    if not _is_words(more):
        return CommandValue((), (value, *texts_of(more)))
    argv = (value, *more)
    alone = plain_commands(value) == ((value,),)
    return CommandValue((argv,) if alone else (), (value, argv, " ".join(argv)))


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def commands_of(value: str | Sequence[str]) -> tuple[Command, ...]:
    """All commands that a script or an argument vector runs, outer ones first."""
    if isinstance(value, str):
        return read_script(value[: MAX_LENGTH + 1])
    return read_argv(tuple(value))


def _pattern_words(pattern: str) -> tuple[str, ...]:
    """The words of a pattern, each still a glob; quotes keep spaces together."""
    words = re.findall(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""", pattern)
    if "".join(words) != re.sub(r"""('[^']*'|"[^"]*")|\s""", r"\1", pattern):
        raise ValueError(f"{pattern!r} is not a pattern of commands: close the quotes")
    return tuple(re.sub(r"""'([^']*)'|"([^"]*)\"""", r"\1\2", word) for word in words)


def _plain_argv(argv: Sequence[str]) -> tuple[tuple[str, ...], ...] | None:
    """An argument vector as the one command that it is, if it can be read in one way only."""
    words = tuple(argv)
    odd = any(not is_visible(character) for word in words for character in word)
    return None if odd or not words or not words[0] else (words,)


def _permits(wanted: Sequence[CommandPattern], argv: tuple[str, ...], depth: int) -> bool:
    """Whether a plain command fits, with all that it runs.

    What it runs is permitted by a pattern that spells it out, or on its own.
    """
    inner = inner_commands(argv)
    reach = max((part.start for part in inner), default=-1)
    if any(pattern.spelled > reach and _fits(pattern, argv) for pattern in wanted):
        return True
    own = plain_inner(argv)
    if own is None or depth >= MAX_DEPTH:
        return False
    argvs = _inner_argvs(own)
    return argvs is not None and all(_permits(wanted, part, depth + 1) for part in argvs)


def _inner_argvs(inner: Inner) -> tuple[tuple[str, ...], ...] | None:
    if inner.script is not None:
        return plain_commands(inner.script)
    words = tuple(word for word in inner.words or () if word is not None)
    return (words,) if words and words == inner.words else None


def _fits(pattern: CommandPattern, argv: Sequence[str]) -> bool:
    """Whether each word fits the pattern's in its place."""
    count = len(pattern.words)
    if len(argv) < count or (len(argv) > count and not pattern.more):
        return False
    return all(
        compile_glob(part).matches(word) for part, word in zip(pattern.words, argv, strict=False)
    )


def _may_fit(pattern: CommandPattern, command: Command) -> bool:
    """Whether a command may be what a pattern means.

    Options, each with a value or without, may stand between the pattern's words, and a word that
    is not known may be anything.
    """
    words = command.words
    if command.opaque or not pattern.words or words[0] is None:
        return True
    if not _is_program(pattern.words[0], words[0]):
        return False
    places = {1}
    for part in pattern.words[1:]:
        places = _after_options(words, places)
        if any(at < len(words) and words[at] is None for at in places):
            return True
        places = {at + 1 for at in places if at < len(words) and _is_like(part, words[at] or "")}
    ends = _after_options(words, places)
    return bool(places) and (pattern.more or any(_is_open(words, at) for at in ends))


def _is_open(words: Words, at: int) -> bool:
    return at >= len(words) or all(word is None for word in words[at:])


def _after_options(words: Words, places: set[int]) -> set[int]:
    """The places that can be reached from these by passing over options."""
    reached, todo = set(places), list(places)
    while todo:
        at = todo.pop()
        word = words[at] if at < len(words) else None
        if word is None or not word.startswith("-"):
            continue
        steps = {at + 1} if word == "--" or "=" in word else {at + 1, at + 2}
        todo.extend(steps - reached)
        reached |= steps
    return reached


def _is_program(pattern: str, word: str) -> bool:
    """Whether a first word names the program of a pattern, by its path or its base name."""
    return _is_like(pattern, word) or _is_like(base_name(pattern), base_name(word))


def _is_like(pattern: str, word: str) -> bool:
    return compile_glob(_fold(pattern)).matches(_fold(word))


def _fold(word: str) -> str:
    """A word without what a reader does not see, in its usual form."""
    if word.isascii() and word.isprintable():
        return word
    usual = unicodedata.normalize("NFKC", word)
    return "".join(c for c in usual if unicodedata.category(c)[0] != "C")
