"""Lengths, nesting, parameters, imports inside functions, waivers and import cycles."""

from __future__ import annotations

import ast
import graphlib
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grimp
import pytest

from tests.house import rules

CODE = ("corral", "bench", "examples")
TREE_CHECKS = (rules.long_functions, rules.deep_functions, rules.many_parameters)

MAY_IMPORT_LATE = {
    "corral/mcp_servers/host.py": "langgraph",
    "corral/runtime/approvals/answers.py": "jsonschema",
    "corral/runtime/approvals/inputs.py": "jsonschema",
    "corral/runtime/export/importer.py": "langgraph",
    "corral/runtime/models/embeddings.py": "llama_cpp",
    "corral/runtime/models/hosted/model.py": "langchain_openai",
    "corral/runtime/models/local/model.py": "llama_cpp",
    "corral/sandbox/backends/opening.py": "cryptography",
    "corral/sandbox/network/postgres.py": "h11",
    "corral/sandbox/network/gateway.py": "h11",
    "corral/tools/http.py": "mcp",
    "corral/tools/stdio.py": "mcp",
}
"""Modules outside ``corral/cli`` that import from Corral inside a function, each with the heavy
third-party library that this keeps out of start-up. No other reason counts."""


def complaints(files: Iterable[Path], check: Callable[[str], Iterable[rules.Found]]) -> str:
    """One line for each thing that ``check`` finds in the files."""
    return "\n".join(
        f"{path.relative_to(rules.ROOT)}:{line}: {text}"
        for path in files
        for line, text in check(path.read_text("utf-8"))
    )


def expect_none(found: str) -> None:
    """Fail with the complaints and nothing else: pytest's own account of them is long."""
    if found:
        pytest.fail(found, pytrace=False)


def test_files_are_found() -> None:
    found = {str(path.relative_to(rules.ROOT)) for path in rules.python_files("corral", "tests")}
    assert {"corral/errors.py", "tests/house/test_limits.py"} <= found


def test_code_files_are_short() -> None:
    files = rules.python_files(*CODE)
    expect_none(complaints(files, lambda s: rules.long_file(s, rules.MAX_FILE_LINES)))


def test_test_files_are_short() -> None:
    files = rules.python_files("tests")
    expect_none(complaints(files, lambda s: rules.long_file(s, rules.MAX_TEST_FILE_LINES)))


@pytest.mark.parametrize("folder", [*CODE, "tests"])
def test_functions_keep_to_the_limits(folder: str) -> None:
    # Fixtures are parameters, so pytest's functions may have more of them.
    checks = [check for check in TREE_CHECKS if (folder, check) != ("tests", rules.many_parameters)]

    def found(source: str) -> Iterator[rules.Found]:
        tree = ast.parse(source)
        return (one for check in checks for one in check(tree))

    expect_none(complaints(rules.python_files(folder), found))


def test_no_first_party_import_inside_a_function() -> None:
    found = complaints(
        rules.python_files("corral"),
        lambda source: rules.local_first_party_imports(ast.parse(source)),
    ).splitlines()
    late = [line for line in found if not line.startswith(("corral/cli/", "corral/__init__.py:"))]
    undeclared = [line for line in late if line.split(":")[0] not in MAY_IMPORT_LATE]
    expect_none("\n".join(undeclared))
    unused = set(MAY_IMPORT_LATE) - {line.split(":")[0] for line in late}
    assert not unused, "not needed any more in MAY_IMPORT_LATE"


@pytest.mark.parametrize("path", MAY_IMPORT_LATE)
def test_a_late_import_keeps_its_library_out(path: str) -> None:
    module, library = path.removesuffix(".py").replace("/", "."), MAY_IMPORT_LATE[path]
    assert importlib.util.find_spec(library), f"{library} is not installed: is the name right?"
    code = f"import sys, {module}; sys.exit({library!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=rules.ROOT, check=False)
    assert done.returncode == 0, f"importing {module} brings {library} in"


def test_waivers_give_a_reason() -> None:
    expect_none(complaints(rules.python_files(*CODE, "tests"), rules.waivers_without_reason))


def test_no_import_cycles() -> None:
    graph = grimp.build_graph("corral", cache_dir=None)
    assert "corral.errors" in graph.modules
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        pytest.fail("import cycle: " + " <- ".join(error.args[1]), pytrace=False)


class TestTheRulesThemselves:
    """Each rule finds what it is for, and nothing in the smallest correct example."""

    def lines(self, found: Iterable[rules.Found]) -> list[int]:
        return [line for line, _ in found]

    def test_file_length(self) -> None:
        assert self.lines(rules.long_file("x = 1\n" * 401, 400)) == [401]
        assert not list(rules.long_file("x = 1\n" * 400, 400))

    def test_function_length(self) -> None:
        body = "    x = 1\n"
        assert self.lines(rules.long_functions(ast.parse("\ndef f():\n" + body * 60))) == [2]
        assert not list(rules.long_functions(ast.parse("def f():\n" + body * 59)))

    def test_nesting(self) -> None:
        def nested(*heads: str) -> ast.AST:
            lines = ["def f():", *heads, "pass"]
            return ast.parse("\n".join(" " * depth + line for depth, line in enumerate(lines)))

        four = ("if a:", "with b:", "for c in d:", "while e:")
        assert not list(rules.deep_functions(nested(*four)))
        assert self.lines(rules.deep_functions(nested(*four, "if g:"))) == [1]
        assert self.lines(
            rules.deep_functions(nested(*four[:3], "match g:", "case 1:", "if h:"))
        ) == [1]
        assert not list(rules.deep_functions(nested(*four, "def g():", "if h:")))

    def test_elif_adds_no_level(self) -> None:
        chain = "def f():\n if a:\n  pass\n" + " elif b:\n  pass\n" * 8
        assert not list(rules.deep_functions(ast.parse(chain)))

    def test_parameters(self) -> None:
        assert not list(
            rules.many_parameters(ast.parse("def f(self, a, b, c, /, d, *e, g, h): ..."))
        )
        assert self.lines(
            rules.many_parameters(ast.parse("def f(a, b, c, /, d, *, e, g, h): ..."))
        ) == [1]

    def test_imports_inside_functions(self) -> None:
        source = (
            "from corral import a\ndef f():\n import os, corral.b\n from . import c\n import re\n"
        )
        assert self.lines(rules.local_first_party_imports(ast.parse(source))) == [3, 4]

    @pytest.mark.parametrize(
        "comment",
        [
            "# noqa",
            "# noqa: F401",
            "# type: ignore",
            "# type: ignore[misc]",
            "# noqa: C901  # it is long but reads well",
            "# pyright: ignore",
        ],
    )
    def test_waivers(self, comment: str) -> None:
        assert self.lines(rules.waivers_without_reason(f"x = 1\ny = 2  {comment}\n")) == [2]

    @pytest.mark.parametrize(
        "line",
        [
            "y = 2  # noqa: BLE001  # the border to the user's code",
            "y = 2  # type: ignore[call-overload, misc]  # the stub lacks this overload",
            "y = '# noqa'",
            "y = 2  # an ordinary comment",
        ],
    )
    def test_no_complaint(self, line: str) -> None:
        assert not list(rules.waivers_without_reason(line + "\n"))
