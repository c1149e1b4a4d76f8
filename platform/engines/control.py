"""Owns what an API worker asks of an engine beside generations: purge an adapter, keep some on the device, describe
what is where, tell how generations of others ended. Survives the engine: what it was not told yet, its successor is."""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

from loraplex.platform.engines.messages import (
    Acknowledge,
    AdapterFile,
    Describe,
    Description,
    Finals,
    FinalsOf,
    Pin,
    Purge,
    Purged,
    ToEngine,
)

# An engine answers after its present step, of which the longest are those that compile kernels.
ANSWER_SECONDS = 5.0
# More are acknowledged at once; fewer with the next beat.
MANY_ACKNOWLEDGED = 256

_Answer = TypeVar("_Answer", Description, FinalsOf)


class EngineControl:
    """Part of an `EngineClient`, on the same event loop."""

    def __init__(self, send: Callable[[ToEngine], bool]) -> None:
        """`send` hands a message to the connection, and is False if there is none."""
        self._send = send
        self._ready = False
        self._purges: dict[int, tuple[Purge, asyncio.Future[Purged]]] = {}
        self._asked: dict[int, asyncio.Future[Description | FinalsOf | None]] = {}
        self._written: list[bytes] = []  # accounts to acknowledge
        self._pinned: list[AdapterFile] = []
        self._pins_told = True  # an engine begins with none
        self._numbers = itertools.count()

    async def purge(self, identity: str) -> Purged:
        """Remove an adapter from every tier of the engine; returns when that is done, with what was removed. Goes on
        when the caller stops waiting: if there is no engine at the moment, the next one is told."""
        number = next(self._numbers)
        message, future = Purge(number, identity), asyncio.get_running_loop().create_future()
        self._purges[number] = (message, future)
        self._send(message)
        return await asyncio.shield(future)

    def pin(self, adapters: list[AdapterFile]) -> None:
        """Keep these adapters, and no others, on the device of this engine and of those that come after it."""
        self._pinned = adapters
        self._pins_told = False
        self._tell_pins()

    async def describe(self) -> Description | None:
        """Every adapter the engine knows of; None if it is not there."""
        return await self._ask(Describe(next(self._numbers)), Description)

    async def finals(self, accounts: Sequence[bytes]) -> FinalsOf | None:
        """What the engine knows of these accounts, whoever started their generations; None if it is not there."""
        return await self._ask(Finals(next(self._numbers), list(accounts)), FinalsOf)

    def acknowledge(self, accounts: Sequence[bytes]) -> None:
        """What these accounts took is written down: the engine may forget it. It learns of it within a second; if it
        does not, it forgets when it has too many."""
        self._written += accounts
        if len(self._written) > MANY_ACKNOWLEDGED:
            self._acknowledge()

    def on_beat(self) -> None:
        """An engine takes messages: tell it what it may not know. Twice a second, as a message can get lost with the
        engine it was for; one that comes twice does no harm."""
        self._ready = True
        self._tell_pins()
        self._acknowledge()
        for message, _ in self._purges.values():
            self._send(message)

    def on_lost(self) -> None:
        """The engine is gone, and what it was asked with it."""
        self._ready = False
        self._pins_told = not self._pinned
        self._written.clear()
        for asked in self._asked.values():
            if not asked.done():
                asked.set_result(None)

    def on_purged(self, message: Purged) -> None:
        """The engine has removed an adapter."""
        _, future = self._purges.pop(message.number, (None, None))
        if future is not None and not future.done():
            future.set_result(message)

    def on_answer(self, message: Description | FinalsOf) -> None:
        """The engine has answered what it was asked."""
        asked = self._asked.get(message.number)
        if asked is not None and not asked.done():
            asked.set_result(message)

    async def _ask(self, question: Describe | Finals, kind: type[_Answer]) -> _Answer | None:
        if not self._ready or not self._send(question):
            return None
        future = self._asked[question.number] = asyncio.get_running_loop().create_future()
        try:
            answer = await asyncio.wait_for(future, ANSWER_SECONDS)
        except TimeoutError:
            return None
        finally:
            del self._asked[question.number]
        return answer if isinstance(answer, kind) else None

    def _acknowledge(self) -> None:
        if self._written and self._ready:
            self._send(Acknowledge(self._written))
            self._written = []

    def _tell_pins(self) -> None:
        if self._ready and not self._pins_told:
            self._pins_told = self._send(Pin(self._pinned))
