"""One client of the proxy: its requests are read strictly, judged, and written anew.

Nothing is passed on as it came: what two programs could read in different ways (request
smuggling) does not survive. Each request gets a connection of its own to a checked address, and
each connection is told of before it is opened. Source: RFC 9112.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import h11

from corral.sandbox.network.headers import Mask, to_sandbox, to_service, wants_websocket
from corral.sandbox.network.judge import (
    RefusedError,
    Tunnel,
    Wanted,
    judge,
    rules_for,
    wanted_of,
)
from corral.sandbox.network.rules import NetworkRule
from corral.sandbox.network.streams import Stream, TlsStream
from corral.sandbox.network.tls import Authority
from corral.sandbox.network.traffic import Record
from corral.sandbox.network.ways import MiB, TooMuchError, Ways, splice

_LINGER, _MOST_LINGERING = 1.0, 64
_TLS_HANDSHAKE = 0x16  # the first byte of a client's first record


class Peer:
    """One side of HTTP/1.1: events out of a stream, and events onto it."""

    def __init__(self, role: type[h11.CLIENT] | type[h11.SERVER], stream: Stream, head: int):
        self.http = h11.Connection(role, max_incomplete_event_size=head)
        self.stream = stream

    async def next(self, seconds: float) -> h11.Event:
        """The next event. Raises ``OSError`` and ``h11.RemoteProtocolError``."""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(await self.stream.read(seconds))
            elif isinstance(event, h11.Event):
                return event
            else:
                raise OSError("the connection was closed in the middle")

    async def send(self, event: h11.Event) -> int:
        """Send an event; how many bytes that were."""
        data = self.http.send(event) or b""
        if data:
            await self.stream.write(data)
        return len(data)


class Client:
    """A client, on the proxy's own port or inside of a tunnel that the proxy reads."""

    def __init__(
        self,
        stream: Stream,
        ways: Ways,
        authority: Authority | None,
        tunnel: Tunnel | None = None,
    ) -> None:
        self._ways = ways
        self._authority = authority
        self._tunnel = tunnel
        self._peer = Peer(h11.SERVER, stream, ways.bounds.head)

    async def serve(self, early: bytes = b"") -> None:
        """Answer requests until the client has no more; ``early`` was read already."""
        try:
            if early:
                self._peer.http.receive_data(early)
            while await self._serve_one():
                self._peer.http.start_next_cycle()
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint or 400
            await self._refuse(RefusedError(status, f"The request is not understood: {error}."))
        except (OSError, h11.LocalProtocolError):
            return  # it went away, or took too long

    async def _serve_one(self) -> bool:
        """Answer one request; whether there may be another."""
        async with asyncio.timeout(self._ways.bounds.head_seconds):
            request = await self._peer.next(self._ways.bounds.head_seconds)
        if not isinstance(request, h11.Request):
            return False
        try:
            wanted = wanted_of(request, self._tunnel)
            rules = await self._let_through(request, wanted)
            if wanted.method == "CONNECT":
                await self._connect(wanted, rules)
                return False
            await _Exchange(self._peer, self._ways, rules[0], wanted).carry_out(request)
        except RefusedError as refusal:
            await self._refuse(refusal)
            return False
        http = self._peer.http
        return http.our_state is h11.DONE and http.their_state is h11.DONE

    async def _let_through(self, request: h11.Request, wanted: Wanted) -> Sequence[NetworkRule]:
        """The rules that let a request through. Raises ``RefusedError``, which is recorded."""
        try:
            if wanted.method == "CONNECT":
                return rules_for(self._ways.network, wanted, self._ways.setting)
            return [self._judged(request, wanted)]
        except RefusedError as refusal:
            await self._ways.refused(wanted, refusal)
            raise

    def _judged(self, request: h11.Request, wanted: Wanted) -> NetworkRule:
        rule = judge(self._ways.network, wanted, self._ways.setting)
        if rule.methods and wants_websocket(request):
            raise RefusedError(
                403,
                f"A WebSocket to {wanted.host} carries more than {', '.join(rule.methods)}. "
                f"To allow it, name no methods for the host in {self._ways.setting}.",
            )
        return rule

    async def _connect(self, wanted: Wanted, rules: Sequence[NetworkRule]) -> None:
        if any(rule.inspects for rule in rules):
            await self._read_inside(wanted)
            return
        is_private = any(rule.private for rule in rules)
        async with self._ways.opened(wanted, private=is_private) as (service, record):
            early = await self._established()
            if early:
                await record.sends(len(early))
                await service.write(early)
            with suppress(OSError):
                await splice(self._peer.stream, service, record, self._ways.bounds)

    async def _established(self) -> bytes:
        """Tell the client that its tunnel stands; what it has sent ahead."""
        seconds = self._ways.bounds.head_seconds
        while not isinstance(await self._peer.next(seconds), h11.EndOfMessage):
            pass
        await self._peer.send(h11.Response(status_code=200, headers=[], reason=b"OK"))
        return self._peer.http.trailing_data[0]

    async def _read_inside(self, wanted: Wanted) -> None:
        """Be the service for a tunnel whose requests have to be judged one by one."""
        seconds = self._ways.bounds.head_seconds
        early = await self._established() or await self._peer.stream.read(seconds)
        if not early:
            return
        stream, scheme = self._peer.stream, "http"
        if early[0] == _TLS_HANDSHAKE and self._authority is not None:
            scheme = "https"
            stream = TlsStream(stream, self._authority.context(wanted.host))
            await stream.handshake(early, seconds)
            early = b""
        tunnel = Tunnel(wanted.host, wanted.port, scheme)
        await Client(stream, self._ways, self._authority, tunnel).serve(early)
        with suppress(OSError):
            await stream.finish()

    async def _refuse(self, refusal: RefusedError) -> None:
        """Answer in the service's place. The reason also stands where clients show it."""
        if self._peer.http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        text = str(refusal).encode("ascii", "replace")
        response = h11.Response(
            status_code=refusal.status,
            headers=[
                (b"content-type", b"text/plain"),
                (b"content-length", str(len(text) + 1).encode()),
                (b"connection", b"close"),
            ],
            reason=bytes(byte for byte in text if 0x20 <= byte < 0x7F),
        )
        with suppress(OSError, h11.LocalProtocolError):
            for event in (response, h11.Data(data=text + b"\n"), h11.EndOfMessage()):
                await self._peer.send(event)
            await self._linger()

    async def _linger(self) -> None:
        """Take what the client still sends: who is cut off in the middle reads no answer."""
        await self._peer.stream.finish()
        for _ in range(_MOST_LINGERING):
            if not await self._peer.stream.read(_LINGER):
                return


