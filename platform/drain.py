"""Owns the end of an API worker: once told so it takes no new requests, while those under way may end."""

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from loraplex.platform.errors import ShuttingDownError

# Whoever routes requests must see the end coming, and whoever watches must still see.
_STILL_ANSWERED = ("/health", "/ready", "/metrics")


class Drain:
    """Where one worker stands.

    Attributes:
        draining: no new requests are taken.
        running: requests under way.
    """

    def __init__(self) -> None:
        self.draining = False
        self.running = 0


class DrainGate(ASGIMiddleware):
    """Counts requests, and refuses them when the end has begun."""

    scopes = (ScopeType.HTTP,)

    def __init__(self, drain: Drain) -> None:
        self._drain = drain

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Let a request in, or not.

        Raises:
            ShuttingDownError: not.
        """
        if scope["path"] in _STILL_ANSWERED:
            await next_app(scope, receive, send)
            return
        if self._drain.draining:
            raise ShuttingDownError
        self._drain.running += 1
        try:
            await next_app(scope, receive, send)
        finally:
            self._drain.running -= 1
