"""Owns slowing down who guesses passwords: failed sign-ins are counted per account and per address, in the database and
so for all workers together, and each further one costs twice the wait."""

import hashlib
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import SignInThrottle
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import TooManyAttemptsError

FIRST_WAIT = timedelta(seconds=1)
FORGET = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is counted: `free` failures cost nothing, a wait is never longer than `longest`."""

    name: str
    free: int
    longest: timedelta

    @property
    def key(self) -> str:
        """What the database knows it by: neither an e-mail address nor where somebody was."""
        return hashlib.sha256(self.name.encode()).hexdigest()

    def wait(self, failures: int) -> timedelta:
        """After so many failures."""
        beyond = failures - self.free
        return (
            min(FIRST_WAIT * 2 ** min(beyond - 1, 30), self.longest) if beyond > 0 else timedelta()
        )


def account(email: str) -> Subject:
    """An account, whether it exists or not. Five minutes at most: anybody can make its owner wait."""
    return Subject(f"account:{email}", free=5, longest=timedelta(minutes=5))


def network(address: str) -> Subject:
    """An address, of IPv6 the /64 that one customer has. More is free: an office shares one."""
    try:
        given = ipaddress.ip_address(address)
        # All of IPv4 is a single /64 where a socket takes both.
        known = getattr(given, "ipv4_mapped", None) or given
        address = str(known)
        if known.version == 6:
            address = str(ipaddress.ip_network((known, 64), strict=False))
    except ValueError:
        address = "unknown"
    return Subject(f"address:{address}", free=30, longest=timedelta(minutes=15))


class Throttle:
    """Counts attempts before they are made, so that many at once are no way around it, and takes back what succeeds."""

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def admit(self, *subjects: Subject) -> None:
        """Count one attempt.

        Raises:
            TooManyAttemptsError: one of the subjects has to wait; nothing is counted.
        """
        now = self._clock()
        limits = {subject.key: subject for subject in subjects}
        async with self._database.main.writing(EVERY_TENANT) as session:
            rows = await _locked(session, sorted(limits), now)
            waits = [row.blocked_until - now for row in rows if row.blocked_until is not None]
            if waits and max(waits) > timedelta():
                raise TooManyAttemptsError(
                    "Too many failed attempts; wait a moment and try again.",
                    retry_after=max(waits).total_seconds(),
                )
            for row in rows:
                row.failures = 1 if row.updated_at < now - FORGET else row.failures + 1
                row.blocked_until = now + limits[row.subject].wait(row.failures)
                row.updated_at = now

    async def succeeded(self, session: AsyncSession, whom: Subject, where: Subject) -> None:
        """Forget an account's failures. Of an address only this attempt: somebody with one account could otherwise
        guess at others for ever."""
        now = self._clock()
        for row in await _locked(session, sorted({whom.key, where.key}), now):
            row.failures = 0 if row.subject == whom.key else max(0, row.failures - 1)
            row.blocked_until = None

    async def sweep(self) -> None:
        """Delete what is forgotten."""
        old = SignInThrottle.updated_at < self._clock() - FORGET
        async with self._database.main.writing(EVERY_TENANT) as session:
            await session.execute(delete(SignInThrottle).where(old))


async def _locked(
    session: AsyncSession, keys: Sequence[str], now: datetime
) -> Sequence[SignInThrottle]:
    """The rows of these subjects, made where they are missing; always in one order, or two attempts could wait for each
    other."""
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgres_insert if is_postgres else sqlite_insert
    fresh = [{"subject": key, "failures": 0, "updated_at": now} for key in keys]
    await session.execute(insert(SignInThrottle).values(fresh).on_conflict_do_nothing())
    query = select(SignInThrottle).where(SignInThrottle.subject.in_(keys))
    ordered = query.order_by(SignInThrottle.subject).with_for_update()
    return (await session.scalars(ordered)).all()
