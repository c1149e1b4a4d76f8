"""Owns the connections: engines for SQLite (two files) or PostgreSQL (one database), and the two
kinds of transaction, reading and writing, each for one tenant or, said aloud, for all."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.pool import ConnectionPoolEntry

from loraplex.platform.db.models.tenancy import Tenant
from loraplex.platform.db.scope import EVERY_TENANT, RowSecurity, ScopedSession, Whose
from loraplex.platform.errors import NotFoundError
from loraplex.platform.settings import Settings, SettingsError

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


class Store:
    """One SQLite file or PostgreSQL database."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._row_security = RowSecurity(engine)
        # Both facades share one pool. On SQLite a transaction that reads and then writes must take the writer lock at
        # its start: upgrading later fails at once with SQLITE_BUSY, whatever the busy timeout.
        self._writer = engine.execution_options(sqlite_immediate=True)
        self._read_session = _sessions(engine)
        self._write_session = _sessions(self._writer)

    @asynccontextmanager
    async def reading(self, whose: Whose) -> AsyncGenerator[AsyncSession]:
        """A session for queries; nothing done in it is kept. It sees the rows of `whose` and no others."""
        async with self._read_session(info=await self._row_security.info(whose)) as session:
            yield session

    @asynccontextmanager
    async def writing(self, whose: Whose) -> AsyncGenerator[AsyncSession]:
        """A session committed at the end of the block, rolled back when the block raises. It sees and changes the rows
        of `whose` and no others.

        Raises:
            NotFoundError: the block adds something to a tenant that is deleted.
        """
        info = await self._row_security.info(whose)
        try:
            async with self._write_session(info=info) as session, session.begin():
                yield session
        except IntegrityError as error:
            # For a few seconds keys and sessions of a deleted tenant are still known somewhere.
            if whose is EVERY_TENANT or await self._is_there(whose):
                raise
            raise NotFoundError("This tenant has been deleted.") from error

    async def _is_there(self, tenant_id: UUID) -> bool:
        async with self.reading(tenant_id) as session:
            return await session.scalar(select(Tenant.id).where(Tenant.id == tenant_id)) is not None

    async def enforces_scopes(self) -> bool:
        """Whether the database keeps tenants apart itself, beside us."""
        return await self._row_security.enforced()

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[AsyncConnection]:
        """A plain connection for bulk reads of what is nobody's or everybody's: nothing here keeps tenants apart."""
        async with self.engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[AsyncConnection]:
        """A plain connection in a writing transaction; nothing here keeps tenants apart."""
        async with self._writer.begin() as connection:
            yield connection


@dataclass(frozen=True, slots=True)
class Database:
    """The main store and the store of weights; on PostgreSQL they are the same."""

    main: Store
    weights: Store

    @property
    def is_split(self) -> bool:
        """Whether weights have their own file."""
        return self.main is not self.weights

    async def close(self) -> None:
        """Close every pooled connection."""
        await self.main.engine.dispose()
        if self.is_split:
            await self.weights.engine.dispose()


def open_database(settings: Settings) -> Database:
    """Engines for `settings.database_url`, or for two SQLite files in `settings.data_dir`. Connects to nothing yet.

    Raises:
        SettingsError: a URL of a database that is not supported.
    """
    url = database_url(settings)
    if url.drivername.startswith("postgresql"):
        store = Store(
            create_async_engine(
                url, pool_size=10, max_overflow=10, pool_pre_ping=True, hide_parameters=True
            )
        )
        return Database(store, store)
    main = Path(url.database or "")
    main.parent.mkdir(parents=True, exist_ok=True)
    weights = url.set(database=str(_weights_file(main)))
    return Database(Store(_sqlite_engine(url)), Store(_weights_engine(weights)))


def sqlite_files(settings: Settings) -> tuple[Path, Path] | None:
    """The main file and the file of weights; None on PostgreSQL.

    Raises:
        SettingsError: a URL of a database that is not supported.
    """
    url = database_url(settings)
    if url.drivername.startswith("postgresql"):
        return None
    main = Path(url.database or "")
    return main, _weights_file(main)


def _weights_file(main: Path) -> Path:
    return main.with_name("weights.db" if main.name == "loraplex.db" else f"{main.stem}-weights.db")


def database_url(settings: Settings) -> URL:
    """The normalised URL, with the asynchronous driver we use.

    Raises:
        SettingsError: not a URL, another database, or SQLite in memory (processes could not share it).
    """
    if not settings.database_url:
        file = settings.data_dir.absolute() / "loraplex.db"
        return URL.create("sqlite+aiosqlite", database=str(file))
    try:
        url = make_url(settings.database_url)
    except ArgumentError as error:
        raise SettingsError("--database-url is not a URL; write postgresql://...") from error
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise SettingsError(
            f"--database-url: {url.drivername} is not supported; use postgresql:// or sqlite:///FILE."
        )
    if driver.startswith("sqlite") and url.database in (None, "", ":memory:"):
        raise SettingsError(
            "--database-url: SQLite needs a file; write sqlite:////absolute/path.db."
        )
    return url.set(drivername=driver)


def _sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    return async_sessionmaker(engine, expire_on_commit=False, sync_session_class=ScopedSession)


def unusable(error: Exception) -> str:
    """One sentence for a database that answers with this error."""
    cause: BaseException = (error.orig or error) if isinstance(error, DBAPIError) else error
    if isinstance(error, DBAPIError):
        # PostgreSQL's driver is wrapped twice, and the outer text begins with the name of a class.
        cause = cause.__cause__ or cause
    reason = " ".join(str(cause).split()).rstrip(".") or type(cause).__name__
    return f"The database cannot be used ({reason}); check --data-dir and --database-url."


def _weights_engine(url: URL) -> AsyncEngine:
    # 64 KiB pages write weights about half again as fast as 4 KiB ones; only a new file takes the setting. Deleted
    # weights are overwritten: not every build of SQLite does that unasked.
    return _sqlite_engine(url, page_size=65536, pragmas=("secure_delete = ON",))


def sqlite_in_threads(url: URL) -> Engine:
    """The main file by the synchronous driver, for those who do whole transactions in a thread of their own."""
    engine = create_engine(
        url.set(drivername="sqlite"), connect_args={"timeout": 30}, hide_parameters=True
    )
    _configure_sqlite(engine)
    return engine


def _sqlite_engine(url: URL, page_size: int = 4096, pragmas: tuple[str, ...] = ()) -> AsyncEngine:
    engine = create_async_engine(url, connect_args={"timeout": 30}, hide_parameters=True)
    _configure_sqlite(engine.sync_engine, page_size, pragmas)
    return engine


def _configure_sqlite(engine: Engine, page_size: int = 4096, pragmas: tuple[str, ...] = ()) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver must not open transactions by itself: it would defer them (see `begin`).
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in (
            "busy_timeout = 30000",
            f"page_size = {page_size}",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            "foreign_keys = ON",
            *pragmas,
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        immediate = connection.get_execution_options().get("sqlite_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
