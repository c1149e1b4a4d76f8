"""Owns the answer that a stream of live state is: it ends with its reader, with the reader's rights and with the
server."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import structlog
from litestar import Response
from litestar.response.base import ASGIResponse
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.event_stream import MEDIA_TYPE, PING, PING_SECONDS, EventStream
from loraplex.platform.events.feed import Feed, Listener, frame
from loraplex.platform.events.schemas import LiveEvent, StreamEnd

# Whether whoever opened a stream may still read it.
Still = Callable[[], Awaitable[bool]]


class LiveResponse(Response[LiveEvent]):
    """What a handler answers with; the schema of its events is documented by its type."""

    def __init__(self, feed: Feed, listener: Listener, still: Still) -> None:
        super().__init__(content=None, media_type=MEDIA_TYPE)  # type: ignore[arg-type]  # never written
        self._stream = EventStream(
            _frames(listener, still), listener.end, lambda: feed.leave(listener)
        )

    def to_asgi_response(self, *args: Any, **kwargs: Any) -> ASGIResponse:
        """The stream itself, whatever the app would add."""
        return self._stream


async def _frames(listener: Listener, still: Still) -> AsyncIterator[bytes]:
    """What comes for a listener, as long as it may be seen."""
    while not listener.ended:
        data = await listener.next(PING_SECONDS) or PING
        if not await _allowed(still):
            data = frame("end", StreamEnd("session"))
            listener.end()
        yield data


async def _allowed(still: Still) -> bool:
    try:
        return await still()
    except (SQLAlchemyError, OSError) as error:
        # Who cannot be asked for may see nothing; the page comes back.
        structlog.get_logger().error("checking a session failed", error=str(error))
        return False
