r"""What a command runs besides itself: behind ``sudo``, ``env``, ``bash -c``, ``find -exec``, …

Programs take options in ways of their own. Where the words of a command can be taken apart in two
ways, both are returned: that is right for a rule that tightens, and one that loosens wants one way
only. A file that is run is not looked into.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TypeAlias

from corral.policies.patterns import programs

Word: TypeAlias = str | None
"""A word of a command; ``None`` is any number of words that are known only when it runs."""

Words: TypeAlias = tuple[Word, ...]

MAX_WORDS = 200
"""How many words a program that runs its arguments may have, before it is not understood."""

_INPUT = re.compile(r"-|/dev/(?:stdin|fd/.*)|/proc/.*/fd/.*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\+?=")
_SETTING = re.compile(r"[A-Za-z0-9_.:/*-]+=")
_SPLIT_STRING = re.compile(r"-[A-Za-z]*S(.+)|--split-string=(.+)", re.DOTALL)
_SHELL_CODE = re.compile(r"[-+][A-Za-z]*[cC].*|--command(?:=.*)?|--init-command(?:=.*)?", re.DOTALL)


@dataclass(frozen=True)
class Inner:
    """What a command runs, from its word number ``start`` on: words, or a script for a shell.

    Where both are ``None`` nobody can say what it is.
    """

    start: int
    words: Words | None = None
    script: str | None = None


def base_name(word: str) -> str:
    """The program of a command's first word: ``rm`` of ``/bin/rm``."""
    return word.rsplit("/", 1)[-1]


def inner_commands(words: Words) -> tuple[Inner, ...]:
    """All that a command may run besides itself. Where options can be read in two ways, both."""
    if not words or words[0] is None:
        return ()
    name = base_name(words[0])
    reader = _reader(name)
    if reader is not _nothing and len(words) > MAX_WORDS:
        return (Inner(1),)
    found = [*_by_options(name, words), *_by_variables(words), *reader(words)]
    return tuple(dict.fromkeys(found))


def plain_inner(argv: Sequence[str]) -> Inner | None:
    """What a command runs in its own stead, if it can be read in one way only.

    Only of programs that change neither who runs it, nor where, nor its environment.
    """
    found = inner_commands(tuple(argv))
    if len(found) != 1:
        return None
    if argv[0] in programs.SHELLS:
        return found[0] if len(argv) == 3 and argv[1] in ("-c", "-lc") else None
    own = argv[1 : found[0].start]
    plain = argv[0] in programs.TRANSPARENT and not any("=" in word for word in own)
    return found[0] if plain else None


def _by_options(name: str, words: Words) -> Iterator[Inner]:
    """What an option says should run: ``--exec=rm``, ``--rsh rm``, ``-I rm``."""
    own = _own_options(name)
    for at, word in enumerate(words[1:], start=1):
        if word is None or not word.startswith("-"):
            continue
        option, _, value = word.partition("=")
        short = own.match(word) if own else None
        if short is not None:
            value = word[short.end() :].removeprefix("=")
        elif not programs.EXEC_OPTION.fullmatch(option):
            continue
        yield from _as_scripts(value or _next(words, at), at)


def _as_scripts(value: Word, at: int) -> Iterator[Inner]:
    """A value as a script, also without a setting's name or the ``!`` of an alias."""
    if value is None:
        yield Inner(at)
        return
    setting = _SETTING.match(value)
    texts = (value, value[setting.end() :] if setting else value)
    for text in dict.fromkeys(text.removeprefix("!") for text in texts):
        if text:
            yield Inner(at, script=text)


def _next(words: Words, at: int) -> Word:
    return words[at + 1] if at + 1 < len(words) else ""


def script_of_variable(assignment: str) -> str | None:
    """The script in ``GIT_PAGER=rm`` and the like; ``None`` for variables that hold none."""
    found = _ASSIGNMENT.match(assignment)
    if found is None or not programs.SCRIPT_VARIABLE.fullmatch(found[1]):
        return None
    return assignment[found.end() :]


def _by_variables(words: Words) -> Iterator[Inner]:
    """What a variable says should run: ``env GIT_PAGER=rm``, ``export BASH_ENV=rm``."""
    for at, word in enumerate(words):
        script = script_of_variable(word or "")
        if script:
            yield Inner(at, script=script)


