"""Owns the spans of a request: one for the HTTP exchange, one for each step of ours before the engine, and those of the
engine, drawn from the times it tells when it is through. Off unless OpenTelemetry's own variables name a receiver."""

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context as contexts
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (
    NoOpTracer,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

import loraplex
from loraplex.platform.engines.outcome import Outcome

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# The last spans are sent within this time at the end of the process, or not at all.
FLUSH_MILLISECONDS = 3000
_NANOS = 1_000_000_000
Attributes = Mapping[str, str | int | float | bool]


class Tracing:
    """Makes spans. Without a provider it makes none, and costs next to nothing."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider
        self._tracer: Tracer = NoOpTracer() if provider is None else provider.get_tracer("loraplex")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def from_environment(cls) -> "Tracing":
        """What `OTEL_EXPORTER_OTLP_ENDPOINT` and its siblings say; sampling, headers and the service's name are read
        from the environment by the library itself."""
        if not any(os.environ.get(name) for name in ENDPOINTS):
            return cls()
        named = Resource.create({"service.version": loraplex.__version__})
        if named.attributes.get("service.name", "").startswith("unknown_service"):  # type: ignore[union-attr]  # a string
            named = named.merge(Resource({"service.name": "loraplex"}))
        provider = TracerProvider(resource=named)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        return cls(provider)

    @property
    def enabled(self) -> bool:
        return self._provider is not None

    @contextmanager
    def request(self, headers: Mapping[str, str], name: str) -> Iterator[Span]:
        """The span of an HTTP exchange, within the caller's trace if its `traceparent` names one."""
        parent = self._propagator.extract(headers)
        # Not the library's way with exceptions: their texts may hold what users wrote.
        with self._tracer.start_as_current_span(
            name, parent, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            yield span

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Something of ours on the way of the present request."""
        with self._tracer.start_as_current_span(
            name, record_exception=False, set_status_on_exception=False
        ):
            yield

    def generation(self, attributes: Attributes) -> "GenerationTrace":
        """Begin the span of one choice's generation, within the present request."""
        return GenerationTrace(self._tracer, contexts.get_current(), attributes)

    def close(self) -> None:
        """Send what is left."""
        if self._provider is not None:
            self._provider.force_flush(FLUSH_MILLISECONDS)
            self._provider.shutdown()


class GenerationTrace:
    """Becomes spans when the generation has ended: then its parts are known."""

    def __init__(self, tracer: Tracer, context: Context, attributes: Attributes) -> None:
        self._tracer = tracer
        self._context = context
        self._attributes = attributes
        self._began = time.time_ns()

    def end(self, outcome: Outcome) -> None:
        """Draw the spans of one generation."""
        began = self._began
        span = self._tracer.start_span("generate", self._context, start_time=began)
        span.set_attributes(
            {
                **self._attributes,
                "gen_ai.response.finish_reason": outcome.finish_reason,
                "gen_ai.usage.input_tokens": outcome.prompt_tokens,
                "gen_ai.usage.output_tokens": outcome.output_tokens,
                "loraplex.cached_tokens": outcome.cached_tokens,
            }
        )
        if outcome.first_token is not None:
            span.add_event("first token", timestamp=began + int(outcome.first_token * _NANOS))
        if outcome.finish_reason in ("error", "lost"):
            span.set_status(Status(StatusCode.ERROR))
        if outcome.timings is not None:
            self._parts(span, outcome)
        span.end(began + int(outcome.seconds * _NANOS))

    def _parts(self, parent: Span, outcome: Outcome) -> None:
        """The engine's parts. It tells how long each took, not when: they are drawn in the order they usually have, up
        to the end of the generation."""
        timings = outcome.timings
        assert timings is not None
        context = set_span_in_context(parent, self._context)
        parts = [(name, getattr(timings, name)) for name in ("queue", "load", "prefill", "decode")]
        end = self._began + int(outcome.seconds * _NANOS)
        at = max(self._began, end - int(sum(seconds for _, seconds in parts) * _NANOS))
        for name, seconds in parts:
            if seconds > 0:
                part = self._tracer.start_span(f"engine.{name}", context, start_time=at)
                at += int(seconds * _NANOS)
                part.end(min(at, end))
