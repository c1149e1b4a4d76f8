"""Owns refusing keys where they do not belong: URLs end in logs and histories, bodies in databases."""

from urllib.parse import unquote_to_bytes

from litestar.enums import ScopeType
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Receive, Scope, Send

from loraplex.platform.auth.keys import holds_key
from loraplex.platform.errors import BadRequestError


class KeyExposure(ASGIMiddleware):
    """Refuses a request whose path or query has a key in it, whatever else it brings."""

    scopes = (ScopeType.HTTP,)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Look and pass on.

        Raises:
            BadRequestError: there is a key.
        """
        if holds_key(scope["path"].encode(errors="replace")):
            raise exposed("path")
        query = scope["query_string"]
        if query and holds_key(unquote_to_bytes(query)):
            raise exposed("query")
        await next_app(scope, receive, send)


def exposed(place: str) -> BadRequestError:
    """What to say of a key in the `place` of a request."""
    return BadRequestError(
        f"There is an API key in the {place} of this request, where others can read it; revoke it and send keys "
        "in the header 'Authorization: Bearer KEY' only.",
        code="exposed_key",
    )
