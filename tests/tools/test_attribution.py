"""Whose a connection is, without a server: calls, connections, and who is told what."""

from __future__ import annotations

import asyncio

import pytest

from corral.errors import ToolServerError
from corral.sandbox.network.traffic import Attempted, Ended
from corral.tools.attribution import MOST, Attribution
from tests.sandbox.network.upstream import Log

WANTED = Attempted("a.test", 443, "CONNECT")


async def test_without_a_call_nobody_is_told() -> None:
    attribution = Attribution("ext")
    meter = await attribution.watch(WANTED)
    await meter.flows(1, 2)
    log = Log()
    async with attribution.call(log):
        await meter.flows(10, 20)
        await meter.ended(Ended(sent=11, received=22))
    assert [(one.reused, one.shared) for one in log.attempted] == [(True, False)]
    assert [(end.sent, end.received) for end in log.ended_] == [(10, 20)]


async def test_both_ways_at_once_are_told_once() -> None:
    attribution = Attribution("ext")
    meter = await attribution.watch(WANTED)
    log = Log()
    async with attribution.call(log):
        await asyncio.gather(meter.flows(1, 0), meter.flows(0, 1))
    assert len(log.attempted) == len(log.ended_) == 1
    assert log.ended_[0].is_open


async def test_a_call_makes_only_so_many() -> None:
    attribution = Attribution("ext")
    async with attribution.call(Log()):
        for _ in range(MOST):
            await attribution.watch(WANTED)
        with pytest.raises(ToolServerError, match="more than 1,000 connections"):
            await attribution.watch(WANTED)
    async with attribution.call(Log()):
        await attribution.watch(WANTED)
