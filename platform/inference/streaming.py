"""Owns the event stream of an answer, and that the engine stops working when its reader has gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from loraplex.platform.engines.generation import Generation, GenerationFailedError
from loraplex.platform.error_responses import openai_body
from loraplex.platform.errors import PlatformError
from loraplex.platform.inference.answer import Writer
from loraplex.platform.one_line import one_line

# Proxies cut connections that are silent for long, often 30 or 60 seconds.
PING_SECONDS = 15.0
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
HEADERS = {"cache-control": "no-cache", "x-accel-buffering": "no"}

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed its connection before there was an answer."""


class ReaderGoneError(GenerationFailedError):
    """The client closed its connection while the answer was streamed."""


class EventStream(ASGIResponse):
    """Server-sent events of a generation, which is closed however they end.

    Not left to the iterator: one that was never started has no `finally`, and one cancelled while its consumer waits
    in `send` runs it only when the garbage collector comes by.
    """

    __slots__ = ("_frames", "_generation")

    _should_set_content_length = False

    def __init__(self, generation: Generation, frames: AsyncIterator[bytes]) -> None:
        super().__init__(media_type="text/event-stream", headers=HEADERS, status_code=200)
        self._generation = generation
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._generation.close()

    async def send_body(self, send: Send, receive: Receive) -> None:
        """Send frame after frame, as long as there is a reader."""
        watch = asyncio.create_task(self._end_with_reader(receive))
        try:
            async for frame in self._frames:
                await send({"type": "http.response.body", "body": frame, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _end_with_reader(self, receive: Receive) -> None:
        await _gone(receive)
        # Nobody sees this error; it wakes the loop above, and what that still sends goes nowhere.
        self._generation.fail(ReaderGoneError("The client closed its connection."))


async def frames(
    generation: Generation, writer: Writer, ping_seconds: float = PING_SECONDS
) -> AsyncIterator[bytes]:
    """The frames of an answer: one per engine step and choice, the usage if asked for, and the end mark. An error ends
    the stream with its OpenAI body instead. The ledger knows of the end before the reader does."""
    opened: set[int] = set()
    try:
        while not generation.finished:
            news = await generation.next(ping_seconds)
            if not news:
                yield PING
            data = b""
            for index, delta in news:
                if index not in opened:
                    opened.add(index)
                    data += _frame(writer.opening(index))
                data += _frame(writer.chunk(index, delta))
            if data:
                yield data
    except PlatformError as error:
        yield _frame(msgspec.json.encode(openai_body(error)))
        return
    await generation.conclude()
    yield _frame(writer.closing()) + DONE


async def while_connected(request: Request[Any, Any, State], work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client leaves. The body must have been read before.

    Raises:
        ClientGoneError: it left.
    """
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_gone(request.receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        watch.cancel()
        task.cancel()
        # Both are over when this returns, so nobody else waits on `receive`.
        await asyncio.gather(task, watch, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _frame(data: bytes | None) -> bytes:
    return b"" if data is None else b"data: " + one_line(data) + b"\n\n"
