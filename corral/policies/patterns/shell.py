r"""All commands that a script may run, as far as its text says so.

A script that is not plain (``plain_shell``) is read by tree-sitter's grammar of bash. That is a
grammar for editors: it goes on after errors, and reads some things otherwise than bash does. So
whatever may be read otherwise, or is known only when it runs, is a command that is not understood.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from corral.policies.patterns.plain_shell import MAX_LENGTH, plain_commands
from corral.policies.patterns.shell_tree import read_tree
from corral.policies.patterns.wrappers import (
    Inner,
    Words,
    base_name,
    inner_commands,
    script_of_variable,
)

MAX_DEPTH = 8
"""How deep commands may run commands before a script is not understood."""
MAX_COMMANDS = 300
"""How many commands a script may run before it is not understood."""


@dataclass(frozen=True)
class Command:
    """A command as it will be run.

    ``argv`` are its words; one of which nobody knows before it runs what it will be, or how many,
    is there as it is written, and its place is in ``unknown``. ``via`` are the programs that run
    it, outermost first. An ``opaque`` command may be any.
    """

    argv: tuple[str, ...]
    unknown: frozenset[int] = frozenset()
    via: tuple[str, ...] = ()
    opaque: bool = False

    @property
    def literal(self) -> bool:
        """Whether every word is what runs."""
        return not self.opaque and not self.unknown

    @property
    def words(self) -> Words:
        """Its words, ``None`` for each that is not known."""
        return tuple(None if at in self.unknown else word for at, word in enumerate(self.argv))


@lru_cache(maxsize=256)
def read_script(script: str) -> tuple[Command, ...]:
    """All commands of a script and all that those run."""
    return _Reading().script(script)


@lru_cache(maxsize=64)
def read_argv(argv: tuple[str, ...]) -> tuple[Command, ...]:
    """A command that is started without a shell, and all that it runs."""
    if not argv:
        return (Command((), opaque=True),)
    return _Reading().commands([Command(argv)])


class _Reading:
    """One reading: what was found so far, within its bounds."""

    def __init__(self) -> None:
        self.found: list[Command] = []
        self.characters = 0

    def script(self, script: str) -> tuple[Command, ...]:
        return self.commands(self._parse(script, ()))

    def commands(self, first: list[Command]) -> tuple[Command, ...]:
        """These commands and all inner ones."""
        level = first
        for _ in range(MAX_DEPTH):
            self.found += level
            if len(self.found) > MAX_COMMANDS:
                break
            level = [inner for command in level for inner in self._inside(command)]
            if not level:
                return tuple(dict.fromkeys(self.found))
        self.found.append(Command(("…",), opaque=True))
        return tuple(dict.fromkeys(self.found[: MAX_COMMANDS + 1] + self.found[-1:]))

    def _inside(self, command: Command) -> Iterator[Command]:
        if command.opaque:
            return
        for inner in inner_commands(command.words):
            via = (*command.via, base_name(command.argv[0]))
            if inner.script is not None:
                yield from self._parse(inner.script, via)
            elif inner.words is not None:
                yield _inner_words(command, inner, via)
            else:
                yield Command(command.argv[inner.start :] or ("…",), via=via, opaque=True)

    def _parse(self, script: str, via: tuple[str, ...]) -> list[Command]:
        self.characters += len(script)
        if self.characters > 10 * MAX_LENGTH or len(script) > MAX_LENGTH:
            return [Command((script[:80],), via=via, opaque=True)]
        plain = plain_commands(script)
        if plain is not None:
            return [Command(argv, via=via) for argv in plain]
        tree = read_tree(script)
        commands = [
            Command(
                tuple(word.shown if word.text is None else word.text for word in words),
                frozenset(at for at, word in enumerate(words) if word.text is None),
                via,
            )
            for words in tree.commands
        ]
        if not tree.certain:
            commands.append(Command((script[:200],), via=via, opaque=True))
        for assignment in tree.assignments:
            inner = script_of_variable(assignment)
            if inner:
                commands += self._parse(inner, (*via, assignment.partition("=")[0]))
        return commands


def _inner_words(command: Command, inner: Inner, via: tuple[str, ...]) -> Command:
    """The words of a command that another one runs; what that one adds is not known."""
    words = inner.words or ()
    shown = (*command.argv[inner.start :], *("…" for _ in words))
    return Command(
        tuple(shown[at] if word is None else word for at, word in enumerate(words)),
        frozenset(at for at, word in enumerate(words) if word is None),
        via,
    )
