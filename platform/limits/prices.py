"""Owns prices in the database. What a request costs is reckoned in `metering`."""

from uuid import UUID

from sqlalchemy import Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.bases import BaseModels
from loraplex.platform.catalog.rows import find_adapter
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AdapterVersion, Price
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import NotFoundError
from loraplex.platform.limits.money import per_million
from loraplex.platform.metering.limits import Price as Nanos


class PriceService:
    """Prices of base models, and of adapters that have their own."""

    def __init__(self, database: Database, bases: BaseModels) -> None:
        self._database = database
        self._bases = bases

    async def list_of_bases(self) -> list[tuple[str, Price | None]]:
        """Base models by id with their prices: those served here, and others that have one."""
        query = select(Price).where(Price.adapter_id.is_(None))
        async with self._database.main.reading(EVERY_TENANT) as session:
            known = {row.base_model: row for row in await session.scalars(query)}
        return [(base, known.get(base)) for base in sorted({*known, *self._bases.names})]

    async def of_base(self, base: str) -> Price | None:
        """The price of a base model, None if it has none.

        Raises:
            NotFoundError: it is not served here and has no price.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            row = await session.scalar(_price(base, None))
        if row is None and self._bases.get(base) is None:
            raise _unknown(base)
        return row

    async def set_base(self, actor: Principal, base: str, nanos: Nanos) -> None:
        """Give a base model a price: for the next request, within seconds.

        Raises:
            NotFoundError: it is not served here.
        """
        if self._bases.get(base) is None:
            raise _unknown(base)
        async with self._database.main.writing(EVERY_TENANT) as session:
            await _set(session, actor, base, None, nanos)

    async def clear_base(self, actor: Principal, base: str) -> None:
        """Take the price of a base model away. Nothing happens where there is none.

        Raises:
            NotFoundError: it is not served here and has no price.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            if not await _clear(session, actor, base, None) and self._bases.get(base) is None:
                raise _unknown(base)

    async def of_adapter(
        self, actor: Principal, tenant_id: UUID, name: str, base: str | None
    ) -> tuple[str, Price | None, bool]:
        """What requests of an adapter pay: the base model, the price, and whether it is the adapter's own.

        Raises:
            NotFoundError: the tenant has no such adapter.
            BadRequestError: `base` is needed, or not served here.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name)
            base = await self._base_of(session, adapter, base)
            own = await session.scalar(_price(base, adapter.id))
            row = own or await session.scalar(_price(base, None))
        return base, row, own is not None

    async def set_adapter(
        self, actor: Principal, tenant_id: UUID, name: str, base: str | None, nanos: Nanos
    ) -> None:
        """Give an adapter a price of its own on a base model.

        Raises:
            NotFoundError: the tenant has no such adapter.
            BadRequestError: `base` is needed, or not served here.
        """
        # Not the tenant's session: to tenants prices are there to be read.
        async with self._database.main.writing(EVERY_TENANT) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            base = await self._base_of(session, adapter, base)
            await _set(session, actor, base, adapter, nanos)

    async def clear_adapter(
        self, actor: Principal, tenant_id: UUID, name: str, base: str | None
    ) -> None:
        """Let an adapter cost what its base model does. Nothing happens where it has no price of its own.

        Raises:
            NotFoundError: the tenant has no such adapter.
            BadRequestError: `base` is needed, or not served here.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            adapter = await find_adapter(session, actor, tenant_id, name, lock=True)
            base = await self._base_of(session, adapter, base)
            await _clear(session, actor, base, adapter)

    async def _base_of(self, session: AsyncSession, adapter: Adapter, base: str | None) -> str:
        """`base`, or the only base model an adapter has versions for."""
        if base is None:
            query = select(AdapterVersion.base_model).distinct()
            versions = query.where(AdapterVersion.adapter_id == adapter.id).limit(2)
            found = (await session.scalars(versions)).all()
            if len(found) == 1:
                return found[0]
        return self._bases.choose(base).name


async def _set(
    session: AsyncSession, actor: Principal, base: str, adapter: Adapter | None, nanos: Nanos
) -> None:
    query = _price(base, None if adapter is None else adapter.id).with_for_update()
    row = await session.scalar(query)
    before = None if row is None else _told(row)
    if row is None:
        row = Price(base_model=base, adapter_id=None if adapter is None else adapter.id)
        _fill(row, nanos)
        try:
            async with session.begin_nested():
                session.add(row)
        except IntegrityError:
            # Somebody set the same price first.
            row = (await session.scalars(query)).one()
            before = _told(row)
    _fill(row, nanos)
    after = _told(row)
    if after != before:
        _record(session, actor, "price.set", base, adapter, before, after)


async def _clear(
    session: AsyncSession, actor: Principal, base: str, adapter: Adapter | None
) -> bool:
    """Whether there was a price."""
    query = _price(base, None if adapter is None else adapter.id)
    row = await session.scalar(query.with_for_update())
    if row is None:
        return False
    await session.delete(row)
    _record(session, actor, "price.clear", base, adapter, _told(row), None)
    return True


def _record(
    session: AsyncSession,
    actor: Principal,
    action: str,
    base: str,
    adapter: Adapter | None,
    before: dict[str, object] | None,
    after: dict[str, object] | None,
) -> None:
    if adapter is None:
        record(session, actor, action, base, before=before, after=after)
    else:
        name, whose = adapter.name, adapter.tenant_id
        record(session, actor, action, name, whose, before=before, after=after, base=base)


def _price(base: str, adapter_id: UUID | None) -> Select[Price]:
    return select(Price).where(Price.base_model == base, Price.adapter_id == adapter_id)


def _fill(row: Price, nanos: Nanos) -> None:
    row.input_nanos, row.cached_nanos, row.output_nanos = nanos


def _told(row: Price) -> dict[str, object]:
    return {
        "input": per_million(row.input_nanos),
        "cached_input": per_million(row.cached_nanos),
        "output": per_million(row.output_nanos),
    }


def _unknown(base: str) -> NotFoundError:
    return NotFoundError(
        f"There is no base model {base[:200]!r} here; GET /api/v1/prices lists them."
    )
