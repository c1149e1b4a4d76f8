"""Owns bringing a response to its client, and keeping it before the client learns of its end."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.failures import is_away
from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.messages import Delta
from loraplex.platform.errors import DatabaseUnavailableError, PlatformError
from loraplex.platform.event_stream import PING, PING_SECONDS
from loraplex.platform.inference.streaming import ReaderGoneError
from loraplex.platform.responses.bodies import Response
from loraplex.platform.responses.writer import ResponseWriter

_OURS = "The response could not be stored; quote the x-request-id when you report it."
Keep = Callable[[Response], Awaitable[None]]


class ResponseDelivery:
    """One response on its way. It is kept however its stream ends, also when the reader has left: what was handed over
    is in it."""

    def __init__(self, generation: Generation, writer: ResponseWriter, keep: Keep) -> None:
        self.generation = generation
        self._writer = writer
        self._keep = keep

    async def frames(self) -> AsyncIterator[bytes]:
        """Typed events, the last of which tells how it ended."""
        writer = self._writer
        transcript = writer.transcript
        transcript.begin()
        try:
            while not self.generation.finished:
                for _, delta in await self.generation.next(PING_SECONDS):
                    writer.see(delta)
                yield transcript.take() or PING
            writer.end()
        except ReaderGoneError:
            writer.break_off("cancelled")
        except PlatformError as error:
            writer.break_off("failed", error.message)
        await self._keep_before_the_end()
        await self.generation.conclude()
        yield transcript.take()

    async def whole(self, deltas: Sequence[Delta]) -> bytes:
        """The response as one object."""
        (delta,) = deltas
        self._writer.see(delta)
        self._writer.end()
        await self._keep(self._writer.response)
        return msgspec.json.encode(self._writer.response)

    async def _keep_before_the_end(self) -> None:
        transcript = self._writer.transcript
        try:
            await self._keep(self._writer.response)
        except PlatformError as error:
            transcript.tell_error(error.code, error.message)
        except (SQLAlchemyError, OSError) as error:
            structlog.get_logger().error("a response could not be kept", error=str(error))
            known = DatabaseUnavailableError() if is_away(error) else PlatformError(_OURS)
            transcript.tell_error(known.code, known.message)
        else:
            transcript.tell_end()
