"""Owns sessions of signed-in browsers: opened with a token of our own making, found again by its hash, given a new
token now and then, ended on the server."""

import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy import CursorResult, delete, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.platform.accounts.signed_in import SignedIn, TenantRole
from loraplex.platform.auth.keys import hash_token
from loraplex.platform.auth.principal import Principal, Role
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Membership, User, UserSession
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import NotFoundError

# What ended elsewhere works at most this long in a process that has just seen it; as for keys.
REMEMBER = timedelta(seconds=5)
REMEMBERED = 10_000
# A browser has one session, a person few browsers; more is a program that never signs out.
SESSIONS_PER_USER = 50
# How exact `last_seen_at` is: a write per session and minute.
SEEN_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class SessionRules:
    """How long sessions live.

    Attributes:
        idle: unused.
        longest: in all.
        renew: a used token is replaced this long after it was given out.
        overlap: and is good this much longer, for requests on their way.
    """

    idle: timedelta = timedelta(hours=12)
    longest: timedelta = timedelta(days=7)
    renew: timedelta = timedelta(minutes=15)
    overlap: timedelta = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Found:
    """A session that a token is good for, and what should be written once its request proves to be in order. `seen` is
    the state this was read in: a write counts only if it is still so."""

    user: SignedIn
    due: Literal["nothing", "seen", "renew"] = "nothing"
    seen: tuple[datetime, datetime] | None = None


