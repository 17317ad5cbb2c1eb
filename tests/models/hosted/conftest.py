"""No request of these tests leaves for anywhere but their own server."""

from __future__ import annotations

import pytest

from tests.models.wire.hosted import quiet


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet(monkeypatch)
