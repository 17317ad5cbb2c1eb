"""Hosted models: OpenAI, Anthropic, and what speaks like OpenAI.

A thin layer over langchain's chat models, which convert messages and speak the protocols. This
module decides what the runtime must rely on: a plain ``AIMessage`` with strictly parsed tool
calls, told-apart stop reasons, counted tokens, attempts that are told and bounded, and errors
that say what to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from corral.errors import CorralError, ModelError
from corral.jsontypes import JsonObject
from corral.policies.prices import FREE, Price
from corral.runtime.budgets.prices import listed_price
from corral.runtime.models.combined.usage import total
from corral.runtime.models.contract import Chunk, ModelRequest, NoticeChunk, Sampling
from corral.runtime.models.hosted.answer import BrokenOff, Draft, Expected
from corral.runtime.models.hosted.attempt import Attempt, seconds
from corral.runtime.models.hosted.dialects.call import Target
from corral.runtime.models.hosted.dialects.choose import api_of, call_for
from corral.runtime.models.hosted.dialects.media import shows_results
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.errors import (
    explain,
    is_too_strict,
    is_without_summaries,
    reason_of,
    status_of,
)
from corral.runtime.models.hosted.known_models import DEFAULT_WINDOWS, window_of
from corral.runtime.models.hosted.retrying import Course, DeadlineOver, headers_of, kind_of
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.hosted.traffic.headers import wait_asked_for
from corral.runtime.models.hosted.traffic.lanes import PROCESS, Traffic

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel


@dataclass(frozen=True)
class HostedOptions:
    """How a hosted model is used.

    ``sampling`` holds where a request says nothing. ``context_window`` and ``price`` override
    what is known of the model. ``traffic`` is who shares the limits with it.
    """

    sampling: Sampling = field(default_factory=Sampling)
    context_window: int | None = None
    price: Price | None = None
    settings: HostedSettings = field(default_factory=HostedSettings)
    traffic: Traffic = PROCESS


@dataclass(frozen=True)
class _Link:
    chat: BaseChatModel
    close: Callable[[], Awaitable[None]]


class HostedModel:
    """A ``ChatModel`` over a langchain chat model.

    The SDKs are imported, and the client is made, at the first request.
    """

    def __init__(
        self,
        open_link: Callable[[], Awaitable[_Link]],
        name: str,
        options: HostedOptions,
        endpoint: Endpoint | None,
    ) -> None:
        """Not for callers: use ``from_endpoint`` or ``from_langchain``."""
        self._open_link = open_link
        self._name = name
        self._options = options
        self._endpoint = endpoint
        self._lane = options.traffic.lane(endpoint, options.settings) if endpoint else None
        self._link: _Link | None = None
        self._opening = asyncio.Lock()
        self._summaries = True
        self._strict = True

    @classmethod
    def from_endpoint(
        cls, endpoint: Endpoint, *, name: str, options: HostedOptions | None = None
    ) -> HostedModel:
        """The model at ``endpoint``. Nothing is imported or sent yet."""
        options = options or HostedOptions()
        hear = options.traffic.lane(endpoint, options.settings).hear

        def load() -> _Link:
            # Imported here: it brings both SDKs along, more than a second of start-up.
            from corral.runtime.models.hosted.clients import connect

            made = connect(endpoint, timeout=options.settings.timeout, hear=hear)
            return _Link(made.chat, made.close)

        return cls(lambda: asyncio.to_thread(load), name, options, endpoint)

    @classmethod
    def from_langchain(
        cls, chat_model: BaseChatModel, name: str, *, options: HostedOptions | None = None
    ) -> HostedModel:
        """Any langchain chat model. It stays the caller's: ``aclose`` does not close it.

        Its own retries and timeouts hold, not those of ``options``.
        """

        async def close() -> None:
            return None

        async def ready() -> _Link:
            return _Link(chat_model, close)

        return cls(ready, name, options or HostedOptions(), None)

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        return self._name

    @property
    def context_window(self) -> int:
        """How many tokens a request and its answer may have together, as far as is known."""
        if self._options.context_window:
            return self._options.context_window
        if self._endpoint is None:
            return DEFAULT_WINDOWS["openai"]
        return window_of(self._endpoint.provider, self._endpoint.model)

    @property
    def takes_images(self) -> bool:
        """See ``Sighted.takes_images``."""
        endpoint = self._endpoint
        return endpoint is not None and shows_results(api_of(endpoint), endpoint.model)

    @property
    def price(self) -> Price | None:
        """What it costs: as given, or as listed for where it runs; ``None``: nobody knows."""
        if self._options.price is not None or self._endpoint is None:
            return self._options.price
        if self._endpoint.official:
            return listed_price(self._endpoint.model, provider=self._endpoint.provider)
        return listed_price(self._endpoint.model, url=self._endpoint.base_url)

    @property
    def identity(self) -> JsonObject | None:
        """See ``Identified.identity``; of a langchain model nobody knows it."""
        if self._endpoint is None:
            return None
        endpoint, sampling = self._endpoint, self._options.sampling
        return {
            "provider": endpoint.provider,
            "model": endpoint.model,
            "url": endpoint.base_url,
            "sampling": sampling.to_json(),
        }

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer: the text as it comes, then the whole message with its usage.

        What may help is tried again, and told, as long as no text was shown. A tool call whose
        arguments are not a JSON object has ``args`` that ``invalid_args`` recognises. Raises
        ``ModelError``.
        """
        course = Course(self._options.settings.max_retries, request.deadline)
        chat = (await self._opened()).chat
        while True:
            expected = self._expected(request, chat)
            attempt = Attempt(self._name, chat, expected, Draft(expected), course, self._lane)
            try:
                # Closing in this order ends the HTTP request at once when the caller stops early.
                async with aclosing(attempt.chunks()) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except Exception as error:  # noqa: BLE001  the border to the SDKs, which raise anything
                pause = self._pause(error, attempt)
                if pause is None:
                    raise self._explained(error, attempt) from self._cause(error)
                if attempt.draft.begun:
                    course.used = total([course.used, attempt.draft.usage()])
                told = f"{self._name}: {reason_of(error)}, asking again in {seconds(pause)}."
            yield NoticeChunk(told)
            await asyncio.sleep(pause)

    def check_complete(self, turns: int) -> None:
        """Nothing to check: a hosted model has no script."""

    async def aclose(self) -> None:
        """Close the connections. A later request opens them again."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _opened(self) -> _Link:
        async with self._opening:
            if self._link is None:
                self._link = await self._open_link()
            return self._link

    def _expected(self, request: ModelRequest, chat: BaseChatModel) -> Expected:
        target = Target(
            api=api_of(self._endpoint),
            model=self._endpoint.model if self._endpoint else "",
            official=self._endpoint is not None and self._endpoint.official,
            profile=dict(chat.profile or {}),
            prompt_cache=self._options.settings.prompt_cache,
            strict=self._strict,
            summaries=self._summaries,
        )
        call = call_for(request, self._options.sampling, target)
        ends = self._endpoint is not None
        return Expected(request, target, call, self.price or FREE, ends)

    def _pause(self, error: Exception, attempt: Attempt) -> float | None:
        """Seconds until the call is made again, ``None`` if it is not; tells the lane of it."""
        lane = self._lane
        if lane is None or (isinstance(error, CorralError) and not isinstance(error, BrokenOff)):
            return None
        if self._asks_for_less(error, attempt.expected.target):
            return 0.0
        kind = kind_of(error)
        # Who asks for no wait gets the usual one, or all attempts would be made in one moment.
        asked = wait_asked_for(headers_of(error), datetime.now(UTC)) or None
        if kind == "limit" and asked:
            lane.close_for(asked)
        elif kind in ("trouble", "broken"):
            lane.failed()
        elif status_of(error) is not None:
            lane.succeeded()
        if attempt.draft.has_text or lane.rest() is not None:
            return None
        return attempt.course.pause_before(kind, asked)

    def _asks_for_less(self, error: Exception, target: Target) -> bool:
        """Whether the request failed for something that it can do without, and now does."""
        if target.summaries and is_without_summaries(error):
            self._summaries = False
            return True
        if target.strict and target.official and is_too_strict(error):
            self._strict = False
            return True
        return False

    def _explained(self, error: Exception, attempt: Attempt) -> CorralError:
        """The error to raise, with what was tried."""
        if isinstance(error, CorralError) and not isinstance(error, BrokenOff):
            return error
        if isinstance(error, DeadlineOver):
            problem = ModelError(
                f"{self._name} has not answered within its time.",
                hint="Give it more time, or use a faster model.",
            )
        elif isinstance(error, BrokenOff):
            problem = ModelError(error.message, hint=error.hint, kind=error.kind)
        else:
            problem = explain(error, self._name, self._endpoint)
        if attempt.draft.has_text:
            problem.hint += " It was not asked again by itself: a part was shown already."
        elif attempt.course.retries:
            problem.hint += f" It was asked {attempt.course.retries + 1} times."
        return problem

    def _cause(self, error: Exception) -> Exception | None:
        """The cause to show in a traceback, unless the server's words repeat the key."""
        key = self._endpoint.key if self._endpoint else ""
        own = isinstance(error, CorralError) or (key and key in str(error))
        return None if own else error
