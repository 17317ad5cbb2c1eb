"""The limits of the house as functions of a source; ``test_limits`` applies them to the tree."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

ROOT = Path(__file__).resolve().parents[2]

MAX_FILE_LINES = 400
MAX_TEST_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
MAX_NESTING = 4
MAX_PARAMETERS = 6

STRUCTURAL = frozenset(
    {"C901", "PLR0904", "PLR0911", "PLR0912", "PLR0913", "PLR0915", "PLR0916", "PLR0917", "PLR1702"}
)
"""Ruff's codes for size and complexity: a reason does not excuse these."""

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Found: TypeAlias = tuple[int, str]
"""A line and what is wrong there."""

_BLOCKS = (
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.If,
    ast.With,
    ast.AsyncWith,
    ast.Try,
    ast.TryStar,
    ast.Match,
)
_NEW_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_WAIVER = re.compile(
    r"#\s*(?P<tool>noqa|(?:type|pyright|mypy):\s*ignore|ruff:\s*(?:noqa|disable)|pyright:\s*basic)"
    r"(?P<codes>\s*:\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*|\[[\w\s,.-]+\])?"
    r"(?P<reason>.*)",
    re.IGNORECASE,
)


def python_files(*folders: str) -> list[Path]:
    """All Python files under folders of the repository, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def long_file(source: str, limit: int) -> Iterator[Found]:
    """The file, when it has more lines than ``limit``."""
    lines = len(source.splitlines())
    if lines > limit:
        yield limit + 1, f"file has {lines} lines, at most {limit}"


def functions(tree: ast.AST) -> Iterator[Function]:
    """Every function in a module, methods and nested ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def long_functions(tree: ast.AST) -> Iterator[Found]:
    """Functions of more than ``MAX_FUNCTION_LINES``, from ``def`` to the last line."""
    for function in functions(tree):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        if lines > MAX_FUNCTION_LINES:
            yield (
                function.lineno,
                f"{function.name} has {lines} lines, at most {MAX_FUNCTION_LINES}",
            )


def deep_functions(tree: ast.AST) -> Iterator[Found]:
    """Functions with blocks nested more than ``MAX_NESTING`` deep; ``elif`` adds no level."""
    for function in functions(tree):
        depth = max((_depth(statement) for statement in function.body), default=0)
        if depth > MAX_NESTING:
            yield function.lineno, f"{function.name} is nested {depth} deep, at most {MAX_NESTING}"


def _depth(node: ast.AST) -> int:
    if isinstance(node, _NEW_SCOPES):
        return 0
    inside = [0]
    chained = [0]
    for child in ast.iter_child_nodes(node):
        (chained if _is_elif(node, child) else inside).append(_depth(child))
    return max(max(inside) + isinstance(node, _BLOCKS), *chained)


def _is_elif(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]


def many_parameters(tree: ast.AST) -> Iterator[Found]:
    """Functions with over ``MAX_PARAMETERS``; ``self``, ``cls``, ``*`` and ``**`` do not count."""
    for function in functions(tree):
        names = [
            argument.arg
            for argument in (
                *function.args.posonlyargs,
                *function.args.args,
                *function.args.kwonlyargs,
            )
        ]
        count = len(names) - (names[:1] in (["self"], ["cls"]))
        if count > MAX_PARAMETERS:
            yield (
                function.lineno,
                f"{function.name} has {count} parameters, at most {MAX_PARAMETERS}",
            )


def local_first_party_imports(tree: ast.AST) -> Iterator[Found]:
    """Imports of ``corral`` inside a function."""
    inside = {node: function for function in functions(tree) for node in ast.walk(function)}
    for node, function in inside.items():
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = _imported(node)
            if any(name.split(".")[0] == "corral" for name in names):
                yield node.lineno, f"{function.name} imports {', '.join(names)}"


def _imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return ["corral"] if node.level else [node.module or ""]


def waivers_without_reason(source: str) -> Iterator[Found]:
    """Comments that silence a checker without codes or a reason, or that excuse size or complexity.

    The form is ``# noqa: CODE  # why`` or ``# type: ignore[code]  # why``.
    """
    if not _WAIVER.search(source):
        return
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        for found in _WAIVER.finditer(token.string):
            if wrong := _wrong_waiver(found):
                yield token.start[0], wrong


def _wrong_waiver(found: re.Match[str]) -> str | None:
    codes = found["codes"]
    if not codes:
        return f"`{found['tool']}` names no code"
    excused = STRUCTURAL & set(re.findall(r"[A-Z]+\d+", codes))
    if excused:
        return f"{', '.join(sorted(excused))} may not be waived"
    if len(found["reason"].strip(" #:;,.-—")) < 8:
        return f"`{found['tool']}` gives no reason beside it"
    return None
