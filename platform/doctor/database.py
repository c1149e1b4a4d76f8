"""Owns looking at the database: whether it answers, is the one this release needs, keeps tenants apart, and whether
anything in it has stood still for too long."""

import time
from datetime import timedelta

from sqlalchemy import func, or_, select, text
from sqlalchemy.exc import SQLAlchemyError

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database, unusable
from loraplex.platform.db.migrate import is_current
from loraplex.platform.db.models import ApiKey, Job, LedgerEntry, User, WebhookDelivery
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.doctor.report import Check, failure, ok, warning
from loraplex.platform.webhooks.deliveries import DISABLED

# Above this, each request feels the database.
SLOW_SECONDS = 0.02
SKEW = timedelta(seconds=2)
# The longest request there is, and then some: no reservation is older.
STUCK = timedelta(hours=2)


async def look_at_database(database: Database) -> list[Check]:
    """Everything that can be seen with a connection."""
    try:
        checks = [await _answer(database)]
        if not await is_current(database):
            return [
                *checks,
                failure(
                    "schema", "It is not that of this release; run loraplex db upgrade, or serve."
                ),
            ]
        checks.append(ok("schema", "It is that of this release."))
        if not database.is_split:
            checks += [await _row_security(database), await _durable(database)]
            checks.append(await _clock(database))
        checks += [await _operators(database), await _stuck(database), await _undelivered(database)]
    except (SQLAlchemyError, OSError) as error:
        return [failure("database", unusable(error))]
    return checks


async def _answer(database: Database) -> Check:
    async with database.main.connection() as connection:
        if database.is_split:
            version = f"SQLite {await connection.scalar(text('SELECT sqlite_version()'))}"
        else:
            version = f"PostgreSQL {await connection.scalar(text('SHOW server_version'))}"
        began = time.perf_counter()
        await connection.execute(text("SELECT 1"))
        seconds = time.perf_counter() - began
    if seconds > SLOW_SECONDS:
        return warning(
            "database", f"{version} takes {1000 * seconds:.0f} ms to answer; bring it nearer."
        )
    return ok("database", f"{version} answers in {1000 * seconds:.1f} ms.")


async def _row_security(database: Database) -> Check:
    if await database.main.enforces_scopes():
        return ok("row security", "PostgreSQL itself keeps tenants apart.")
    return warning(
        "row security",
        "The role loraplex_tenant cannot be used, so only loraplex keeps tenants apart; see docs/operations.md.",
    )


async def _durable(database: Database) -> Check:
    async with database.main.connection() as connection:
        names = ("fsync", "synchronous_commit", "full_page_writes")
        off = [name for name in names if await connection.scalar(text(f"SHOW {name}")) == "off"]
    if off:
        return warning(
            "durability",
            f"{', '.join(off)} is off: a crash of the database loses rows of the ledger.",
        )
    return ok("durability", "What is committed outlives a crash.")


async def _clock(database: Database) -> Check:
    async with database.main.connection() as connection:
        theirs = await connection.scalar(text("SELECT clock_timestamp()"))
    skew = abs(utc_now() - theirs)
    if skew > SKEW:
        return warning("clock", f"The database's differs by {skew}; use NTP on both machines.")
    return ok("clock", "It agrees with the database's.")


async def _operators(database: Database) -> Check:
    usable = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > utc_now())
    keys = select(func.count()).where(
        ApiKey.tenant_id.is_(None), ApiKey.revoked_at.is_(None), usable
    )
    users = select(func.count()).where(User.is_operator, User.disabled_at.is_(None))
    async with database.main.reading(EVERY_TENANT) as session:
        count = (await session.scalar(keys) or 0, await session.scalar(users) or 0)
    if count == (0, 0):
        return failure("operators", "Nobody can manage; start with LORAPLEX_BOOTSTRAP_KEY set.")
    return ok("operators", f"{count[0]} keys, {count[1]} users.")


async def _stuck(database: Database) -> Check:
    before = utc_now() - STUCK
    reserved = select(func.count()).where(
        LedgerEntry.state == "reserved", LedgerEntry.created_at < before
    )
    # Those at work are held: an import may take longer than any request.
    jobs = select(func.count()).where(
        Job.state.in_(["queued", "running"]),
        Job.created_at < before,
        or_(Job.locked_until.is_(None), Job.locked_until < utc_now()),
    )
    async with database.main.reading(EVERY_TENANT) as session:
        rows, waiting = await session.scalar(reserved) or 0, await session.scalar(jobs) or 0
    if rows or waiting:
        return warning(
            "unfinished",
            f"{rows} reservations and {waiting} jobs are older than {STUCK}; is any API worker running?",
        )
    return ok("unfinished", "Nothing has been left lying.")


async def _undelivered(database: Database) -> Check:
    query = select(func.count()).where(
        WebhookDelivery.state == "failed",
        WebhookDelivery.ended_at > utc_now() - timedelta(days=1),
        WebhookDelivery.last_error.is_distinct_from(DISABLED),  # somebody wanted that
    )
    async with database.main.reading(EVERY_TENANT) as session:
        failed = await session.scalar(query) or 0
    if failed:
        return warning("webhooks", f"{failed} deliveries were given up in the last day.")
    return ok("webhooks", "Every delivery of the last day arrived, or is still tried.")