def _starts(words: Words, operands: Iterable[int]) -> tuple[int, ...]:
    """Where an inner command may begin: after options, with a value of their own or without."""
    todo = [(1, left) for left in operands]
    seen = set(todo)
    starts: set[int] = set()
    while todo:
        at, left = todo.pop()
        if at >= len(words):
            continue
        word = words[at]
        steps: set[tuple[int, int]] = set()
        if word is None:
            starts.add(at)
        elif word.startswith("-") and word != "-":
            values = (at + 1,) if word == "--" or "=" in word else (at + 1, at + 2)
            steps = {(after, left) for after in values}
        else:
            steps = {(at + 1, left)} if "=" in word else set()
            steps |= {(at + 1, left - 1)} if left else set()
            if not left and not _ASSIGNMENT.match(word):
                starts.add(at)
        todo.extend(steps - seen)
        seen |= steps
    return tuple(sorted(starts))


def _prefix(words: Words, operands: Iterable[int]) -> Iterator[Inner]:
    """A program that runs the words after its options."""
    for start in _starts(words, operands):
        yield Inner(start, words=words[start:])


def _wrapper(words: Words, operands: Iterable[int]) -> Iterator[Inner]:
    """The same of one for which a word with spaces may be a script, too."""
    yield from _prefix(words, operands)
    for at, word in enumerate(words[1:], start=1):
        glued = _SPLIT_STRING.fullmatch(word or "")
        if glued:
            yield Inner(at, script=glued[1] or glued[2])
        elif word is not None and re.search(r"[\s;|&]", word):
            yield Inner(at, script=word)


def _runner(words: Words, operands: Iterable[int]) -> Iterator[Inner]:
    if "--" in words or None in words or not programs.RUN_WORDS.isdisjoint(words):
        yield from _wrapper(words, operands)


def _package_runner(words: Words) -> Iterator[Inner]:
    if "--" in words or None in words or not programs.PACKAGE_RUN_WORDS.isdisjoint(words):
        yield from _wrapper(words, (1,))


def _shell(words: Words) -> Iterator[Inner]:
    """A shell with ``-c``, one that reads a script from its input, or one that runs a file."""
    for at, word in enumerate(words[1:], start=1):
        if word is None:
            yield Inner(at)
            return
        if _SHELL_CODE.fullmatch(word):
            glued = word.partition("=")[2]
            if glued:
                yield Inner(at, script=glued)
            yield from _scripts(words, at + 1)
            return
    operands = [word for word in words[1:] if word and not word.startswith(("-", "+"))]
    reads_input = {"-s", "-i", "-", "--rcfile", "--init-file"}.intersection(words)
    if not operands or reads_input or any(map(_INPUT.fullmatch, operands)):
        yield Inner(len(words))


def _scripts(words: Words, start: int = 1) -> Iterator[Inner]:
    """All words from here on that are no options, each as a script."""
    for at, word in enumerate(words[start:], start=start):
        if word is None:
            yield Inner(at)
        elif not word.startswith("-") or " " in word:
            yield Inner(at, script=word)


def _script_words(words: Words) -> Iterator[Inner]:
    yield from _scripts(words)
    yield from _wrapper(words, (0, 1))


def _joined(words: Words, start: int) -> Iterator[Inner]:
    """All words from here on as one script."""
    known = [word for word in words[start:] if word is not None]
    if len(known) < len(words) - start:
        yield Inner(start)
    elif known:
        yield Inner(start, script=" ".join(known))


def _joiner(words: Words, operands: Iterable[int] = (0,)) -> Iterator[Inner]:
    for start in _starts(words, operands):
        yield from _joined(words, start)


def _eval(words: Words) -> Iterator[Inner]:
    """``eval`` and the like take no options, and join assignments, too."""
    yield from _joined(words, 2 if words[1:2] == ("--",) else 1)
    yield from _joiner(words)


def _remote(words: Words) -> Iterator[Inner]:
    yield from _joiner(words, (1,))


def _xargs(words: Words) -> Iterator[Inner]:
    """What ``xargs`` runs, with words from its input at the end, or instead of a word."""
    places = {"{}"}
    for at, word in enumerate(words):
        if word and re.match(r"-[IiJ]|--replace", word):
            places |= {word[2:], word.partition("=")[2], _next(words, at) or ""}
    used = places - {""}
    for start in _starts(words, (0,)):
        inner = (
            None if word is None or any(place in word for place in used) else word
            for word in words[start:]
        )
        yield Inner(start, words=(*inner, None))


def _finder(words: Words) -> Iterator[Inner]:
    """``find … -exec COMMAND ;`` and ``fd … -x COMMAND``; what they find is not known."""
    for at, word in enumerate(words[1:], start=1):
        if word is None:
            yield Inner(at)
        elif re.fullmatch(r"-(?:exec|ok)(?:dir)?|-[A-Za-z]*[xX]|--exec(?:-batch)?", word):
            rest = words[at + 1 :]
            end = next((i for i, part in enumerate(rest) if part in (";", "+")), len(rest))
            known = (None if part is None or "{" in part else part for part in rest[:end])
            yield Inner(at + 1, words=(*known, None))


