"""Sending a run's spans to an OpenTelemetry collector, over OTLP/HTTP, by OpenTelemetry's own SDK.

The SDK takes a fifth of a second to import, so it is imported when something is really sent. Its
usual variables count too: OTEL_EXPORTER_OTLP_HEADERS for keys, OTEL_RESOURCE_ATTRIBUTES and so on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from corral.errors import ConfigError, RunError
from corral.runtime.export.spans import Span, spans_of, trace_id
from corral.runtime.views import Approval, EffectView, RunView
from corral.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import ReadableSpan, Tracer
    from opentelemetry.sdk.trace.export import SpanExporter

    from corral.runtime.config import Settings

DEFAULT_ENDPOINT = "http://localhost:4318"
"""Where a collector on this machine listens, by OpenTelemetry's specification."""

_TRACES = "/v1/traces"

_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

_OFF = "OTEL_SDK_DISABLED"
_AT_ONCE = 256
_AT_ONCE_WITH_CONTENT = 32  # collectors take 20 MiB a request
_LOGGER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@dataclass(frozen=True)
class OtlpTarget:
    """Where spans go: the URL that takes traces, whether with content, seconds for one request."""

    endpoint: str
    content: bool = False
    timeout: float = 10.0

    @classmethod
    def of(
        cls,
        settings: Settings,
        url: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> OtlpTarget:
        """The target that ``url`` names, else the settings, else OpenTelemetry's own variables.

        Raises ``ConfigError`` for what is no URL of a collector.
        """
        variables = os.environ if environ is None else environ
        found = url or settings.otlp_endpoint
        for name in _VARIABLES:
            found = found or variables.get(name)
        return cls(traces_url(found or DEFAULT_ENDPOINT), settings.otlp_content)

    @classmethod
    def live(cls, settings: Settings) -> OtlpTarget | None:
        """Where runs are sent while they go on; ``None`` when the settings name no place.

        Raises as ``of``.
        """
        if settings.otlp_endpoint is None or _is_off():
            return None
        return cls.of(settings)


def _is_off() -> bool:
    return os.environ.get(_OFF, "").strip().lower() == "true"


def traces_url(url: str) -> str:
    """The URL that takes traces: a collector's, with ``/v1/traces`` after it if it is not there.

    Raises ``ConfigError`` for anything but http and https.
    """
    parts = _parts(url.strip())
    if parts is None:
        raise ConfigError(
            f"{url!r} is no URL of an OpenTelemetry collector.",
            hint=f"Write it as {DEFAULT_ENDPOINT}: spans are sent over OTLP/HTTP, not over gRPC.",
        )
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(_TRACES) else path + _TRACES).geturl()


