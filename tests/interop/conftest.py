"""What the interoperability tests start: MCP programs that nobody here wrote."""

from __future__ import annotations

import pytest

from tests.cli.conftest import new_place, place
from tests.interop.tools import PLACE, NodeTools, PythonServers, missing

__all__ = ["new_place", "place"]  # the home and workspace of the tests of the command line


@pytest.fixture(scope="session")
def node_tools() -> NodeTools:
    """The official conformance suite, Inspector and reference servers, Claude Code and Codex."""
    if reason := missing("node"):
        pytest.skip(reason)
    return NodeTools(PLACE / "node")


@pytest.fixture(scope="session")
def python_servers() -> PythonServers:
    """Servers from PyPI, and fastmcp."""
    if reason := missing("current", "older"):
        pytest.skip(reason)
    return PythonServers(PLACE)
