"""Owns bringing an answer to its client, whole or as a stream, in whichever dialect; a client that leaves stops the
work."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

from litestar import MediaType, Request
from litestar.datastructures import State
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from loraplex.platform.engines.generation import Generation, GenerationFailedError
from loraplex.platform.engines.messages import Delta
from loraplex.platform.inference.answer import Answer
from loraplex.platform.inference.streaming import (
    ClientGoneError,
    answer_stream,
    frames,
    while_connected,
)

# An error in front of the first token still gets its own HTTP status, unless it takes longer than this: then the
# headers must go out so that pings can keep the connection alive.
FIRST_NEWS_SECONDS = 10.0
# Nobody reads it; it is for the access log (nginx's number for a client that closed the connection).
CLIENT_CLOSED_REQUEST = 499


class Delivery(Protocol):
    """An answer that runs, and how a dialect writes it down."""

    @property
    def generation(self) -> Generation:
        """What runs."""
        ...

    def frames(self) -> AsyncIterator[bytes]:
        """The answer as a stream of events."""
        ...

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        """The answer as one body."""
        ...


class ChunkDelivery:
    """Answers of completions and chat."""

    def __init__(self, answer: Answer) -> None:
        self.generation = answer.generation
        self._writer = answer.writer

    def frames(self) -> AsyncIterator[bytes]:
        """Chunks and the end mark."""
        return frames(self.generation, self._writer)

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        """All choices."""
        return self._writer.whole(deltas)


async def deliver(
    request: Request[Any, Any, State],
    start: Awaitable[Delivery],
    find_model: Callable[[], Awaitable[object]],
    *,
    stream: bool,
) -> ASGIApp:
    """Run to the first news or to the end, then answer. The body must have been read.

    Args:
        find_model: raises what is to be said of a model that was deleted meanwhile.
    """
    try:
        with ExitStack() as running:
            delivery = await while_connected(request, _begin(start, running))
            generation = delivery.generation
            if stream:
                await while_connected(request, generation.arrived(FIRST_NEWS_SECONDS))
                running.pop_all()
                return answer_stream(generation, delivery.frames())
            deltas = await while_connected(request, generation.collect())
            return ASGIResponse(body=await delivery.whole(deltas), media_type=MediaType.JSON)
    except GenerationFailedError:
        await find_model()  # deleted meanwhile: 404, not 503
        raise
    except ClientGoneError:
        return ASGIResponse(status_code=CLIENT_CLOSED_REQUEST)


async def _begin(start: Awaitable[Delivery], running: ExitStack) -> Delivery:
    """Start, and note in the same moment what is to be closed: whoever waits for it can be cancelled right then."""
    delivery = await start
    running.callback(delivery.generation.close)
    return delivery