class _Exchange:
    """One request and its answer, over a connection of its own."""

    def __init__(self, client: Peer, ways: Ways, rule: NetworkRule, wanted: Wanted) -> None:
        self._client = client
        self._ways = ways
        self._rule = rule
        self._wanted = wanted
        self._mask = Mask(rule.inject.values())
        self._passed = 0

    async def carry_out(self, request: h11.Request) -> None:
        """Raises ``RefusedError`` as long as nothing was answered, and ``OSError`` afterwards."""
        is_private, is_tls = self._rule.private, self._wanted.scheme == "https"
        opened = self._ways.opened(self._wanted, private=is_private, tls=is_tls)
        async with opened as (stream, record):
            service = Peer(h11.CLIENT, stream, self._ways.bounds.head)
            try:
                await self._ask(request, service, record)
            except (OSError, h11.RemoteProtocolError) as error:
                if self._client.http.our_state is not h11.SEND_RESPONSE:
                    raise OSError(str(error)) from None
                raise _unanswered(self._wanted.host, error) from None

    async def _ask(self, request: h11.Request, service: Peer, record: Record) -> None:
        head = h11.Request(
            method=request.method,
            target=self._wanted.target,
            headers=to_service(request, self._wanted, self._rule),
        )
        await record.sends(await service.send(head))
        upload = asyncio.create_task(self._upload(service, record))
        answer = asyncio.create_task(self._answer(service, record))
        try:
            await asyncio.wait({upload, answer}, return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                upload.result()  # the client has gone away, or there is only an answer to wait for
            await answer
        finally:
            for task in (upload, answer):
                task.cancel()
            await asyncio.gather(upload, answer, return_exceptions=True)

    async def _upload(self, service: Peer, record: Record) -> None:
        """Pass the request's body on. An answer may come before its end."""
        bounds, sent = self._ways.bounds, 0
        if self._client.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            await self._client.send(go_on)
        while True:
            event = await self._client.next(bounds.idle)
            sent += len(event.data) if isinstance(event, h11.Data) else 0
            _check(sent, bounds.most)
            if isinstance(event, h11.EndOfMessage):
                event = h11.EndOfMessage()  # without trailers, which nobody has judged
            try:
                await record.sends(await service.send(event))
            except OSError:
                return  # it wants no more of it, and its answer may say why
            if isinstance(event, h11.EndOfMessage):
                return

    async def _answer(self, service: Peer, record: Record) -> None:
        bounds = self._ways.bounds
        seconds = bounds.answer
        while True:
            event = await service.next(seconds)
            match event:
                case h11.InformationalResponse(status_code=101):
                    await self._switch(event, service, record)
                    return
                case h11.Response():
                    seconds = bounds.idle
                    record.answered(event.status_code)
                    await self._client.send(_answer_of(event, self._mask))
                case h11.Data():
                    await self._pass_back(self._mask.body(bytes(event.data)), record)
                case h11.EndOfMessage():
                    await self._pass_back(self._mask.rest(), record)
                    await self._client.send(h11.EndOfMessage())
                    return
                case h11.ConnectionClosed():
                    raise OSError("the service closed the connection")

    async def _pass_back(self, data: bytes, record: Record) -> None:
        if data:
            self._passed += len(data)
            _check(self._passed, self._ways.bounds.most)
            await record.receives(len(data))
            await self._client.send(h11.Data(data=data))

    async def _switch(
        self, event: h11.InformationalResponse, service: Peer, record: Record
    ) -> None:
        """Go on as a WebSocket, which nobody reads."""
        headers = to_sandbox(event, self._mask)
        headers += [(b"upgrade", b"websocket"), (b"connection", b"upgrade")]
        record.answered(101)
        switch = h11.InformationalResponse(status_code=101, headers=headers, reason=event.reason)
        await self._client.send(switch)
        for source, target in ((self._client, service), (service, self._client)):
            if early := source.http.trailing_data[0]:
                await target.stream.write(early)
        with suppress(OSError):
            await splice(self._client.stream, service.stream, record, self._ways.bounds)


def _unanswered(host: str, error: Exception) -> RefusedError:
    if isinstance(error, TimeoutError):
        return RefusedError(504, f"{host} did not answer in time.")
    return RefusedError(502, f"{host} broke the connection or its protocol.")


def _answer_of(response: h11.Response, mask: Mask) -> h11.Response:
    return h11.Response(
        status_code=response.status_code,
        headers=to_sandbox(response, mask),
        reason=mask.text(bytes(response.reason)),
    )


def _check(passed: int, most: int) -> None:
    if passed > most:
        raise TooMuchError(f"more than {most // MiB} MiB went over one connection")
