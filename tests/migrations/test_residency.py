"""The second migration changes tables that hold rows: nothing that hangs on them may go with them."""

from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import text

from loraplex.platform.db.database import open_database
from loraplex.platform.settings import Settings
from support.migrating import migrate_to


async def test_rows_outlive_the_way_up_and_down(settings: Settings) -> None:
    database = open_database(settings)
    tenant, adapter = uuid4(), uuid4()
    # SQLite keeps ids as hex digits without dashes.
    sqlite = database.is_split
    ids = {"t": tenant.hex if sqlite else tenant, "a": adapter.hex if sqlite else adapter}
    now = datetime.now(UTC)
    at = {"at": now.isoformat() if sqlite else now}
    try:
        await migrate_to(database, "0001_initial", up=True)
        async with database.main.transaction() as connection:
            await connection.execute(
                text("INSERT INTO tenant (id, created_at, name) VALUES (:t, :at, 'acme')"), ids | at
            )
            await connection.execute(
                text(
                    "INSERT INTO adapter (id, created_at, tenant_id, name, last_version)"
                    " VALUES (:a, :at, :t, 'fox', 3)"
                ),
                ids | at,
            )
        await migrate_to(database, "0002_residency", up=True)
        async with database.main.connection() as connection:
            query = "SELECT t.weight, t.max_running, a.pinned, a.max_running, a.last_version"
            query += " FROM adapter a JOIN tenant t ON t.id = a.tenant_id"
            rows = [tuple(row) for row in await connection.execute(text(query))]
        assert rows == [(1.0, None, False, None, 3)]
        await migrate_to(database, "0001_initial", up=False)
        async with database.main.connection() as connection:
            query = "SELECT t.name, a.name FROM adapter a JOIN tenant t ON t.id = a.tenant_id"
            assert [tuple(row) for row in await connection.execute(text(query))] == [
                ("acme", "fox")
            ]
    finally:
        await database.close()
