"""How often a server that dies is started again."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from corral.tools.restarts import Restarts


def test_pauses_double_and_old_deaths_are_forgiven(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("corral.tools.restarts.time", SimpleNamespace(monotonic=lambda: now))
    restarts = Restarts()
    pauses = []
    for _ in range(5):
        pauses.append(restarts.verdict().pause)
        assert not restarts.verdict().refused
        restarts.died()
    assert pauses == [0.0, 0.0, 0.25, 0.5, 1.0]
    assert restarts.verdict().refused
    now += 61
    assert restarts.verdict().pause == 0.0
    assert not restarts.verdict().refused
