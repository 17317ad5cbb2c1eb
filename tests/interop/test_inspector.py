"""The official Inspector against what ``corral mcp serve`` serves, by either transport and era.

``--strict`` fails on whatever is not as the protocol says.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.cli.place import Place
from tests.cli.test_mcp_serve import hosts, over_http
from tests.interop.tools import NodeTools
from tests.sandbox.inside import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ERAS = ("modern", "legacy")
SERVED = ("agents", "all")

CONFIG = """
servers = ["files"]
policy = "workspace"

[agents.writer]
description = "Writes texts."
servers = []
model = "{model}"
"""


class Inspector:
    """The program, in the place's workspace."""

    def __init__(self, tools: NodeTools, place: Place) -> None:
        self._tools, self._place = tools, place

    def ask(self, *args: str) -> Any:
        """What one request was answered, as JSON."""
        ran = subprocess.run(
            self._tools.command("inspector", "--cli", *args),
            env={**self._tools.env, **self._place.env, "PATH": self._tools.env["PATH"]},
            cwd=self._place.workspace,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=240,
            check=False,
        )
        said = ran.stdout
        assert ran.returncode == 0, said + ran.stderr
        return json.loads(said[said.index("{") : said.rindex("}") + 1])


@pytest.fixture
def inspector(node_tools: NodeTools, place: Place, tmp_path: Path) -> Iterator[Inspector]:
    home = tmp_path / "user"
    home.mkdir()
    place.env.update({"HOME": str(home), "CORRAL_SERVE__IDLE": "1"})
    (place.workspace / "corral.toml").write_text(CONFIG.format(model=place.model("hello")))
    yield Inspector(node_tools, place)
    wait_until(lambda: not hosts(place), "the host to end", timeout=60)


def _look(inspector: Inspector, what: str, *options: str, command: Sequence[str] = ()) -> None:
    """Ask for all that there is, and call an agent and a tool; ``command`` is that of a server."""

    def ask(*args: str) -> Any:
        return inspector.ask(*args, *command)

    listing = (*options, "--method")
    names = {tool["name"] for tool in ask(*listing, "tools/list", "--strict")["tools"]}
    assert {"writer", "run_result"} <= names
    assert ("files__read_file" in names) is (what == "all")
    assert "prompts" in ask(*listing, "prompts/list")
    templates = ask(*listing, "resources/templates/list")["resourceTemplates"]
    assert "corral://runs/{run}" in {one["uriTemplate"] for one in templates}
    call = (*options, "--method", "tools/call", "--tool-arg")
    answer = ask(*call, "prompt=Write.", "--tool-name", "writer")
    assert answer["structuredContent"]["answer"] == "Hello there, friend."
    run = answer["structuredContent"]["run"]
    found = {one["uri"] for one in ask(*listing, "resources/list")["resources"]}
    assert f"corral://runs/{run}" in found
    read = ask(*listing, "resources/read", "--uri", f"corral://runs/{run}")
    assert "Hello there, friend." in read["contents"][0]["text"]
    if what == "all":
        answer = ask(*call, "path=orders.csv", "--tool-name", "files__read_file")
        assert "id,total" in answer["structuredContent"]["answer"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("what", SERVED)
def test_by_standard_input_and_output(
    inspector: Inspector, place: Place, what: str, era: str
) -> None:
    command = place.command("mcp", "serve", what)
    # It passes on none of its own environment but what it is told to.
    passed = [f"{name}={place.env[name]}" for name in ("CORRAL_HOME", "CORRAL_SERVE__IDLE")]
    options = [word for one in passed for word in ("-e", one)]
    _look(inspector, what, *options, "--protocol-era", era, command=command)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("what", SERVED)
def test_by_http(inspector: Inspector, place: Place, what: str, workers: str) -> None:
    with over_http(place, what, "--workers", workers) as (url, token):
        header = f"Authorization: Bearer {token}"
        for era in ERAS:
            where = (url, "--transport", "http", "--header", header, "--protocol-era", era)
            _look(inspector, what, *where)
