"""Owns the span of an HTTP exchange: from its first byte in to its last byte out."""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from opentelemetry.trace import Status, StatusCode

from loraplex.platform.observability import request_id
from loraplex.platform.tracing.tracing import Tracing


class TraceRequests(ASGIMiddleware):
    """One span per request, named by route template: paths would name tenants' adapters."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Trace, if anybody wants traces."""
        if not self._tracing.enabled:
            await next_app(scope, receive, send)
            return
        http: HTTPScope = scope  # type: ignore[assignment]  # `scopes` admits no other
        route = scope["path_template"]
        headers = {
            name.decode("latin-1"): value.decode("latin-1")
            for name, value in scope["headers"]
            if name in (b"traceparent", b"tracestate")
        }
        with self._tracing.request(headers, f"{http['method']} {route}") as span:
            span.set_attributes(
                {
                    "http.request.method": http["method"],
                    "http.route": route,
                    "loraplex.request_id": request_id(scope),
                }
            )

            async def watch(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        span.set_status(Status(StatusCode.ERROR))
                await send(message)

            await next_app(scope, receive, watch)
