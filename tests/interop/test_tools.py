"""What the interoperability tests install is pinned, and names no registry."""

from __future__ import annotations

import json
import re

import pytest

from tests.interop.tools import PLACE, ROOT, NodeTools, PythonServers, missing

LOCKS = sorted((ROOT / "tests" / "interop" / "python").glob("*.lock"))


def test_every_npm_package_is_pinned_with_its_hash() -> None:
    folder = ROOT / "tests" / "interop" / "node"
    wanted = json.loads((folder / "package.json").read_text("utf-8"))["dependencies"]
    lock = json.loads((folder / "package-lock.json").read_text("utf-8"))
    root, *packages = lock["packages"].values()
    assert root["dependencies"] == wanted
    assert len(packages) > 100
    assert all(package["integrity"].startswith("sha512-") for package in packages)
    assert not any("resolved" in package for package in packages)
    assert all(re.search(r"(^|@)\d+\.\d+\.\d+[\w.-]*$", version) for version in wanted.values())


def test_every_python_package_is_pinned_with_its_hash() -> None:
    assert [lock.stem for lock in LOCKS] == ["current", "older"]
    for lock in LOCKS:
        text = lock.read_text("utf-8")
        pins = re.split(r"\n(?=\S)", text.strip())
        assert all(re.match(r"[\w.-]+(\[\w+\])?==\S+", pin) for pin in pins)
        assert all("--hash=sha256:" in pin for pin in pins)
        assert "://" not in text


@pytest.mark.skipif(bool(missing("node")), reason=missing("node") or "-")
def test_every_npm_tool_is_where_it_is_looked_for() -> None:
    tools = NodeTools(PLACE / "node")
    assert tools.node.is_file()
    for name in ("claude", "codex", "conformance", "conformance-stable", "inspector", "mcpb"):
        assert all(path.startswith("/") for path in tools.command(name))
    for name in ("everything", "filesystem", "memory", "sequential-thinking"):
        assert tools.command(name, "x")[-1] == "x"


@pytest.mark.skipif(bool(missing("current", "older")), reason=missing("current", "older") or "-")
def test_every_python_server_is_where_it_is_looked_for() -> None:
    servers = PythonServers(PLACE)
    for name in ("mcp-server-fetch", "mcp-server-git", "mcp-server-sqlite", "mcp-server-time"):
        program = ROOT / servers.command(name)[0]
        assert program.is_file()
        assert program.parent.name == "bin"
    assert servers.python.is_file()
