"""Owns how the first operator gets in: `serve` prints a code while there is none; whoever has it makes the account."""

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.accounts.codes import find_code, new_code
from loraplex.platform.accounts.passwords import Passwords, check_password
from loraplex.platform.accounts.sign_in import NewSession, SignIn, Visitor
from loraplex.platform.accounts.users import new_user
from loraplex.platform.db.audit import record
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import OneTimeCode, User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError


class Setup:
    """Makes the first operator."""

    def __init__(
        self,
        database: Database,
        sign_in: SignIn,
        passwords: Passwords,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._sign_in = sign_in
        self._passwords = passwords
        self._clock = clock

    async def is_open(self) -> bool:
        """Whether there is a code to use and nobody who could sign in as operator."""
        query = (
            select(OneTimeCode.id)
            .where(
                OneTimeCode.purpose == "setup",
                OneTimeCode.used_at.is_(None),
                OneTimeCode.expires_at > self._clock(),
            )
            .limit(1)
        )
        async with self._database.main.reading(EVERY_TENANT) as session:
            return await session.scalar(query) is not None and not await _has_operator(session)

    async def complete(
        self, visitor: Visitor, code: str, email: str, password: str, name: str
    ) -> NewSession:
        """Make the first operator and sign in.

        Raises:
            BadRequestError: the code cannot be used, or the password is easy to guess.
            ConflictError: there is an operator, or the e-mail address has an account.
            TooManyAttemptsError: too many passwords are being set.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            await find_code(session, code, "setup", self._clock())
        check_password(password, email, name)
        user = new_user(email, name)
        user.is_operator = True
        user.password_hash = await self._passwords.hash(password)
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                # The lock on the code makes a second set-up wait, and then find it used.
                row = await find_code(session, code, "setup", self._clock())
                if await _has_operator(session):
                    raise ConflictError("There is an operator already; sign in instead.")
                row.used_at = self._clock()
                session.add(user)
                await session.flush()
                after = {"email": user.email, "is_operator": True}
                record(session, visitor.principal, "user.create", user.id, after=after, by="setup")
                return await self._sign_in.open(session, user, visitor, "setup")
        except IntegrityError as error:
            raise ConflictError(
                f"{user.email} has an account already; use another address.", param="email"
            ) from error


async def ensure_setup_code(database: Database) -> str | None:
    """At the start of the service: a new code in place of those before, to be shown once; None if somebody can sign in
    as operator."""
    row, code = new_code("setup", utc_now())
    async with database.main.writing(EVERY_TENANT) as session:
        if await _has_operator(session):
            return None
        unused = (OneTimeCode.purpose == "setup", OneTimeCode.used_at.is_(None))
        await session.execute(delete(OneTimeCode).where(*unused))
        session.add(row)
    return code


async def _has_operator(session: AsyncSession) -> bool:
    query = select(User.id).where(User.is_operator, User.disabled_at.is_(None)).limit(1)
    return await session.scalar(query) is not None
