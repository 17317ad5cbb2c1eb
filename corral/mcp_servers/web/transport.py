"""One request at a time, through the proxy and through nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from corral.mcp_servers.tool import Call, JsonObject, ToolFault
from corral.mcp_servers.web.addresses import Address
from corral.mcp_servers.web.decoding import ACCEPTED, Decoder
from corral.mcp_servers.web.texts import marked, one_line

if TYPE_CHECKING:
    import ssl

    import httpx2

T = TypeVar("T")

RETRIES = 2
LONGEST_WAIT = 10.0
"""Seconds that a site may ask to wait before a request is made again."""

_BUSY = (429, 503)
_LOOK = 0.05
_SILENCE = 20.0
_MAX_CHUNK = 1 << 16


class Limit(NamedTuple):
    """How much of a body is taken, and whether the beginning of a longer one is of use."""

    size: int
    partial: bool = False


class Head(NamedTuple):
    """The beginning of an answer: its status, headers with names in lower case, and its reason."""

    status: int
    headers: dict[str, str]
    reason: str = ""

    @property
    def kind(self) -> str:
        """The MIME type without parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def size(self) -> int | None:
        """How many bytes the body has, where that is said and it is not packed."""
        length = self.headers.get("content-length", "")
        packed = self.headers.get("content-encoding", "identity") != "identity"
        return None if packed or not length.isascii() or not length.isdigit() else int(length[:18])

    def told(self, address: Address) -> str:
        """The status in words. A reason of its own is the proxy's, or any words of the site's."""
        try:
            usual = HTTPStatus(self.status).phrase
        except ValueError:
            usual = ""
        wait = self.headers.get("retry-after", "")
        again = f" It asks to wait: {one_line(wait, 40)}." if wait else ""
        text = f"{address.host} answered {self.status} {usual}".strip() + f".{again}"
        reason = one_line(self.reason)
        return text if reason in ("", usual) else f"{text}\n{marked(reason, address.origin)}"


class Sink(NamedTuple):
    """Where a body goes: asked at its head whether it is wanted, then handed every piece."""

    begin: Callable[[Head], None]
    take: Callable[[bytes], None]


class Ask(NamedTuple):
    """A request that is not a plain GET: a search provider's."""

    headers: dict[str, str] = {}  # noqa: RUF012  # a tuple's default, never changed
    json: JsonObject | None = None


