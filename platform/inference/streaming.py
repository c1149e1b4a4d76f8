"""Owns the event stream of an answer, and that the engine stops working when its reader has gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.datastructures import State

from loraplex.platform.engines.generation import Generation, GenerationFailedError
from loraplex.platform.error_responses import openai_body
from loraplex.platform.errors import PlatformError
from loraplex.platform.event_stream import PING, PING_SECONDS, EventStream, gone
from loraplex.platform.inference.answer import Writer
from loraplex.platform.one_line import one_line

DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client closed its connection before there was an answer."""


class ReaderGoneError(GenerationFailedError):
    """The client closed its connection while the answer was streamed."""


def answer_stream(generation: Generation, frames: AsyncIterator[bytes]) -> EventStream:
    """Server-sent events of a generation, which is closed however they end."""

    def reader_gone() -> None:
        # Nobody sees this error; it wakes whoever makes frames, and what that still sends goes nowhere.
        generation.fail(ReaderGoneError("The client closed its connection."))

    return EventStream(frames, reader_gone, generation.close)


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
    watch = asyncio.create_task(gone(request.receive))
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


def _frame(data: bytes | None) -> bytes:
    return b"" if data is None else b"data: " + one_line(data) + b"\n\n"
