"""The probe finds that a sandbox holds, and finds out when one does not."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox import host, trials
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.capabilities import DECLARED, Health
from corral.sandbox.contract import Launch, Limits, Profile, Sandbox, Snapshot
from corral.sandbox.probe import probe
from corral.sandbox.registry import select_backend


def test_the_default_holds() -> None:
    health = select_backend().probe()
    assert health.ok, health.detail
    assert health.backend == "bubblewrap"
    assert health.capabilities == DECLARED["bubblewrap"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["landlock", "gvisor"])
def test_the_others_hold_what_is_declared(name: str) -> None:
    try:
        select_backend(name).launch(("/bin/true",), Profile())
    except SandboxError as error:
        pytest.skip(error.message)
    health = select_backend(name).probe()
    assert health.ok, health.detail
    found, declared = health.capabilities, DECLARED[name]
    assert found is not None
    if name == "landlock" and os.geteuid() != 0:
        # Others of the same user come and go, and are counted as well.
        declared = replace(declared, limits=declared.limits - ({"processes"} - found.limits))
    assert found == declared


@dataclass
class Pretender:
    """Claims to be a sandbox and is none."""

    name: str = "pretender"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        return UnconfinedBackend().launch(argv, profile)

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        return await UnconfinedBackend().open(profile, snapshot)

    def probe(self) -> Health:
        return probe(self)


def test_no_isolation_is_found_out() -> None:
    health = Pretender().probe()
    assert not health.ok
    assert "reads a file of the host" in health.detail
    assert "connects to a service of the host" in health.detail
    assert health.hint


def test_a_program_that_does_not_start_is_reported_with_its_words(tmp_path: Path) -> None:
    health = BubblewrapBackend(host.Bubblewrap(tmp_path / "gone")).probe()
    assert not health.ok
    assert "cannot start" in health.detail
    assert health.hint


@dataclass
class Careless:
    """A real sandbox, but for one limit of the profile that is not passed on."""

    without: Mapping[str, int]
    name: str = "careless"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        limits = replace(profile.limits, **self.without)
        return BubblewrapBackend().launch(argv, replace(profile, limits=limits))

    async def open(self, profile: Profile, snapshot: Snapshot | None = None) -> Sandbox:
        return await BubblewrapBackend().open(profile, snapshot)

    def probe(self) -> Health:
        return probe(self)


WAITED_OUT = [pytest.param(limit, marks=pytest.mark.slow) for limit in ("memory", "written")]
"""These are given up only when the probe's patience ends, after 20 seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("limit", [*WAITED_OUT, "processes", "open_files", "file_size"])
def test_a_limit_that_is_not_held_is_not_claimed(tmp_path: Path, limit: str) -> None:
    generous = getattr(Limits(), limit)
    held = trials.enforced(Careless({limit: generous}), tmp_path)
    assert DECLARED["bubblewrap"].limits - held == {limit, "output"}
