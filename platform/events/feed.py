"""Owns the sampler behind event streams: what is sent is made once a second for all who may see the same, and not at
all while nobody watches."""

import asyncio
import contextlib
from collections import Counter
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.base import utc_now
from loraplex.platform.drain import Drain
from loraplex.platform.errors import TooManyStreamsError
from loraplex.platform.event_stream import named_frame
from loraplex.platform.events.recent import RecentRequests
from loraplex.platform.events.schemas import LiveEvent, StreamEnd
from loraplex.platform.metrics import Metrics
from loraplex.platform.residency.overview import Overview

EVERY_SECONDS = 1.0
# A stream holds a connection and no more; these are far more than people look at one server.
MOST_STREAMS = 1000
# Tabs of one person, or programs with one key.
MOST_PER_ACTOR = 20


class Watch(NamedTuple):
    """What somebody may see. `viewer` is a tenant or None for operators, `names` the adapters a key is confined to,
    `usage` whether requests are shown."""

    viewer: UUID | None
    names: frozenset[str] | None
    usage: bool


class Listener:
    """Where one stream waits. A reader that is slower than the sampler misses what came between."""

    def __init__(self, watch: Watch, actor: str) -> None:
        self.watch = watch
        self.actor = actor
        self._frame = b""
        self._ended = False
        self._news = asyncio.Event()

    def put(self, frame: bytes) -> None:
        """Leave a frame, instead of one that was not fetched."""
        if not self._ended:
            self._frame = frame
            self._news.set()

    def end(self, frame: bytes = b"") -> None:
        """Send a last frame, then nothing more."""
        self.put(frame)
        self._ended = True
        self._news.set()

    @property
    def ended(self) -> bool:
        """Nothing more comes."""
        return self._ended and not self._frame

    async def next(self, seconds: float) -> bytes:
        """The next frame; nothing if none came in this time, or none comes any more."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)
        frame, self._frame = self._frame, b""
        if not self._ended:
            self._news.clear()
        return frame


class Feed:
    """All streams of an API worker."""

    def __init__(
        self, overview: Overview, recent: RecentRequests, metrics: Metrics, drain: Drain
    ) -> None:
        self._overview = overview
        self._recent = recent
        self._metrics = metrics
        self._drain = drain
        self._listeners: dict[Watch, dict[Listener, None]] = {}
        self._latest: dict[Watch, bytes] = {}

    @property
    def streams(self) -> int:
        return sum(len(some) for some in self._listeners.values())

    async def join(self, watch: Watch, actor: str) -> Listener:
        """A listener, with something to send at once; give it to `leave` however its stream ends.

        Raises:
            TooManyStreamsError: of this actor, or in all.
        """
        self._check(actor)
        frame = self._latest.get(watch) or await self._sample(watch)
        self._check(actor)  # others came while it was made
        listener = Listener(watch, actor)
        listener.put(frame)
        self._listeners.setdefault(watch, {})[listener] = None
        return listener

    def leave(self, listener: Listener) -> None:
        """Its stream is over."""
        some = self._listeners.get(listener.watch, {})
        some.pop(listener, None)
        if not some:
            self._listeners.pop(listener.watch, None)
            self._latest.pop(listener.watch, None)

    async def run(self, ending: asyncio.Event) -> None:
        """Sample once a second until `ending`."""
        try:
            while not ending.is_set():
                began = asyncio.get_running_loop().time()
                if self._drain.draining:
                    self._end()
                await self._tick()
                left = EVERY_SECONDS - (asyncio.get_running_loop().time() - began)
                # When it takes longer than it may, others shall still have their turn.
                pause = max(left, EVERY_SECONDS / 10)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ending.wait(), pause)
        finally:
            self._end()

    async def _tick(self) -> None:
        for watch in list(self._listeners):
            try:
                frame = await self._sample(watch)
            except (SQLAlchemyError, OSError) as error:
                # Pages say that what they show is old; the next second may be better.
                structlog.get_logger().error("sampling live state failed", error=str(error))
                continue
            if listeners := self._listeners.get(watch):
                self._latest[watch] = frame
                for listener in listeners:
                    listener.put(frame)

    async def _sample(self, watch: Watch) -> bytes:
        operator = watch.viewer is None
        event = LiveEvent(
            utc_now(),
            await self._overview.brief(watch.viewer, watch.names),
            await self._recent.read(watch.viewer, watch.names) if watch.usage else None,
            await asyncio.to_thread(self._metrics.answers) if operator else None,
        )
        return frame("live", event)

    def _check(self, actor: str) -> None:
        actors = Counter(one.actor for some in self._listeners.values() for one in some)
        if actors[actor] >= MOST_PER_ACTOR:
            raise TooManyStreamsError(
                f"This account has {MOST_PER_ACTOR} event streams open, the most there may be; close some."
            )
        if actors.total() >= MOST_STREAMS:
            raise TooManyStreamsError(
                "The server has too many event streams open; try again later."
            )

    def _end(self) -> None:
        last = frame("end", StreamEnd("drain"))
        for some in self._listeners.values():
            for listener in some:
                listener.end(last)


def frame(name: str, data: msgspec.Struct) -> bytes:
    """One server-sent event."""
    return named_frame(name, msgspec.json.encode(data))
