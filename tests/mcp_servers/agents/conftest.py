"""A workspace with agents for the tests of the agents' service."""

from __future__ import annotations

from pathlib import Path

import pytest

from corral.runtime.config import Settings
from tests.mcp_servers.agents.clients import configured


@pytest.fixture
def agents(own_home: Path, workspace: Path) -> Settings:
    """Settings with agents that answer from scripts."""
    return configured(own_home, workspace)
