from __future__ import annotations

import sysconfig
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from json import dumps
from pathlib import Path
from sys import executable
from typing import Any

import pytest

from tests.mcp_servers.client import FOLDER, RawClient
from tests.mcp_servers.web.site import Sites, serving

Start = Callable[..., RawClient]

EVERYWHERE = [["*", [80, 443], False]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("workspace")


@pytest.fixture(scope="module")
def sites() -> Iterator[Sites]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def start(sites: Sites, folder: Path) -> Iterator[Start]:
    """Starts servers with the settings that a test gives; all of the web is allowed."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTP_PROXY", sites.proxy)

        def started(**settings: Any) -> RawClient:
            config = {
                "agent": "Corral/1.2.3",
                "rules": EVERYWHERE,
                "robots": True,
                "max_bytes": 1 << 20,
                "search": None,
                "packages": [sysconfig.get_paths()["purelib"]],
            } | settings
            options = ["--root", str(folder), "--config", dumps(config)]
            return stack.enter_context(
                RawClient([executable, "-I", "-S", str(FOLDER), "web", *options])
            )

        yield started


@pytest.fixture(scope="module")
def web(start: Start) -> RawClient:
    """One server for all tests of a file that need no settings of their own."""
    return start()
