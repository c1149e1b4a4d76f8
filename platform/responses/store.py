"""Owns the answers that are kept: to look at, to delete, and to build on."""

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, cast
from uuid import UUID

import msgspec
from sqlalchemy import ColumnElement, CursorResult, and_, delete, func, select, true, update

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models.responses import StoredResponse
from loraplex.platform.errors import BadRequestError, NotFoundError
from loraplex.platform.responses.bodies import Response
from loraplex.platform.responses.items import Item
from loraplex.platform.settings import Settings
from loraplex.platform.tenants.living import of_living_tenant

PREFIX = "resp_"
# What we give; a database may not even take other characters.
_ID = re.compile(rf"{PREFIX}[0-9a-f]{{24}}")
# Longer conversations do not fit into any context; it bounds what one query asks for.
LONGEST_CHAIN = 1000
# Of all of one: they are read in one go. A context's worth of text is far smaller; log-probabilities are not.
LARGEST_CHAIN = 64 * 1024**2
# Between two looks of the chore at how much is kept, a worker may add this much above what a tenant may keep.
UNNOTICED_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class Keeping:
    """What is kept.

    Attributes:
        days: for how long after an answer was made or last built upon.
        bytes: how much of one tenant; the oldest go first.
        enabled: whether anything is.
    """

    days: int
    bytes: int
    enabled: bool = True

    @classmethod
    def of(cls, settings: Settings) -> "Keeping":
        """As the operator wants it."""
        enabled = not settings.no_stored_responses
        return cls(settings.response_days, settings.response_storage, enabled)


class Chain(NamedTuple):
    """The responses that one builds on, oldest first, and the conversation in them."""

    ids: list[str]
    items: list[Item]


class ResponseStore:
    """The kept answers of all tenants; every method takes who asks, and looks nowhere else."""

    def __init__(
        self, database: Database, keeping: Keeping, clock: Callable[[], datetime] = utc_now
    ) -> None:
        self.keeping = keeping
        self.crowded = asyncio.Event()
        self._store = database.main
        self._clock = clock
        self._unnoticed = 0

    async def keep(
        self, tenant_id: UUID, subject: str, response: Response, own: list[Item], chain: list[str]
    ) -> None:
        """Keep an answer, and what it builds on for as long; `own` are the items of its own request.

        Raises:
            NotFoundError: the tenant was deleted meanwhile.
        """
        asked, answered = msgspec.json.encode(own), msgspec.json.encode(response)
        expires_at = self._clock() + timedelta(days=self.keeping.days)
        row = StoredResponse(
            tenant_id=tenant_id,
            response_id=response.id,
            subject=subject,
            input=asked,
            response=answered,
            chain=chain,
            size=len(asked) + len(answered),
            expires_at=expires_at,
        )
        with of_living_tenant():
            async with self._store.writing(tenant_id) as session:
                session.add(row)
                if chain:
                    above = update(StoredResponse).where(StoredResponse.response_id.in_(chain))
                    await session.execute(above.values(expires_at=expires_at))
        self._unnoticed += row.size
        if self._unnoticed > UNNOTICED_BYTES:
            self._unnoticed = 0
            self.crowded.set()

    async def get(self, actor: Principal, response_id: str) -> Response:
        """One answer.

        Raises:
            NotFoundError: there is none of this name, or none for this key to see.
        """
        return _response(await self._row(actor, response_id))

    async def input_items(self, actor: Principal, response_id: str) -> list[Item]:
        """All items that one answer was made from, oldest first.

        Raises:
            NotFoundError: as `get`, or something it builds on is gone.
        """
        row = await self._row(actor, response_id)
        before = await self._items(actor, row.chain)
        if before is None:
            raise NotFoundError(
                f"A response that {response_id!r} builds on has been deleted; its items are gone."
            )
        return [*before, *_own_items(row)]

    async def chain(self, actor: Principal, response_id: str) -> Chain:
        """The conversation up to and with an answer.

        Raises:
            BadRequestError: there is no such answer for this key to see, or it cannot be built on.
        """
        try:
            row = await self._row(actor, response_id)
        except NotFoundError:
            raise _unusable(f"There is no response {response_id[:100]!r}.") from None
        response = _response(row)
        if response.status not in ("completed", "incomplete"):
            raise _unusable(f"The response {response_id!r} was {response.status}.")
        if len(row.chain) >= LONGEST_CHAIN:
            raise _unusable(f"The response {response_id!r} builds on {LONGEST_CHAIN} others.")
        await self._check_size(actor, [*row.chain, response_id])
        before = await self._items(actor, row.chain)
        if before is None:
            raise _unusable(f"A response that {response_id!r} builds on has been deleted.")
        return Chain([*row.chain, response_id], [*before, *_own_items(row), *response.output])

    async def delete(self, actor: Principal, response_id: str) -> None:
        """Remove an answer for good.

        Raises:
            NotFoundError: as `get`.
        """
        await self._row(actor, response_id)
        gone = delete(StoredResponse).where(self._visible(actor, [response_id]))
        async with self._store.writing(_tenant(actor)) as session:
            done = cast("CursorResult[object]", await session.execute(gone))
        if not done.rowcount:
            raise _absent(response_id)

    async def _row(self, actor: Principal, response_id: str) -> StoredResponse:
        if _ID.fullmatch(response_id) is None:
            raise _absent(response_id)
        query = select(StoredResponse).where(self._visible(actor, [response_id]))
        async with self._store.reading(_tenant(actor)) as session:
            row = await session.scalar(query)
        if row is None:
            raise _absent(response_id)
        return row

    async def _items(self, actor: Principal, chain: list[str]) -> list[Item] | None:
        """What was asked and answered in a chain; None if a link is gone."""
        if not chain:
            return []
        query = select(StoredResponse).where(self._visible(actor, chain))
        async with self._store.reading(_tenant(actor)) as session:
            rows = {row.response_id: row for row in await session.scalars(query)}
        if len(rows) < len(chain):
            return None
        links = [rows[link] for link in chain]
        return [item for row in links for item in (*_own_items(row), *_response(row).output)]

    async def _check_size(self, actor: Principal, chain: list[str]) -> None:
        query = select(func.sum(StoredResponse.size)).where(self._visible(actor, chain))
        async with self._store.reading(_tenant(actor)) as session:
            size = await session.scalar(query)
        if (size or 0) > LARGEST_CHAIN:
            raise _unusable(f"What {chain[-1]!r} builds on is more than {LARGEST_CHAIN} bytes.")

    def _visible(self, actor: Principal, ids: Sequence[str]) -> ColumnElement[bool]:
        return and_(
            StoredResponse.response_id.in_(ids),
            StoredResponse.expires_at > self._clock(),
            true() if actor.adapters is None else StoredResponse.subject.in_(actor.adapters),
        )


def _tenant(actor: Principal) -> UUID:
    # The gate lets nobody else through.
    assert actor.tenant_id is not None
    return actor.tenant_id


def _response(row: StoredResponse) -> Response:
    return msgspec.json.decode(row.response, type=Response)


def _own_items(row: StoredResponse) -> list[Item]:
    return msgspec.json.decode(row.input, type=list[Item])


def _absent(response_id: str) -> NotFoundError:
    return NotFoundError(f"There is no response {response_id[:100]!r}.")


def _unusable(what: str) -> BadRequestError:
    return BadRequestError(
        f"{what[:-1]}, so nothing can build on it; send the conversation as input.",
        param="previous_response_id",
        code="previous_response_not_found",
    )