def _parts(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


async def send_otlp(
    run: RunView,
    effects: Sequence[EffectView],
    approvals: Sequence[Approval],
    target: OtlpTarget,
) -> int:
    """Send a run as one trace, and return how many spans were sent.

    Sent again, it is the same trace with the same spans. Raises ``RunError`` when nothing listens
    at the target or when it refuses what is sent.
    """
    spans = list(spans_of(run, effects, approvals, content=target.content))

    def work() -> None:
        with Sender(target, run.run) as sender:
            sender.send(spans)

    await asyncio.to_thread(work)
    return len(spans)


class Sender:
    """Sends spans of one run. Blocks while it sends, so it is used in a thread of its own.

    ``send`` raises ``RunError`` that says where it was sent to and what went wrong.
    """

    def __init__(self, target: OtlpTarget, run: str) -> None:
        self._target = target
        self._run = run
        self._opened: tuple[OTLPSpanExporter, _Factory] | None = None

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        if self._opened is not None:
            exporter: SpanExporter = self._opened[0]
            exporter.shutdown()
            self._opened = None

    def send(self, spans: Iterable[Span]) -> None:
        """Send spans that have ended."""
        exporter, factory = self._open()
        at_once = _AT_ONCE_WITH_CONTENT if self._target.content else _AT_ONCE
        waiting = iter(spans)
        while some := [factory.make(span) for span in islice(waiting, at_once)]:
            with _told() as reasons:
                done = exporter.export(some)
            if done.name != "SUCCESS":
                raise _refused(self._target, reasons)

    def _open(self) -> tuple[OTLPSpanExporter, _Factory]:
        if self._opened is None:
            if _is_off():
                raise ConfigError(
                    f"{_OFF} turns OpenTelemetry off.", hint="Unset it to send spans."
                )
            _require_listener(self._target)
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

            exporter = OTLPSpanExporter(self._target.endpoint, timeout=self._target.timeout)
            self._opened = (exporter, _Factory(self._run))
        return self._opened


class _Factory:
    """Makes OpenTelemetry's spans of ours, with our ids and our times."""

    def __init__(self, run: str) -> None:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider, sampling

        self._trace = trace_id(run)
        self._next = 0
        resource = Resource.create({"service.name": _service_name(), "service.version": VERSION})
        provider = TracerProvider(
            sampler=sampling.ALWAYS_ON,
            resource=resource,
            shutdown_on_exit=False,
            id_generator=self._ids(),
        )
        self._tracer: Tracer = provider.get_tracer("corral", VERSION)  # type: ignore[assignment]  # the SDK's own

    def _ids(self) -> Any:
        from opentelemetry.sdk.trace.id_generator import IdGenerator

        factory = self

        class Known(IdGenerator):
            def generate_trace_id(self) -> int:
                return factory._trace

            def generate_span_id(self) -> int:
                return factory._next

        return Known()

    def make(self, span: Span) -> ReadableSpan:
        from opentelemetry import trace

        def context(of_trace: int, of_span: int) -> trace.SpanContext:
            sampled = trace.TraceFlags(trace.TraceFlags.SAMPLED)
            return trace.SpanContext(of_trace, of_span, is_remote=False, trace_flags=sampled)

        above = trace.INVALID_SPAN
        if span.parent is not None:
            above = trace.NonRecordingSpan(context(self._trace, span.parent))
        self._next = span.id
        made: Any = self._tracer.start_span(
            span.name,
            context=trace.set_span_in_context(above),
            kind=trace.SpanKind.CLIENT if span.kind == "client" else trace.SpanKind.INTERNAL,
            attributes=dict(span.attributes),
            links=[trace.Link(context(*span.link))] if span.link else (),
            start_time=span.start,
        )
        if span.error is not None:
            made.set_status(trace.Status(trace.StatusCode.ERROR, span.error or None))
        made.end(span.end)
        ended: ReadableSpan = made
        return ended


def _service_name() -> str:
    return os.environ.get("OTEL_SERVICE_NAME") or "corral"


def _require_listener(target: OtlpTarget) -> None:
    """Fail at once where the exporter would try again and again. A proxy is asked by it alone."""
    parts = urlsplit(target.endpoint)
    host, port = str(parts.hostname), parts.port or (443 if parts.scheme == "https" else 80)
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    try:
        socket.create_connection((host, port), target.timeout).close()
    except OSError as error:
        raise _unreachable(target, error.strerror or str(error)) from None


def _unreachable(target: OtlpTarget, why: str) -> RunError:
    return RunError(
        f"No OpenTelemetry collector answers at {_shown(target)}: {why}.",
        hint="Start one there, or name another: `--endpoint URL`, the setting otlp_endpoint, or "
        "OTEL_EXPORTER_OTLP_ENDPOINT. It must take OTLP over HTTP.",
    )


def _refused(target: OtlpTarget, reasons: Sequence[str]) -> RunError:
    why = reasons[-1].rstrip(".") if reasons else "it gave no reason"
    return RunError(
        f"The OpenTelemetry collector at {_shown(target)} did not take the spans: {why}.",
        hint="Look at its log. A key that it asks for goes into OTEL_EXPORTER_OTLP_HEADERS.",
    )


def _shown(target: OtlpTarget) -> str:
    """The endpoint without a password that it may hold."""
    parts = urlsplit(target.endpoint)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


@contextmanager
def _told() -> Iterator[list[str]]:
    """What the exporter logs in this thread meanwhile: it returns no reason."""
    reasons: list[str] = []
    mine = threading.get_ident()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == mine:
                reasons.append(record.getMessage())

    logger, listener = logging.getLogger(_LOGGER), Listener()
    logger.addHandler(listener)
    try:
        yield reasons
    finally:
        logger.removeHandler(listener)
