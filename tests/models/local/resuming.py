"""Goes on with a conversation in a process of its own; see ``test_states_resumed``."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from corral.runtime.models.contract import FinalChunk, ModelRequest, Sampling
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.settings import LocalSettings
from tests.models.conftest import ONE_THREAD

SYSTEM = "You know these facts. " + " ".join(f"Item {n} costs {n * 7} coins." for n in range(20))


async def talk(states: Path, conversation: str, flash: str, questions: list[str]) -> None:
    """Ask questions one after the other, and print a line of JSON about each."""
    settings = LocalSettings.model_validate({**ONE_THREAD.model_dump(), "flash_attention": flash})
    options = LocalOptions(context_window=1024, states=states, settings=settings)
    model = LocalModel(options=options)
    await model.warm()
    messages: list[BaseMessage] = [SystemMessage(SYSTEM)]
    for question in questions:
        messages.append(HumanMessage(question))
        request = ModelRequest(
            messages, sampling=Sampling(max_tokens=4, temperature=0), conversation=conversation
        )
        async for chunk in model.stream(request):
            if isinstance(chunk, FinalChunk):
                final = chunk
        messages.append(AIMessage(str(final.message.content)))
        said = {
            "text": final.message.content,
            "input": final.usage.input_tokens,
            "cached": final.usage.cached_tokens,
        }
        sys.stdout.write(json.dumps(said) + "\n")
    await model.aclose()


if __name__ == "__main__":
    asyncio.run(talk(Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]))