class Sessions:
    """Sessions in the database. A few seconds of what was found are remembered, so that a page with twenty requests
    costs one question."""

    def __init__(
        self, database: Database, clock: Callable[[], datetime], rules: SessionRules | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._rules = rules or SessionRules()
        self._known: OrderedDict[str, tuple[datetime, Found]] = OrderedDict()
        self._age = 0  # how often all was forgotten

    async def open(
        self, session: AsyncSession, user: User, address: str, user_agent: str
    ) -> tuple[UserSession, str]:
        """A new session of a user, who has proved to be it: its row, in the caller's transaction, and its token."""
        now = self._clock()
        token = secrets.token_urlsafe(32)
        row = UserSession(
            user_id=user.id,
            token_sha256=hash_token(token),
            csrf_token=secrets.token_urlsafe(32),
            created_at=now,
            rotated_at=now,
            last_seen_at=now,
            expires_at=now + self._rules.longest,
            address=address[:64],
            user_agent=user_agent.replace("\0", "")[:255],
        )
        surplus = (
            select(UserSession.id)
            .where(UserSession.user_id == user.id)
            .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
            .offset(SESSIONS_PER_USER - 1)
        )
        old = (await session.scalars(surplus)).all()
        await session.execute(delete(UserSession).where(UserSession.id.in_(old)))
        session.add(row)
        return row, token

    async def find(self, token: str) -> Found | None:
        """Whose session this is; None if it is nobody's, over, or its user may not come in any more."""
        name, now = hash_token(token), self._clock()
        known = self._known.get(name)
        if known is not None and known[0] > now:
            return known[1]
        age = self._age
        found = await self._ask(name, now)
        if found is not None and age == self._age:
            self._known[name] = (now + REMEMBER, found)
            self._known.move_to_end(name)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return found

    async def keep(self, token: str, found: Found) -> str | None:
        """Note that a session is used; returns the new token when it is time for one. Of several requests at once one
        gets it, the others go on with the old."""
        if found.due == "nothing" or found.seen is None:
            return None
        name = hash_token(token)
        if name in self._known:
            # Requests that come meanwhile have nothing to write.
            self._known[name] = (self._known[name][0], Found(found.user))
        now, new = self._clock(), secrets.token_urlsafe(32)
        values: dict[str, object] = {"last_seen_at": now}
        if found.due == "renew":
            values |= {
                "rotated_at": now,
                "previous_sha256": name,
                "token_sha256": hash_token(new),
            }
        unchanged = (
            UserSession.id == found.user.session_id,
            UserSession.rotated_at == found.seen[0],
            UserSession.last_seen_at == found.seen[1],
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            done = await session.execute(update(UserSession).where(*unchanged).values(values))
        assert isinstance(done, CursorResult)
        return new if found.due == "renew" and done.rowcount == 1 else None

    async def list(self, user_id: str) -> Sequence[UserSession]:
        """A user's sessions that are not over, the last used first."""
        now = self._clock()
        query = (
            select(UserSession)
            .where(
                UserSession.user_id == user_id,
                UserSession.expires_at > now,
                UserSession.last_seen_at > now - self._rules.idle,
            )
            .order_by(UserSession.last_seen_at.desc(), UserSession.id.desc())
        )
        async with self._database.main.reading(EVERY_TENANT) as session:
            return (await session.scalars(query)).all()

    async def end(self, actor: Principal, session_id: UUID) -> None:
        """End one of the actor's own sessions.

        Raises:
            NotFoundError: the actor has no such session.
        """
        own = (UserSession.id == session_id, UserSession.user_id == actor.actor_id)
        async with self._database.main.writing(EVERY_TENANT) as session:
            done = await session.execute(delete(UserSession).where(*own))
            assert isinstance(done, CursorResult)
            if done.rowcount == 0:
                raise NotFoundError(f"You have no session {str(session_id)!r}.")
            record(session, actor, "session.end", str(session_id))
        self.forget()

    async def end_own(self, actor: Principal) -> None:
        """End every session of the actor."""
        async with self._database.main.writing(EVERY_TENANT) as session:
            count = await self.end_all(session, actor.actor_id)
            record(session, actor, "session.end", "all", sessions=count)
        self.forget()

    async def end_all(self, session: AsyncSession, user_id: str) -> int:
        """End every session of a user in the caller's transaction; call `forget` after it. Returns how many."""
        done = await session.execute(delete(UserSession).where(UserSession.user_id == user_id))
        assert isinstance(done, CursorResult)
        return done.rowcount

    async def end_presented(self, session: AsyncSession, token: str) -> None:
        """End the session of a token a browser had before it signed in anew, if it is one."""
        name = hash_token(token)
        of_token = or_(UserSession.token_sha256 == name, UserSession.previous_sha256 == name)
        await session.execute(delete(UserSession).where(of_token))

    def forget(self) -> None:
        """Ask the database again for every token; called when a session or what a user may do changes here."""
        self._age += 1
        self._known.clear()

    async def sweep(self) -> None:
        """Delete sessions that are over."""
        now = self._clock()
        over = or_(
            UserSession.expires_at <= now, UserSession.last_seen_at <= now - self._rules.idle
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            await session.execute(delete(UserSession).where(over))

    async def _ask(self, name: str, now: datetime) -> Found | None:
        of_token = or_(UserSession.token_sha256 == name, UserSession.previous_sha256 == name)
        query = select(UserSession).where(of_token).options(joinedload(UserSession.user))
        async with self._database.main.reading(EVERY_TENANT) as session:
            row = await session.scalar(query)
            due = None if row is None else self._due(row, row.token_sha256 == name, now)
            if row is None or due is None or row.user.disabled_at is not None:
                return None
            memberships = await session.scalars(
                select(Membership)
                .join(Membership.tenant)
                .where(Membership.user_id == row.user_id)
                .options(joinedload(Membership.tenant))
            )
            roles = [
                TenantRole(one.tenant_id, one.tenant.name, Role(one.role)) for one in memberships
            ]
        return Found(
            SignedIn(
                session_id=row.id,
                user_id=row.user_id,
                email=row.user.email,
                name=row.user.name,
                is_operator=row.user.is_operator,
                csrf_token=row.csrf_token,
                created_at=row.created_at,
                expires_at=row.expires_at,
                roles=tuple(sorted(roles, key=lambda role: role.tenant_name)),
            ),
            due,
            (row.rotated_at, row.last_seen_at),
        )

    def _due(
        self, row: UserSession, current: bool, now: datetime
    ) -> Literal["nothing", "seen", "renew"] | None:
        """What a request with this session's current or previous token calls for; None: the token is good no more."""
        rules = self._rules
        if now >= row.expires_at or now >= row.last_seen_at + rules.idle:
            return None
        # Not used since it was given out: its answer may have been lost, and the browser still has the old one.
        unused = row.previous_sha256 is not None and row.last_seen_at == row.rotated_at
        if not current:
            if now < row.rotated_at + rules.overlap:
                return "nothing"
            return "renew" if unused else None
        if now >= row.rotated_at + rules.renew:
            return "renew"
        return "seen" if unused or now >= row.last_seen_at + SEEN_EVERY else "nothing"
