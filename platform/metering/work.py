"""Owns what waits for the next transaction: reservations asked for and settlements to write."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from loraplex.platform.metering.limits import ADAPTER, KEY, TENANT, Demand, Price, Subject
from loraplex.platform.metering.settlement import Settlement


class Request(NamedTuple):
    """Who asks for what; what is not about tokens goes to the ledger as it is.

    Attributes:
        key_id: or a user's id.
        answer_id: the id in the answer's body.
        endpoint: "completions" or "chat".
        adapter, version, version_id, adapter_id, digest: None for the base model itself.
        batch_id: of which batch it is a line, None of none.
    """

    tenant_id: UUID
    key_id: str
    answer_id: str
    endpoint: str
    base_model: str
    demand: Demand
    adapter_id: UUID | None = None
    adapter: str | None = None
    version: int | None = None
    version_id: UUID | None = None
    digest: str | None = None
    batch_id: UUID | None = None

    @property
    def subjects(self) -> tuple[Subject, ...]:
        """Whose limits count, if they have any."""
        own = (Subject(TENANT, str(self.tenant_id)), Subject(KEY, self.key_id))
        if self.adapter_id is None:
            return own
        return (*own, Subject(ADAPTER, str(self.adapter_id)))


class Reservation(NamedTuple):
    """A committed one.

    Attributes:
        id: of the ledger row.
        max_tokens: the most that each answer may have, None unless limits allow less than the request does.
        headers: of the answer, about what is left of limits.
    """

    id: UUID
    max_tokens: int | None
    headers: Mapping[str, str]


# Called with the ids (as bytes) of rows that are written down.
Acknowledge = Callable[[Sequence[bytes]], None]


@dataclass(slots=True, eq=False)
class Reserving:
    """A reservation on its way; `id` is its row's once it is granted."""

    request: Request
    price: Price
    done: asyncio.Future[Reservation]
    id: UUID | None = None


@dataclass(slots=True, eq=False)
class Settling:
    """A settlement on its way; `over` when it is written or lost."""

    settlement: Settlement
    acknowledge: Acknowledge | None = None
    over: bool = False
    _done: asyncio.Future[None] | None = None  # if somebody waits for it

    def end(self, error: Exception | None = None) -> None:
        """It is written; or, for this reason, never will be."""
        self.over = True
        done = self._done
        if done is None or done.done():
            return
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)

    async def ended(self) -> None:
        """Return when it is over. For one waiter at a time.

        Raises:
            Exception: it was lost meanwhile.
        """
        if not self.over:
            self._done = asyncio.get_running_loop().create_future()
            await self._done


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes: first the settlements, which make room, then the reservations in their order."""

    settles: list[Settling]
    reserves: list[Reserving]
