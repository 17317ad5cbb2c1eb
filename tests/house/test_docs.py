"""The pages tell the truth: the names in them exist, and the blocks marked for it run as shown."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import grimp
import pytest
from pydantic import BaseModel

from corral.policies.patterns.arguments import ArgumentPattern
from corral.policies.rules import Rule
from corral.runtime.config import Settings
from tests import forked
from tests.house import docs
from tests.house.rules import ROOT

PAGES = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)
NAMED = sorted(
    {"AGENTS.md", "CONTRIBUTING.md", *(page for page in PAGES if page.startswith("docs/"))}
)
"""Pages whose dotted names are checked too; the others speak of more than this code."""

NOT_IN_FILES = frozenset({"config", "code", "function"})
"""Settings that say which file is read, and what only Python can give."""

SECONDS = 100
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "TERM", "USER", "XDG_CACHE_HOME", "LD_LIBRARY_PATH")
"""What a block gets of the environment: no key of a hosted model, no setting of Corral."""


def blocks_of(*pages: str) -> list[docs.Block]:
    return [
        block for page in pages for block in docs.blocks(page, (ROOT / page).read_text("utf-8"))
    ]


def groups() -> dict[str, list[docs.Block]]:
    """The blocks to run, by the folder that they share."""
    found: dict[str, list[docs.Block]] = defaultdict(list)
    for block in blocks_of(*PAGES):
        if block.mark == "run":
            folder = block.options.get("folder", str(block.line))
            found[f"{block.page}:{folder}"].append(block)
    return dict(found)


GROUPS = groups()


def settings_named(model: type[BaseModel]) -> Iterator[str]:
    """Every setting that a configuration file may hold, by its own name, tables included."""
    for name, field in model.model_fields.items():
        if name in NOT_IN_FILES:
            continue
        yield name
        for inner in tables_in(field.annotation):
            if inner not in (Rule, ArgumentPattern):  # docs/policies.md has them
                yield from settings_named(inner)


def tables_in(annotation: object) -> Iterator[type[BaseModel]]:
    """The models that a field holds, alone or in a list or a table."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables_in(part)


def test_every_setting_is_on_the_configuration_page() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    named = set(settings_named(Settings))
    assert len(named) > 80
    assert {name for name in named if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_files_named_in_a_page_exist(page: str) -> None:
    assert docs.missing_files((ROOT / page).read_text("utf-8"), ROOT) == set()


@pytest.fixture(scope="module")
def modules() -> frozenset[str]:
    return frozenset(grimp.build_graph("corral", cache_dir=None).modules)


@pytest.mark.parametrize("page", NAMED)
def test_names_in_a_page_exist(page: str, modules: frozenset[str]) -> None:
    names = docs.dotted_names((ROOT / page).read_text("utf-8"))
    assert {name for name in names if not docs.resolves(name, modules)} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_block_that_could_run_is_marked(page: str) -> None:
    undecided = [
        f"{page}:{block.line} needs <!-- run --> or <!-- not run: why --> above it"
        for block in blocks_of(page)
        if _can_run(block) and not (block.mark == "run" or (block.mark and block.detail))
    ]
    assert not undecided, "\n".join(undecided)


def _can_run(block: docs.Block) -> bool:
    return block.language == "python" or (block.language == "console" and "$ corral" in block.text)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", GROUPS)
def test_a_block_does_what_the_page_shows(group: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "work" / "examples")
    for block in GROUPS[group]:
        run_block(block, tmp_path)


def run_block(block: docs.Block, folder: Path) -> None:
    """Run one block in ``folder/work`` and check the output and the exit code."""
    options = block.options
    assert set(options) <= {"model", "exit", "folder"}, f"{block.page}:{block.line}: {options}"
    expected_exit = int(options.get("exit", "0"))
    env = environment(folder, options.get("model", ""))
    if block.language == "python":
        script = folder / "block.py"
        script.write_text(block.text, "utf-8")
        check(
            block, docs.Command(shlex.join([sys.executable, str(script)]), ""), env, expected_exit
        )
        return
    todo = docs.commands(block.text)
    for index, command in enumerate(todo):
        check(block, command, env, expected_exit if index == len(todo) - 1 else 0)


def environment(folder: Path, model: str) -> dict[str, str]:
    """A clean environment: this Python's commands first, nothing to reach the network with."""
    env = {name: os.environ[name] for name in KEPT if name in os.environ}
    nowhere = "http://127.0.0.1:9"
    return {
        **env,
        "PATH": f"{Path(sys.executable).parent}:{env.get('PATH', '')}",
        "CORRAL_HOME": str(folder / "home"),
        "COLUMNS": "120",
        "NO_COLOR": "1",
        "http_proxy": nowhere,
        "https_proxy": nowhere,
        **({"CORRAL_MODEL": model} if model else {}),
        "PWD": str(folder / "work"),
    }


def check(block: docs.Block, command: docs.Command, env: dict[str, str], status: int) -> None:
    code, output = by_corral(command.line, env) or by_shell(command.line, env)
    told = f"{block.page}:{block.line}: $ {command.line}\n{output}\n(exit {code})"
    assert code == status, told
    if command.output:
        assert docs.matches(command.output, output), f"{told}\nthe page shows\n{command.output}"


def by_corral(line: str, env: dict[str, str]) -> tuple[int, str] | None:
    """Run a plain ``corral`` command where Corral is imported already: exit code and output.

    ``None`` for a line that needs a shell, or that is no such command.
    """
    if not line.startswith("corral ") or any(mark in line for mark in "|<>&;$`(){}*?~#"):
        return None
    said = str(Path(env["PWD"]).parent / "said.txt")
    args = shlex.split(line.replace("\\\n", " "))[1:]
    code = forked.corral(args, forked.Place(env, env["PWD"], said, said), SECONDS)
    assert code is not None, f"$ {line} did not end"
    return code, Path(said).read_text("utf-8", "replace")


def by_shell(line: str, env: dict[str, str]) -> tuple[int, str]:
    """Run a line as a shell does: its exit code and its output."""
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=env["PWD"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return done.returncode, done.stdout


class TestTheChecker:
    """The checker finds what it is for."""

    PAGE = "\n".join(
        [
            "See `corral/errors.py`, `nowhere.py` and `errors.CorralError.hint`.",
            "<!-- run: model=scripted:examples/a.yaml exit=3 -->",
            "```console",
            "$ corral run x \\",
            "    --json",
            "one … three",
            "$ true",
            "```",
            "```python",
            "x = 1",
            "```",
        ]
    )

    def test_blocks(self) -> None:
        first, second = docs.blocks("p.md", self.PAGE)
        assert (first.language, first.line, first.mark) == ("console", 4, "run")
        assert first.options == {"model": "scripted:examples/a.yaml", "exit": "3"}
        assert docs.commands(first.text) == [
            docs.Command("corral run x \\\n    --json", "one … three"),
            docs.Command("true", ""),
        ]
        assert (second.language, second.text, second.mark) == ("python", "x = 1\n", "")

    def test_missing_files(self) -> None:
        assert docs.missing_files(self.PAGE, ROOT) == {"nowhere.py"}

    @pytest.mark.parametrize(
        ("name", "real"),
        [
            ("corral.errors.CorralError", True),
            ("errors.CorralError.exit_code", True),
            ("corral.runtime.views.Approval.tool", True),
            ("errors.NoSuchError", False),
            ("corral.nowhere.Thing", False),
            ("sys.modules", True),
            ("langgraph.graph.StateGraph", True),
            ("str.casefold", True),
            ("wrong.name", False),
        ],
    )
    def test_names(self, name: str, real: bool) -> None:
        assert docs.dotted_names(f"see `{name}` and `{name}(x)`, not `corral.toml`") == {name}
        modules = frozenset({"corral", "corral.errors", "corral.runtime.views"})
        assert docs.resolves(name, modules) is real

    @pytest.mark.parametrize(
        ("shown", "actual", "same"),
        [
            ("a b", "a   b\n", True),
            ("a … d", "a b\nc d", True),
            ("a\n…", "a\nb\nc", True),
            ("run … done", "run 12 failed", False),
            ("a b", "a b c", False),
            ("1+1=2 (x)", "1+1=2 (x)", True),
        ],
    )
    def test_output(self, shown: str, actual: str, same: bool) -> None:
        assert docs.matches(shown, actual) is same

    def test_a_block_that_differs_fails(self, tmp_path: Path) -> None:
        (tmp_path / "work").mkdir()
        shown = docs.Block("p.md", 1, "console", "$ echo one\none\n$ exit 3\n", "run", "exit=3")
        run_block(shown, tmp_path)
        wrong = docs.Block("p.md", 1, "console", "$ echo one\ntwo\n", "run")
        with pytest.raises(AssertionError, match="the page shows"):
            run_block(wrong, tmp_path)
        failing = docs.Block("p.md", 1, "python", "raise SystemExit(1)", "run")
        with pytest.raises(AssertionError, match="exit 1"):
            run_block(failing, tmp_path)
