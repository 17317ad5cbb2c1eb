r"""The part of the shell's language that has one meaning in every shell: plain words.

A script of plain words is commands joined by ``;``, ``&&``, ``||``, ``|`` and line ends, whose
words are written out, quoted or not. Anything that a shell would expand, substitute or redirect,
and anything that two shells read differently, makes a script not plain (POSIX.1-2024, XCU 2.2-2.3).
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MAX_LENGTH = 20_000
"""The longest script that is read, in characters."""

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\\\n)
      | (?P<end>\n|;(?!;)|&&|\|\|?(?!&))
      | (?P<raw>'[^']*')
      | "(?P<quoted>(?:[^"\\$`!]|\\[^!])*)"
      | \\(?P<escaped>[^\n])
      | (?P<bare>[^\s'"\\;&|<>(){}$`!*?\[\]\#~^=]+)
      | (?P<inner>[\#~^=])
    """,
    re.VERBOSE,
)
_ESCAPE = re.compile(r'\\([$`"\\\n])')
RESERVED = frozenset(
    {"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for"}
    | {"select", "function", "in", "time", "coproc"}
)
"""Words that are no command at its place."""


@lru_cache(maxsize=512)
def plain_commands(script: str) -> tuple[tuple[str, ...], ...] | None:
    """The words of each command of a plain script, or ``None`` for any other script.

    Words keep no quotes and a script without a command is not plain.
    """
    if len(script) > MAX_LENGTH or not all(map(is_visible, script)):
        return None
    reader = _Reader()
    position = 0
    while position < len(script):
        token = _TOKEN.match(script, position)
        if token is None or not reader.take(token):
            return None
        position = token.end()
    return reader.finish()


class _Reader:
    """Puts the tokens of a script together to words and commands."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, ...]] = []
        self.words: list[str] = []
        self.word: str | None = None
        self.wants_more = False

    def take(self, token: re.Match[str]) -> bool:
        """Add one token. False if the script is not plain."""
        kind, text = token.lastgroup, token.group(token.lastgroup or 0)
        match kind:
            case "blank" if text == "\\\n" and self.word is not None:
                pass
            case "blank":
                self._end_word()
            case "end":
                return self._end_command(text)
            case "inner":
                return self._add_inner(text)
            case "raw":
                self._add(text[1:-1])
            case "quoted":
                self._add(_ESCAPE.sub(_unescape, text))
            case _:
                self._add(text)
        return True

    def finish(self) -> tuple[tuple[str, ...], ...] | None:
        """All commands, or ``None`` if there is none or one is missing at the end."""
        self._end_word()
        if self.words:
            return tuple(self.commands) if self._close() else None
        return tuple(self.commands) if self.commands and not self.wants_more else None

    def _add(self, text: str) -> None:
        self.word = (self.word or "") + text

    def _add_inner(self, text: str) -> bool:
        """What means something at the start of a word; a ``~`` also after ``=`` and ``:``."""
        if self.word is None or (text == "~" and self.word.endswith(("=", ":"))):
            return False
        if text == "=" and not self.words:
            return False
        self._add(text)
        return True

    def _end_word(self) -> None:
        if self.word is not None:
            self.words.append(self.word)
        self.word = None

    def _end_command(self, operator: str) -> bool:
        self._end_word()
        if not self.words:
            return operator == "\n"
        self.wants_more = operator in ("&&", "||", "|")
        return self._close()

    def _close(self) -> bool:
        first = self.words[0]
        self.commands.append(tuple(self.words))
        self.words = []
        return bool(first) and first not in RESERVED


def _unescape(found: re.Match[str]) -> str:
    return "" if found[1] == "\n" else found[1]


def is_visible(character: str) -> bool:
    r"""Whether a reader sees a character for what it is: no control, no format, no odd space."""
    return character in " \n\t" or unicodedata.category(character)[0] not in "CZ"
