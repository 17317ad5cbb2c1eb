"""The public face: what ``import corral`` offers, and what it must not cost."""

from __future__ import annotations

import importlib
import subprocess
import sys
from importlib.metadata import version

import pytest

import corral

PINNED = [
    "Agent",
    "Always",
    "Approval",
    "Approved",
    "Budget",
    "Check",
    "Corral",
    "CorralError",
    "Denied",
    "EffectView",
    "Fork",
    "Given",
    "HostedModel",
    "Kit",
    "ModelApprover",
    "Policy",
    "Price",
    "ReplayReport",
    "Retention",
    "Rule",
    "RunLimits",
    "RunOptions",
    "RunResult",
    "RunView",
    "ScriptedModel",
    "Settings",
    "Stopped",
    "SyncCorral",
    "check",
    "extract",
    "load_settings",
    "open",
    "open_sandbox",
    "open_sync",
    "pattern_graph",
    "replay_file",
    "step",
    "subgraph",
    "tool",
]
"""What users build on: a name comes with a line in the changelog, and goes after a deprecation."""

HEAVY = (
    "alembic",
    "anthropic",
    "instructor",
    "langchain_anthropic",
    "langchain_core",
    "langchain_openai",
    "langgraph",
    "langsmith",
    "llama_cpp",
    "llguidance",
    "mcp",
    "openai",
    "prompt_toolkit",
    "pydantic",
    "rich",
    "sqlalchemy",
)


def test_the_exported_names_are_pinned() -> None:
    assert sorted(corral.__all__) == PINNED
    assert set(PINNED) <= set(dir(corral))


@pytest.mark.parametrize("name", PINNED)
def test_an_exported_name_is_described(name: str) -> None:
    value = getattr(corral, name)
    assert value.__doc__, f"corral.{name} has no docstring"
    home = importlib.import_module(value.__module__)
    assert getattr(home, value.__name__) is value


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        corral.no_such_name  # noqa: B018  # the access itself is what is tested


def test_the_version_is_the_package_s() -> None:
    assert corral.__version__ == version("corral")


def test_import_brings_nothing_heavy() -> None:
    code = f"import sys, corral; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
