"""Owns telling failures of a database apart: it is away, two transactions are in each other's way, or it is our
fault."""

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

# PostgreSQL's: serialization failure, deadlock, lock not available.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
# PostgreSQL's classes: connection exception, insufficient resources, operator intervention.
_AWAY = ("08", "53", "57")
_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_conflict(error: BaseException) -> bool:
    """Whether the transaction was undone because of another, and would go through if it were tried again."""
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.OperationalError):
        return _code(error.orig) in _BUSY
    return _sqlstate(error) in _CONFLICTS


def is_away(error: BaseException) -> bool:
    """Whether the database cannot be reached or used by anybody now."""
    if isinstance(
        error, OSError | PoolTimeoutError
    ):  # refused, reset, timed out: drivers raise them as they are
        return True
    if not isinstance(error, DBAPIError) or is_conflict(error):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return isinstance(error, OperationalError) and not _is_wrong_sql(error.orig)
    state = _sqlstate(error)
    return error.connection_invalidated or (
        isinstance(error, InterfaceError) if state is None else state.startswith(_AWAY)
    )


def _is_wrong_sql(error: sqlite3.Error) -> bool:
    return _code(error) == sqlite3.SQLITE_ERROR


def _sqlstate(error: DBAPIError) -> str | None:
    state = getattr(error.orig, "sqlstate", None)
    return state if isinstance(state, str) else None


def _code(error: sqlite3.Error) -> int:
    # Those of Python's own module have none; the upper bits say more than we want to know.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF
