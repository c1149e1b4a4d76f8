"""A session of one tenant neither sees nor writes rows of another, whatever is asked of it; PostgreSQL refuses on its
own where our side is got round."""

from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, NoResultFound
from sqlalchemy.orm import aliased

from loraplex.platform.db.base import Base, TenantOwned
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Adapter, AuditEntry, Tenant
from loraplex.platform.db.scope import EVERY_TENANT, ForeignRowError


@dataclass
class Two:
    """Two tenants with an adapter each."""

    mine: UUID
    other: UUID
    adapter: UUID  # of the other


@pytest.fixture
async def two(database: Database) -> Two:
    async with database.main.writing(EVERY_TENANT) as session:
        tenants = [Tenant(name="acme"), Tenant(name="globex")]
        session.add_all(tenants)
        await session.flush()
        adapters = [Adapter(tenant_id=t.id, name="a", last_version=0) for t in tenants]
        session.add_all(adapters)
    return Two(tenants[0].id, tenants[1].id, adapters[1].id)


async def test_queries_see_one_tenant(database: Database, two: Two) -> None:
    other = aliased(Adapter)
    async with database.main.reading(two.mine) as session:
        assert [a.tenant_id for a in await session.scalars(select(Adapter))] == [two.mine]
        assert [a.tenant_id for a in await session.scalars(select(other))] == [two.mine]
        assert await session.scalar(select(func.count()).select_from(Adapter)) == 1
        assert [t.id for t in await session.scalars(select(Tenant))] == [two.mine]
        assert (
            list(await session.execute(select(Adapter.id).where(Adapter.id == two.adapter))) == []
        )
        assert await session.get(Adapter, two.adapter) is None
        with pytest.raises(NoResultFound):
            await session.get_one(Adapter, two.adapter, with_for_update=True)
        joined = select(Tenant.name).join(Adapter, Adapter.tenant_id == Tenant.id)
        assert list(await session.scalars(joined)) == ["acme"]
    async with database.main.reading(EVERY_TENANT) as session:
        assert await session.scalar(select(func.count()).select_from(Adapter)) == 2


async def test_updates_and_deletes_reach_one_tenant(database: Database, two: Two) -> None:
    async with database.main.writing(two.mine) as session:
        await session.execute(update(Adapter).values(pinned=True))
        await session.execute(delete(Adapter).where(Adapter.id == two.adapter))
    async with database.main.reading(EVERY_TENANT) as session:
        pinned = {a.tenant_id: a.pinned for a in await session.scalars(select(Adapter))}
    assert pinned == {two.mine: True, two.other: False}


async def test_rows_of_another_tenant_are_not_written(database: Database, two: Two) -> None:
    with pytest.raises(ForeignRowError):
        async with database.main.writing(two.mine) as session:
            session.add(Adapter(tenant_id=two.other, name="b", last_version=0))
    with pytest.raises(ForeignRowError):
        async with database.main.writing(two.mine) as session:
            session.add(AuditEntry(tenant_id=None, actor="x", action="a.b", target="t", detail={}))


async def test_postgresql_refuses_what_gets_round_us(database: Database, two: Two) -> None:
    if database.is_split:
        pytest.skip("SQLite has no second wall")
    async with database.main.reading(two.mine) as session:
        assert await session.scalar(text("SELECT current_user")) == "loraplex_tenant"
        rows = await session.execute(text("SELECT tenant_id FROM adapter"))
        assert [row[0] for row in rows] == [two.mine]
    for statement in (
        insert(Adapter).values(id=two.mine, tenant_id=two.other, name="b", last_version=0),
        text("DELETE FROM user_session"),
        text("SELECT * FROM blob_chunk"),
        text("CREATE TABLE mine (id int)"),
    ):
        async with database.main.reading(two.mine) as session:
            connection = await session.connection()
            with pytest.raises(DBAPIError):
                await connection.execute(statement)
    # The role is left again with the transaction.
    async with database.main.reading(EVERY_TENANT) as session:
        assert await session.scalar(text("SELECT current_user")) != "loraplex_tenant"
        assert await session.scalar(text("SELECT count(*) FROM adapter")) == 2


async def test_every_table_with_a_tenant_is_behind_both_walls(database: Database) -> None:
    scoped = {
        str(m.local_table) for m in Base.registry.mappers if issubclass(m.class_, TenantOwned)
    }
    tables = {name for name, table in Base.metadata.tables.items() if "tenant_id" in table.c}
    assert tables == scoped
    if not database.is_split:
        async with database.main.connection() as connection:
            query = "SELECT tablename FROM pg_policies WHERE policyname = 'of_tenant'"
            protected = set((await connection.execute(text(query))).scalars())
        assert protected == tables | {"tenant", "user_account", "price"}
