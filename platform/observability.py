"""Owns what operators see of a running process: request ids and one log line per request. Nothing here ever holds a
prompt, a key or a tenant's adapter name."""

import re
import sys
import time
from uuid import uuid4

import structlog
from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from loraplex.platform.errors import PlatformError
from loraplex.platform.metrics import Metrics

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


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


class RequestLog(ASGIMiddleware):
    """One log line and one count per request, by route template: paths would name tenants' adapters."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Time a request from here to its last byte."""
        start = scope["state"]["received"] = time.perf_counter()
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
            key=getattr(principal, "actor_id", None),
        )