def _git(words: Words) -> Iterator[Inner]:
    """Settings and aliases, and what ``bisect run``, ``rebase -x`` and the like run."""
    for at, word in enumerate(words[1:], start=1):
        if word is None:
            continue
        if word.startswith(("!", "ext::")):
            yield Inner(at, script=word.removeprefix("!").removeprefix("ext::"))
        elif word.startswith("-c"):
            setting = word[2:] or _next(words, at)
            if setting is None or "=" in setting:
                yield from _as_scripts(setting, at)
        elif any(word.startswith(sign) and use in words for sign, use in programs.GIT_RUNS):
            yield from _scripts((word[2:], *words[at + 1 :]), 0)
            yield from _joined(words, at + 1)
            yield Inner(at + 1, words=words[at + 1 :])


def _alias(words: Words) -> Iterator[Inner]:
    for at, word in enumerate(words[1:], start=1):
        if word is None:
            yield Inner(at)
        elif "=" in word:
            yield Inner(at, script=word.partition("=")[2])


def _file_reader(words: Words) -> Iterator[Inner]:
    if any(word is None or _INPUT.fullmatch(word) for word in words[1:]):
        yield Inner(1)


def _opaque(words: Words) -> Iterator[Inner]:
    yield Inner(len(words))


def _evaluating(words: Words) -> Iterator[Inner]:
    if any(re.search(r"\$\(|`", word or "") for word in words):
        yield Inner(1)


def _nothing(words: Words) -> Iterator[Inner]:  # noqa: ARG001  # every reader is given the words
    yield from ()


def _interpreter(words: Words, option: re.Pattern[str]) -> Iterator[Inner]:
    """An interpreter that is given code in its arguments or by its input, and not by a file."""
    for at, word in enumerate(words[1:], start=1):
        if word is None or option.fullmatch(word) or _INPUT.fullmatch(word):
            yield Inner(at)
            return
        if word in programs.CODE_MODULES and words[at - 1] == "-m":
            yield Inner(at)
            return
        before = words[at - 1] or ""
        if not word.startswith("-") and (at == 1 or not before.startswith("-")):
            return
        if word.startswith("-m") or before == "-m":
            return
    if not {"--version", "-V", "--help", "-h"}.intersection(words):
        operands = [word for word in words[1:] if word and not word.startswith("-")]
        yield from () if operands else (Inner(len(words)),)


def _escaping(words: Words, escape: re.Pattern[str]) -> Iterator[Inner]:
    for at, word in enumerate(words[1:], start=1):
        before = words[at - 1] or ""
        if escape.search(word) if word is not None else at == 1 or before.startswith("-"):
            yield Inner(at)


Reader: TypeAlias = Callable[[Words], Iterator[Inner]]

_READERS: tuple[tuple[frozenset[str], Reader], ...] = (
    (programs.SHELLS, _shell),
    (programs.PACKAGE_RUNNERS, _package_runner),
    (programs.JOINERS, _eval),
    (programs.REMOTE, _remote),
    (programs.XARGS, _xargs),
    (programs.FINDERS, _finder),
    (programs.SCRIPT_WORDS, _script_words),
    (programs.OPAQUE, _opaque),
    (programs.FILE_READERS, _file_reader),
    (programs.EVALUATING, _evaluating),
    (frozenset({"git"}), _git),
    (frozenset({"alias"}), _alias),
)


@lru_cache(maxsize=1024)
def _reader(name: str) -> Reader:
    """How the words of a program are read."""
    for names, reader in _READERS:
        if name in names:
            return reader
    if name in programs.WRAPPERS or re.fullmatch(r"ld-(?:linux|musl).*|ld\.so.*|qemu-.*", name):
        operands = programs.WRAPPERS.get(name, (0,))
        plain = name in programs.TRANSPARENT and name != "env"
        return partial(_prefix if plain else _wrapper, operands=operands)
    if name in programs.RUNNERS:
        return partial(_runner, operands=programs.RUNNERS[name])
    for pattern, option in programs.CODE_OPTIONS.items():
        if re.fullmatch(pattern, name):
            return partial(_interpreter, option=re.compile(option, re.DOTALL))
    for pattern, escape in programs.ESCAPES.items():
        if re.fullmatch(pattern, name):
            return partial(_escaping, escape=re.compile(escape, re.DOTALL))
    return _nothing


@lru_cache(maxsize=1024)
def _own_options(name: str) -> re.Pattern[str] | None:
    for pattern, options in programs.EXEC_OPTIONS.items():
        if re.fullmatch(pattern, name):
            return re.compile(options)
    return None
