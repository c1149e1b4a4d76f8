"""Owns the connection on which metering writes, kept from one transaction to the next.

A transaction is plain synchronous code. On SQLite it runs in a thread of its own, to which the event loop goes once
for all of it: through the asynchronous driver each statement would be four ways to a thread and back. PostgreSQL's
asynchronous driver needs none.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from loraplex.platform.db.database import Store, sqlite_in_threads

T = TypeVar("T")


class UnsureError(Exception):
    """The connection broke while a transaction was committed: it may have been or not."""


class Writer(Protocol):
    """One connection. After any failure the next transaction gets a new one."""

    @property
    def kept(self) -> bool:
        """Whether there is a connection from an earlier transaction."""
        ...

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Do work in a transaction and commit it.

        Raises:
            UnsureError: the commit failed.
            Exception: the work failed, and nothing of it is left.
        """
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


def writer(store: Store) -> Writer:
    """The one for this kind of database."""
    engine = store.engine
    if engine.dialect.name == "sqlite":
        return _ThreadWriter(sqlite_in_threads(engine.url))
    return _AsyncWriter(engine)


class _ThreadWriter:
    def __init__(self, engine: Engine) -> None:
        # A read that becomes a write later would fail, see `db.database.Store`.
        self._engine = engine.execution_options(sqlite_immediate=True)
        self._thread = ThreadPoolExecutor(1, "metering")
        self._connection: Connection | None = None

    @property
    def kept(self) -> bool:
        return self._connection is not None

    async def run(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)

    async def close(self) -> None:
        # Not waited for: it may stand at a lock that somebody else holds.
        self._thread.submit(self._disconnect)
        self._thread.shutdown(wait=False)

    def _run(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            return _transact(self._connection, work)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # Whatever state it is in, nobody shall get it again.
            with suppress(Exception):
                connection.invalidate()
            with suppress(Exception):
                connection.close()


class _AsyncWriter:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._connection: AsyncConnection | None = None

    @property
    def kept(self) -> bool:
        return self._connection is not None

    async def run(self, work: Callable[[Connection], T]) -> T:
        try:
            if self._connection is None:
                self._connection = await self._engine.connect()
            return await self._connection.run_sync(_transact, work)
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            # As above.
            with suppress(Exception):
                await connection.invalidate()
            with suppress(Exception):
                await connection.close()


def _transact(connection: Connection, work: Callable[[Connection], T]) -> T:
    transaction = connection.begin()
    try:
        result = work(connection)
    except BaseException:
        with suppress(Exception):  # the first error tells more
            transaction.rollback()
        raise
    try:
        transaction.commit()
    except Exception as error:
        raise UnsureError(str(error)) from error
    return result
