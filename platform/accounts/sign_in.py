"""Owns signing in: with a password, and with whatever else has proved who somebody is. Errors and the time they take
are the same whether an account exists or not."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.accounts.passwords import Passwords, check_password
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.throttle import Throttle, account, network
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import User, UserSession
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError, BadRequestError

# Who has not signed in yet, in the audit trail.
NOBODY = "-"
# What somebody proved to be the user with.
Proof = Literal["password", "setup", "invitation", "oidc"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser that is about to sign in. `token` is that of the session it had, empty if none."""

    address: str = ""
    user_agent: str = ""
    token: str = ""

    @property
    def principal(self) -> Principal:
        """As the one who does something before anybody knows who it is."""
        return Principal(actor_id=NOBODY, is_user=True, address=self.address)


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session just opened, with the token that is shown to its browser alone."""

    row: UserSession
    token: str


class SignIn:
    """Opens sessions."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        passwords: Passwords,
        throttle: Throttle,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._passwords = passwords
        self._throttle = throttle
        self._clock = clock

    async def with_password(self, visitor: Visitor, email: str, password: str) -> NewSession:
        """Sign in.

        Raises:
            AuthenticationError: no such account, another password, or the account is disabled.
            TooManyAttemptsError: too many failed before.
        """
        email = normal_email(email)
        stored = await self.verify(visitor, email, password)
        # Also while the parameters stay as they are: the account may be changed while its password is compared.
        fresh = (
            await self._passwords.hash(password) if self._passwords.is_outdated(stored) else None
        )
        async with self._database.main.writing(EVERY_TENANT) as session:
            user = await _by_email(session, email, lock=True)
            if user is None or user.password_hash != stored or user.disabled_at is not None:
                raise wrong_credentials()
            user.password_hash = fresh or stored
            return await self.open(session, user, visitor, "password")

    async def verify(self, visitor: Visitor, email: str, password: str) -> str:
        """Whether this is the password of an account that may sign in; returns its hash.

        Raises:
            AuthenticationError, TooManyAttemptsError: as for `with_password`.
        """
        await self._throttle.admit(account(email), network(visitor.address))
        async with self._database.main.reading(EVERY_TENANT) as session:
            user = await _by_email(session, email)
        stored = user.password_hash if user is not None and user.disabled_at is None else None
        if await self._passwords.matches(stored, password) and stored is not None:
            return stored
        async with self._database.main.writing(EVERY_TENANT) as session:
            # Never what was typed: people type passwords into the wrong field.
            target = "unknown account" if user is None else user.id
            record(session, visitor.principal, "session.refuse", target)
        raise wrong_credentials()

    async def open(
        self, session: AsyncSession, user: User, visitor: Visitor, by: Proof
    ) -> NewSession:
        """A session of a user in the caller's transaction, in place of the one this browser had."""
        user.last_sign_in_at = self._clock()
        if by == "password":
            await self._throttle.succeeded(session, account(user.email), network(visitor.address))
        if visitor.token:
            await self._sessions.end_presented(session, visitor.token)
            self._sessions.forget()
        row, token = await self._sessions.open(session, user, visitor.address, visitor.user_agent)
        await session.flush()
        actor = Principal(
            actor_id=user.id, actor_name=user.email, is_user=True, address=visitor.address
        )
        record(session, actor, "session.create", str(row.id), by=by)
        return NewSession(row, token)

    async def change_password(
        self, actor: Principal, visitor: Visitor, current: str, new: str
    ) -> NewSession:
        """Another password for a signed-in user, which ends every session; returns a new one for this browser.

        Raises:
            AuthenticationError: the current password is another.
            BadRequestError: the new one is easy to guess, or the user has none because of signing in elsewhere.
            TooManyAttemptsError: too many failed before.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            user = await session.get_one(User, actor.actor_id)
        if user.password_hash is None:
            raise BadRequestError("You sign in elsewhere and have no password here.")
        check_password(new, user.email, user.name)
        stored = await self.verify(visitor, user.email, current)
        hashed = await self._passwords.hash(new)
        async with self._database.main.writing(EVERY_TENANT) as session:
            again = await _by_email(session, user.email, lock=True)
            if again is None or again.password_hash != stored or again.disabled_at is not None:
                raise wrong_credentials()
            again.password_hash = hashed
            await self._sessions.end_all(session, again.id)
            record(session, actor, "user.password", again.id)
            opened = await self.open(session, again, visitor, "password")
        self._sessions.forget()
        return opened


def normal_email(email: str) -> str:
    """As it is stored and compared."""
    return email.strip().lower()


def wrong_credentials() -> AuthenticationError:
    """The one answer to everything that is wrong about a sign-in."""
    return AuthenticationError(
        "The e-mail address or the password is wrong.", code="wrong_credentials"
    )


async def _by_email(session: AsyncSession, email: str, *, lock: bool = False) -> User | None:
    query = select(User).where(User.email == email)
    user: User | None = await session.scalar(query.with_for_update() if lock else query)
    return user
