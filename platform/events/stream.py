"""Owns the answer that a stream of live state is: it ends with its reader, with the reader's rights and with the
server."""

import asyncio
from typing import Any

import structlog
from litestar import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.events.feed import Feed, Listener, Still, frame
from loraplex.platform.events.schemas import LiveEvent, StreamEnd
from loraplex.platform.inference.streaming import HEADERS, PING, PING_SECONDS

MEDIA_TYPE = "text/event-stream"


class LiveResponse(Response[LiveEvent]):
    """What a handler answers with; the schema of its events is documented by its type."""

    def __init__(self, feed: Feed, listener: Listener, still: Still) -> None:
        super().__init__(content=None, media_type=MEDIA_TYPE)  # type: ignore[arg-type]  # never written
        self._stream = _LiveStream(feed, listener, still)

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        """The stream itself, whatever the app would add."""
        return self._stream


class _LiveStream(ASGIResponse):
    __slots__ = ("_feed", "_listener", "_still")

    _should_set_content_length = False

    def __init__(self, feed: Feed, listener: Listener, still: Still) -> None:
        super().__init__(media_type=MEDIA_TYPE, headers=HEADERS, status_code=200)
        self._feed = feed
        self._listener = listener
        self._still = still

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._feed.leave(self._listener)

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send frame after frame, as long as there is a reader who may see them."""
        watch = asyncio.create_task(self._end_with_reader(receive))
        try:
            while not self._listener.ended:
                data = await self._listener.next(PING_SECONDS) or PING
                if not await self._allowed():
                    data = frame("end", StreamEnd("session"))
                    self._listener.end()
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _allowed(self) -> bool:
        try:
            return await self._still()
        except (SQLAlchemyError, OSError) as error:
            # Who cannot be asked for may see nothing; the page comes back.
            structlog.get_logger().error("checking a session failed", error=str(error))
            return False

    async def _end_with_reader(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._listener.end()
