"""Owns what operators see of a running process: request ids, one log line per request, Prometheus
metrics. Nothing here ever holds a prompt, a key or a tenant's adapter name."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from uuid import uuid4

import structlog
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from loraplex.platform.errors import PlatformError

EngineStats = Callable[[], Mapping[str, Mapping[str, float]]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_IN_METRIC = re.compile(r"[^a-zA-Z0-9_]")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


def configure_logging() -> None:
    """JSON lines on standard error; called once by each process that serves."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            # Not structlog's rich or dict renderers: they print local variables, and with them keys and prompts.
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )


def request_id(scope: Scope) -> str:
    """The id of a request: the client's own if it sent a harmless one, else a new one."""
    state = scope["state"]
    if "request_id" not in state:
        sent = next((v for k, v in scope["headers"] if k == b"x-request-id"), b"").decode("latin-1")
        state["request_id"] = sent if _REQUEST_ID.fullmatch(sent) else f"req_{uuid4().hex}"
    return str(state["request_id"])


async def send_request_id(message: Message, scope: Scope) -> None:
    """Put `x-request-id` on every answer, errors and unknown routes included."""
    if message["type"] == "http.response.start":
        header = (b"x-request-id", request_id(scope).encode())
        message["headers"] = [*message.get("headers", ()), header]


class Metrics:
    """The counters of this process, and on request those of all API workers with the engines' numbers."""

    def __init__(self, engine_stats: EngineStats) -> None:
        self._registry = CollectorRegistry()
        self._engines = _EngineCollector(engine_stats)
        labels = ("method", "route", "status")
        self._requests = Counter(
            "loraplex_http_requests", "HTTP requests answered.", labels, registry=self._registry
        )
        self._seconds = Histogram(
            "loraplex_http_request_seconds",
            "Time until the answer was complete.",
            labels[:2],
            buckets=_SECONDS,
            registry=self._registry,
        )

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def render(self) -> bytes:
        """Everything in Prometheus' text format."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            # Several API workers: each wrote its counters to a file, the scrape adds them up.
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # ships partial types
        engines = CollectorRegistry()
        engines.register(self._engines)
        return generate_latest(registry) + generate_latest(engines)


class _EngineCollector(Collector):
    """Reads the engines' numbers at scrape time."""

    def __init__(self, stats: EngineStats) -> None:
        self._stats = stats

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for base, numbers in self._stats().items():
            for name, value in numbers.items():
                metric = f"loraplex_engine_{_NOT_IN_METRIC.sub('_', name)}"
                family = families.setdefault(
                    metric,
                    GaugeMetricFamily(metric, f"{name} of an engine.", labels=["base_model"]),
                )
                family.add_metric([base], value)
        return families.values()


class RequestLog(ASGIMiddleware):
    """One log line and one count per request, by route template: paths would name tenants' adapters."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Time a request from here to its last byte."""
        start = time.perf_counter()
        status = 0

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id(scope)):
            try:
                await next_app(scope, receive, watch)
            except PlatformError as error:
                # Raised by a middleware behind this one; those of handlers arrive as answers.
                status = error.status
                raise
            finally:
                self._record(scope, status, time.perf_counter() - start)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        http: HTTPScope = scope  # type: ignore[assignment]  # `scopes` admits no other
        route = scope["path_template"]
        self._metrics.observe(http["method"], route, status, seconds)
        principal = scope["state"].get("principal")
        structlog.get_logger().info(
            "request",
            method=http["method"],
            route=route,
            status=status,
            seconds=round(seconds, 4),
            key=getattr(principal, "key_id", None),
        )