class Transport:
    """Requests for one call; at most one at a time, over connections that are kept meanwhile."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client

    async def get(
        self, address: Address, sink: Sink, limit: Limit, ask: Ask | None = None
    ) -> tuple[Head, bool]:
        """Ask for an address; the head of the answer, and whether its body was cut at the limit.

        A site that is busy is asked again where it does not say to wait for long. Raises
        ``ToolFault`` for all that goes wrong on the way.
        """
        import asyncio

        for attempt in range(RETRIES + 1):
            waits = attempt < RETRIES
            head, cut, wait = await self._once(address, sink, limit, ask or Ask(), waits)
            if wait is None:
                return head, cut
            await asyncio.sleep(wait)
        raise AssertionError("the last attempt does not wait")

    async def _once(
        self, address: Address, sink: Sink, limit: Limit, ask: Ask, waits: bool
    ) -> tuple[Head, bool, float | None]:
        import ssl

        import httpx2

        method = "GET" if ask.json is None else "POST"
        request = self._client.build_request(
            method, address.url, headers=ask.headers, json=ask.json
        )
        try:
            answer = await self._client.send(request, stream=True)
            try:
                head = Head(answer.status_code, _headers(answer), answer.reason_phrase)
                wait = _wait(head) if waits else None
                cut = False if wait is not None else await _body(answer, head, sink, limit)
                return head, cut, wait
            finally:
                await answer.aclose()
        except httpx2.TimeoutException as error:
            raise ToolFault(f"{address.host} did not answer for {_SILENCE:.0f} s.") from error
        except httpx2.ProxyError as error:
            raise ToolFault(
                f"The sandbox's proxy did not let {address.url} through: {error}"
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, ssl.SSLError) as error:
            why = str(error) or type(error).__name__
            raise ToolFault(f"{address.url} could not be fetched: {why}") from error


def run(
    call: Call, agent: str, seconds: float, work: Callable[[Transport], Coroutine[Any, Any, T]]
) -> T:
    """Do ``work`` with a transport, for at most ``seconds`` and no longer than the call is wanted.

    Raises ``ToolFault`` when there is no proxy to go through, and when the time is up.
    """
    import asyncio  # only a call needs it: a server should start fast

    return asyncio.run(_limited(call, seconds, _with_client(agent, work)))


async def _with_client(agent: str, work: Callable[[Transport], Coroutine[Any, Any, T]]) -> T:
    import httpx2

    headers = {"User-Agent": agent, "Accept-Encoding": ACCEPTED, "Accept": "*/*"}
    async with httpx2.AsyncClient(
        proxy=_proxy(),
        verify=_trust(),
        trust_env=False,
        headers=headers,
        timeout=httpx2.Timeout(_SILENCE),
    ) as client:
        client.cookies.jar.set_policy(_no_cookies())
        return await work(Transport(client))


async def _limited(call: Call, seconds: float, work: Coroutine[Any, Any, T]) -> T:
    import asyncio

    loop = asyncio.get_running_loop()
    task, end = loop.create_task(work), loop.time() + seconds
    while not task.done():
        await asyncio.wait({task}, timeout=_LOOK)
        if task.done() or not (call.cancelled.is_set() or loop.time() > end):
            continue
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        late = f"There was no complete answer within {seconds:g} s; ask with a longer timeout."
        raise ToolFault("Cancelled." if call.cancelled.is_set() else late)
    return task.result()


async def _body(answer: httpx2.Response, head: Head, sink: Sink, limit: Limit) -> bool:
    """Hand the body to the sink; whether it was cut. Raises ``ToolFault`` where it may not be."""
    sink.begin(head)
    if head.size is not None and head.size > limit.size and not limit.partial:
        raise ToolFault(_too_large(limit))
    decoder, room = Decoder(head.headers.get("content-encoding", "")), limit.size
    async for chunk in answer.aiter_raw(_MAX_CHUNK):
        for piece in decoder.feed(chunk):
            if len(piece) > room and not limit.partial:
                raise ToolFault(_too_large(limit))
            sink.take(piece[:room])
            room -= len(piece)
            if room < 0:
                return True
    return False


def _too_large(limit: Limit) -> str:
    return (
        f"The answer is longer than the {limit.size / 2**20:.4g} MB that are taken. "
        "The user can raise max_mb under [web] in their own configuration file."
    )


def _headers(answer: httpx2.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _wait(head: Head) -> float | None:
    """How long to wait before asking again, where that is short; ``None``: this is the answer."""
    if head.status not in _BUSY:
        return None
    said = head.headers.get("retry-after", "1").strip()
    seconds = float(said[:9]) if said.isascii() and said.isdigit() else LONGEST_WAIT + 1
    return seconds if seconds <= LONGEST_WAIT else None


def _proxy() -> str:
    proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("HTTP_PROXY")
    if not proxy:
        raise ToolFault(
            "Nothing was fetched: the web server reaches the network only through Corral's proxy, "
            "and there is none here. The user has to start it in a sandbox, and with an `allow` "
            "under [web] in their own configuration file."
        )
    return proxy


@cache
def _trust() -> ssl.SSLContext:
    """The authorities of the system, or those of the proxy where it reads what is encrypted."""
    import ssl

    return ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE"))


def _no_cookies() -> Any:
    from http.cookiejar import DefaultCookiePolicy

    return DefaultCookiePolicy(allowed_domains=[])
