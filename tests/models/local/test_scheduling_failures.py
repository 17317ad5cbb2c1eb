"""What goes wrong in the engine, or takes long, is not for those who come next."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from corral.errors import ModelError
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.scheduling.placing import Placing
from tests.models.conftest import ONE_THREAD, answer, ask
from tests.models.local.tiny import write_sliding_window


def opened(folder: Path, states: Path | None = None) -> LocalModel:
    path = write_sliding_window(folder / "tiny.gguf")
    return LocalModel(
        path, options=LocalOptions(context_window=512, settings=ONE_THREAD, states=states)
    )


async def test_saving_a_conversation_does_not_hold_up_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saving, asked = threading.Event(), threading.Event()
    in_time: list[bool] = []
    save_state = Context.save_state

    def slow(context: Context, sequence: int) -> bytearray:
        saving.set()
        in_time.append(asked.wait(10))
        return save_state(context, sequence)

    model = opened(tmp_path, states=tmp_path / "states")
    await answer(model, ask("Hello " * 40, max_tokens=1, conversation="thread"))
    monkeypatch.setattr(Context, "save_state", slow)
    await asyncio.to_thread(saving.wait)
    next_one = asyncio.create_task(answer(model, ask("Hi", max_tokens=1)))
    for _ in range(5):  # enough to put the request into the line
        await asyncio.sleep(0)
    asked.set()
    await next_one
    assert in_time[0]
    await model.aclose()


async def test_a_broken_round_fails_those_in_it_and_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = opened(tmp_path)
    first = await answer(model, ask("Hello", max_tokens=4))

    def broken(*_: object) -> bool:
        raise OSError("the floor is wet")

    with monkeypatch.context() as patch:
        patch.setattr(Placing, "settle", broken)
        with pytest.raises(ModelError, match="the floor is wet"):
            await answer(model, ask("Hello", max_tokens=4))
    again = await answer(model, ask("Hello", max_tokens=4))
    assert again.pieces == first.pieces
    await model.aclose()


async def test_what_cannot_be_saved_keeps_nothing_from_being_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> bytearray:
        raise MemoryError

    model = opened(tmp_path, states=tmp_path / "states")
    await answer(model, ask("Hello " * 40, max_tokens=1, conversation="thread"))
    monkeypatch.setattr(Context, "save_state", broken)
    freed: list[Context] = []
    close = Context.close

    def closed(context: Context) -> None:
        freed.append(context)
        close(context)

    monkeypatch.setattr(Context, "close", closed)
    await model.aclose()
    assert len(freed) == 1
