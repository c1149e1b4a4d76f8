"""Owns server-sent events on the wire: how a frame is written, and an answer that sends frames as long as somebody
reads them."""

import asyncio
from collections.abc import AsyncIterator, Callable

from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from loraplex.platform.one_line import one_line

MEDIA_TYPE = "text/event-stream"
# Proxies cut connections that are silent for long, often 30 or 60 seconds.
PING_SECONDS = 15.0
PING = b": ping\n\n"
_HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}


def named_frame(name: str, data: bytes) -> bytes:
    """An event with a name. `data` is JSON."""
    return b"event: %s\ndata: %s\n\n" % (name.encode(), one_line(data))


class EventStream(ASGIResponse):
    """Frames as they come.

    What is to be done at the end is not left to the iterator: one that was never started has no `finally`, and one
    cancelled while its consumer waits in `send` runs it only when the garbage collector comes by.
    """

    __slots__ = ("_frames", "_over", "_reader_gone")

    _should_set_content_length = False

    def __init__(
        self,
        frames: AsyncIterator[bytes],
        reader_gone: Callable[[], None],
        over: Callable[[], None],
    ) -> None:
        """
        Args:
            reader_gone: called when the client leaves; must make `frames` end.
            over: called however the stream ends.
        """
        super().__init__(media_type=MEDIA_TYPE, headers=_HEADERS, status_code=200)
        self._frames = frames
        self._reader_gone = reader_gone
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._over()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send frame after frame, as long as there is a reader."""
        watch = asyncio.create_task(self._watch(receive))
        try:
            async for frame in self._frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch(self, receive: Receive) -> None:
        await gone(receive)
        self._reader_gone()


async def gone(receive: Receive) -> None:
    """Return when the client has closed its connection. The body must have been read before."""
    while (await receive())["type"] != "http.disconnect":
        pass
