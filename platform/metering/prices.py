"""Owns what every request must know of prices: those of base models and of adapters, remembered for a few seconds."""

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Price as PriceRow
from loraplex.platform.metering.limits import Price

# A change reaches every process within this time.
REMEMBER_SECONDS = 5.0
_FREE = Price()

_Key = tuple[str, UUID | None]


class Prices:
    """All prices, read together: they are few, and thousands of adapters each asked for now and then would otherwise
    mean a question for nearly every request."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: dict[_Key, Price] = {}
        self._until = -1.0
        self._reading = asyncio.Lock()

    async def of(self, base_model: str, adapter_id: UUID | None) -> Price:
        """The adapter's own price on this base model, else the base model's, else nothing."""
        if self._until <= self._clock():
            async with self._reading:
                if self._until <= self._clock():
                    await self._read()
        base = self._known.get((base_model, None), _FREE)
        return base if adapter_id is None else self._known.get((base_model, adapter_id), base)

    async def _read(self) -> None:
        query = select(
            PriceRow.base_model,
            PriceRow.adapter_id,
            PriceRow.input_nanos,
            PriceRow.cached_nanos,
            PriceRow.output_nanos,
        )
        async with self._database.main.connection() as connection:
            rows = (await connection.execute(query)).all()
        self._known = {(base, adapter): Price(*nanos) for base, adapter, *nanos in rows}
        self._until = self._clock() + REMEMBER_SECONDS
