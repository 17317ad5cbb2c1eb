"""What every test gets: a home of its own, no network but loopback, and small helpers."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from corral.runtime.config import Settings, load_settings
from corral.runtime.migrate import open_database

# How long an example takes says how busy the machine is, and nothing about Corral.
hypothesis_settings.register_profile(
    "all", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.register_profile(
    "everyday", hypothesis_settings.get_profile("all"), max_examples=25
)


def pytest_configure(config: pytest.Config) -> None:
    """With the slow tests, as in CI, a property is tried on as many examples as is usual."""
    is_everyday = config.option.markexpr == "not slow"
    hypothesis_settings.load_profile("everyday" if is_everyday else "all")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's configuration, keys or state reaches a test, nor a test them."""
    for name in list(os.environ):
        if name.startswith("CORRAL_") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    monkeypatch.setenv("CORRAL_HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "organisation"))
    # Tests run beside each other: threads that wait for one another take many times as long.
    monkeypatch.setenv("CORRAL_LOCAL__THREADS", "1")
    return home


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database. To migrate one takes as long as most tests take altogether."""
    file = tmp_path_factory.mktemp("migrated") / "corral.db"

    async def make() -> None:
        await (await open_database(f"sqlite:///{file}")).aclose()

    asyncio.run(make())
    return file


@pytest.fixture
def home(own_home: Path, migrated: Path) -> Path:
    """That home, used before: its database is there."""
    own_home.mkdir(mode=0o700)
    shutil.copy(migrated, own_home)
    return own_home


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections leave this machine in no test."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise AssertionError(f"a test tried to connect to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def settings(home: Path, workspace: Path) -> Settings:
    """Settings with such a home and that workspace."""
    return load_settings({"home": home, "workspace": workspace})
