"""Who may grant a network, and what policy makes of a server that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError
from corral.policies.layers import Layered
from corral.policies.provenance.capabilities import capabilities
from corral.runtime.config import Settings, load_settings
from corral.runtime.effects import Guard, Outcome
from corral.runtime.secrets import known_secrets
from corral.runtime.stations.facts import PolicyRules, facts
from corral.tools.contract import ToolSpec

SERVER = {"command": "/usr/bin/true", "network": ["a.test"]}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('network = ["evil.test"]', "mcp.x.network"),
        ('inject = {"evil.test" = {Authorization = "x"}}', "mcp.x.inject"),
        ("limits = {memory_mb = 64000}", "mcp.x.limits"),
    ],
)
def test_a_project_grants_none(settings: Settings, line: str, named: str) -> None:
    (settings.workspace / "corral.toml").write_text(f'[mcp.x]\ncommand = "x"\n{line}\n')
    with pytest.raises(ConfigError, match=named):
        load_settings({"home": settings.home, "workspace": settings.workspace})


def networked(home: Path, **fields: Any) -> Settings:
    return load_settings({"home": home, "mcp": {"x": SERVER}, **fields})


def test_a_server_with_a_network_can_send(settings: Settings) -> None:
    inside = networked(settings.home, servers=["files", "web"], web={"allow": ["a.test"]})
    assert inside.networked_servers == {"x", "web"}
    assert networked(settings.home, sandbox="none").networked_servers == frozenset()
    rules = PolicyRules(
        policy=Layered(()),
        standing=(),
        sandboxed=inside.sandboxed_servers,
        networked=inside.networked_servers,
        workspace="/work",
        thread="t",
    )
    for server, sends in (("x", True), ("files", False)):
        spec = ToolSpec(server, "read", "", {}, read_only=True, trusted=True)
        guard = Guard(spec, {}, never, never, edit=lambda _args: pytest.fail("not edited"))
        assert ("send" in capabilities(facts(guard, rules))) == sends


def never(_text: str) -> Outcome:
    raise AssertionError("nothing is refused or given")


def test_what_is_injected_is_known_as_a_secret(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER", "canary-0123456789")
    inject = {"a.test": {"Authorization": "Bearer ${TRACKER}", "X-Key": "literal-secret"}}
    found = known_secrets(networked(settings.home, mcp={"x": {**SERVER, "inject": inject}}))
    assert {"canary-0123456789", "literal-secret"} <= set(found)
