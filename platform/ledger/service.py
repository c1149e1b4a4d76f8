"""Owns reading the ledger."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from uuid import UUID

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import whose
from loraplex.platform.errors import NotFoundError
from loraplex.platform.ledger.schemas import RequestList, RequestOut
from loraplex.platform.ledger.wanted import Wanted
from loraplex.platform.residency.names import Names
from loraplex.platform.tenants.names import tenant_names

EXPORT_PAGE = 1000  # rows read in one transaction


class Ledger:
    """Rows of one tenant, or of all for operators. Pages by key: the millionth row costs what the first does."""

    def __init__(self, database: Database, names: Names) -> None:
        self._store = database.main
        self._names = names

    async def page(self, wanted: Wanted, viewer: UUID | None, limit: int) -> RequestList:
        """The newest `limit` rows.

        Args:
            viewer: the tenant that asks, None for an operator.
        """
        async with self._store.reading(whose(wanted.tenant_id)) as session:
            query = wanted.floor()
            floor = None if query is None else await session.scalar(query)
            rows = (await session.scalars(wanted.rows(floor).limit(limit))).all()
            tenants = await tenant_names(session, rows)
        following = rows[-1].id if len(rows) == limit else floor
        return RequestList(
            await self._shown(rows, tenants, viewer), None if following is None else str(following)
        )

    async def all(self, wanted: Wanted, viewer: UUID | None) -> AsyncGenerator[list[RequestOut]]:
        """Every row, in pages, each read in a transaction of its own: a slow reader holds none open."""
        while True:
            page = await self.page(wanted, viewer, EXPORT_PAGE)
            yield page.data
            if page.next is None:
                return
            wanted = replace(wanted, before=UUID(page.next))

    async def get(self, viewer: Principal, request_id: str) -> RequestOut:
        """One row.

        Raises:
            NotFoundError: there is none with this id, or none for `viewer` to see.
        """
        async with self._store.reading(whose(viewer.viewer)) as session:
            row = await session.get(LedgerEntry, _id(request_id))
            if row is None or not viewer.may_see(row.adapter or row.base_model):
                raise _no_request(request_id)
            tenants = await tenant_names(session, [row])
        (shown,) = await self._shown([row], tenants, viewer.tenant_id)
        return shown

    async def _shown(
        self, rows: Sequence[LedgerEntry], tenants: dict[UUID | None, str], viewer: UUID | None
    ) -> list[RequestOut]:
        evictors = {row.evicted_by for row in rows if row.evicted_by is not None}
        names = await self._names.of(evictors) if evictors else {}
        return [RequestOut.of(row, tenants.get(row.tenant_id, ""), viewer, names) for row in rows]


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _no_request(text) from None


def _no_request(text: str) -> NotFoundError:
    return NotFoundError(f"There is no request {text[:63]!r}.")
