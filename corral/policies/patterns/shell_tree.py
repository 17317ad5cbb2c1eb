"""The commands in tree-sitter's reading of a script, and whether that reading is certain."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from corral.policies.patterns.plain_shell import RESERVED, is_visible

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

_WORDS = frozenset(
    {
        "word",
        "number",
        "string",
        "raw_string",
        "ansi_c_string",
        "concatenation",
        "translated_string",
    }
    | {"simple_expansion", "expansion", "command_substitution", "process_substitution"}
    | {"arithmetic_expansion", "brace_expression", "variable_name", "variable_assignment"}
    | {"array", "regex", "extglob_pattern", "subscript", "test_operator"}
)
_COMMANDS = ("command", "declaration_command", "unset_command")
_JOINED_WORD = re.compile(r"(?:^|[^ \t])\\\n|\\\t|(?:^|\s)\\ ")
_HEREDOC_PARTS = frozenset({"<<", "<<-", "heredoc_start", "heredoc_body", "heredoc_end"})
_ACTIVE = re.compile(r"`|\$[({\[]|(?<!\\)['\"\s]")
_OPEN = re.compile(r"(?<!\\)[*?\[{}$`!]|^~|[=:]~")
_QUOTED_SUBSTITUTION = re.compile(r"'[^']*(?:\$\(|`)")
_STRING_ESCAPE = re.compile(r'\\([$`"\\])')


@dataclass(frozen=True)
class ShellWord:
    """A word of a command: as it is written, and its text, if that is known."""

    shown: str
    text: str | None


@dataclass(frozen=True)
class ScriptTree:
    """The commands of a script; where the reading is not ``certain`` there may be others.

    ``assignments`` are all in it, as ``NAME=value``; an unknown value is left out.
    """

    commands: tuple[tuple[ShellWord, ...], ...]
    assignments: tuple[str, ...]
    certain: bool


@lru_cache(maxsize=256)
def read_tree(script: str) -> ScriptTree:
    """Read a script, of a length that the caller has bounded."""
    source = script.encode("utf-8", "replace")
    root = _parser().parse(source).root_node
    reading = _TreeReading(source)
    reading.walk(root)
    visible = all(map(is_visible, script)) and not _JOINED_WORD.search(script)
    certain = visible and not root.has_error and reading.certain
    return ScriptTree(tuple(reading.commands), tuple(reading.assignments), certain)


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter
    import tree_sitter_bash

    return tree_sitter.Parser(tree_sitter.Language(tree_sitter_bash.language()))


class _TreeReading:
    """A walk over a tree; it collects the commands and notes what may be read otherwise."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.commands: list[tuple[ShellWord, ...]] = []
        self.assignments: list[str] = []
        self.certain = True
        self.with_extra: set[int] = set()

    def walk(self, root: Node) -> None:
        todo = [root]
        while todo:
            node = todo.pop()
            children = node.children
            if node.type in _COMMANDS and node.id not in self.with_extra:
                self._add(_words_of(node))
            elif node.type == "redirected_statement":
                self._add_redirected(node)
            elif node.type == "variable_assignment":
                self.assignments.append(_value(node) or "")
            elif node.type == "test_command" and _QUOTED_SUBSTITUTION.search(_text(node)):
                self.certain = False  # [[ -v 'a[$(x)]' ]] runs x
            if not children:
                before = self.source[node.start_byte - 1 : node.start_byte]
                self.certain = self.certain and _is_certain_leaf(node, before)
            elif node.type == "heredoc_redirect":
                children = self._heredoc(node)
            todo.extend(reversed(children))

    def _heredoc(self, node: Node) -> list[Node]:
        """What to look into; what stands in the same line is misread now and then."""
        self.certain = self.certain and all(
            child.type in _HEREDOC_PARTS
            or (child.type == "file_redirect" and not _extra_words(child))
            for child in node.children
        )
        quoted = any(
            child.type == "heredoc_start" and re.search(r"['\"\\]", _text(child))
            for child in node.children
        )
        return [child for child in node.children if not quoted or child.type != "heredoc_body"]

    def _add(self, words: tuple[ShellWord, ...]) -> None:
        if words:
            self.commands.append(words)
            misplaced = words[0].shown in RESERVED - {"time", "coproc"}
            self.certain = self.certain and not misplaced

    def _add_redirected(self, node: Node) -> None:
        """A redirection takes one word; the grammar gives it all that follow, too."""
        body = node.child_by_field_name("body")
        extra = tuple(
            _word(word)
            for redirect in node.children_by_field_name("redirect")
            for word in _extra_words(redirect)
        )
        if not extra:
            return
        if body is None:
            self._add(extra)
        elif body.type in _COMMANDS:
            self.with_extra.add(body.id)
            self._add((*_words_of(body), *extra))
        else:
            self.certain = False


def _words_of(node: Node) -> tuple[ShellWord, ...]:
    """The words of a command, its assignments and redirections left out."""
    words: list[ShellWord] = []
    if node.type in ("declaration_command", "unset_command"):
        words.append(ShellWord(_text(node.children[0]), _text(node.children[0])))
    for child in node.children:
        if child.type == "command_name":
            words.extend(_word(part) for part in child.children)
        elif child.type == "variable_assignment" and node.type == "command":
            continue
        elif child.type in _WORDS:
            words.append(_word(child))
        elif child.type == "file_redirect":
            words.extend(map(_word, _extra_words(child)))
        elif child.type == "$":
            words.append(ShellWord("$", None))
    return tuple(words)


def _extra_words(redirect: Node) -> list[Node]:
    """The words after the one to which a redirection leads."""
    if redirect.type != "file_redirect":
        return []
    return [child for child in redirect.children if child.type in _WORDS][1:]


def _word(node: Node) -> ShellWord:
    return ShellWord(_text(node), _value(node))


def _value(node: Node) -> str | None:
    """The text of a word without its quotes, if nothing in it is expanded."""
    text = _text(node)
    match node.type:
        case "word" | "number" | "variable_name" | "test_operator":
            return None if _OPEN.search(text) else re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
        case "raw_string":
            return text[1:-1]
        case "string":
            inner = text[1:-1]
            return None if re.search(r"(?<!\\)[$`]", inner) else _STRING_ESCAPE.sub(r"\1", inner)
        case "concatenation" | "variable_assignment":
            parts = [_value(child) for child in node.children]
            whole = sum(child.end_byte - child.start_byte for child in node.children)
            if None in parts or whole != node.end_byte - node.start_byte:
                return None
            return "".join(part or "" for part in parts)
        case "=" | "+=":
            return text
        case _:
            return None


def _is_certain_leaf(node: Node, before: bytes) -> bool:
    """Whether a piece of text, after this byte, holds nothing that a shell would act on."""
    text = _text(node)
    match node.type:
        case "raw_string" | "ansi_c_string" | "heredoc_start":
            return True
        case "comment" | "file_descriptor":
            return before in b" \t\n;|&()"
        case "string_content" | "heredoc_content" | "heredoc_body":
            return not re.search(r"`|\$[({\[]", text)
        case _:
            return not node.is_named or not _ACTIVE.search(text)


def _text(node: Node) -> str:
    return (node.text or b"").decode("utf-8", "replace")
