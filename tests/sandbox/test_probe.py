"""The probe finds that a sandbox holds, and finds out when one does not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from corral.sandbox import host
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.capabilities import Health
from corral.sandbox.contract import Launch, Profile
from corral.sandbox.probe import probe
from corral.sandbox.registry import select_backend


def test_the_default_holds() -> None:
    health = select_backend().probe()
    assert health.ok, health.detail
    assert health.backend == "bubblewrap"


@dataclass
class Pretender:
    """Claims to be a sandbox and is none."""

    name: str = "pretender"

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        return UnconfinedBackend().launch(argv, profile)

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
