"""Owns users in the database, as operators see to them."""

import secrets
import string
from collections.abc import Callable, Sequence
from datetime import datetime

from msgspec import UNSET, UnsetType
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from loraplex.platform.accounts.codes import drop_codes, drop_invitations, find_code, new_code
from loraplex.platform.accounts.passwords import Passwords, check_password
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import Visitor, normal_email
from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import OneTimeCode, User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError

_LETTERS = string.ascii_letters + string.digits


def new_user(email: str, name: str) -> User:
    """A row with an id of its own."""
    identifier = "usr_" + "".join(secrets.choice(_LETTERS) for _ in range(8))
    return User(id=identifier, email=normal_email(email), name=name.strip())


class UserService:
    """What operators do with users, and how users set a password with a code."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        passwords: Passwords,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._passwords = passwords
        self._clock = clock

    async def create(
        self, actor: Principal, email: str, name: str, is_operator: bool
    ) -> tuple[User, OneTimeCode, str]:
        """A new user, and the code to set the first password with.

        Raises:
            ConflictError: the e-mail address has an account.
        """
        user = new_user(email, name)
        user.is_operator = is_operator
        row, code = new_code("reset", self._clock())
        row.user_id, row.created_by = user.id, actor.actor_id
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                session.add(user)
                await session.flush()
                session.add(row)
                after = {"email": user.email, "is_operator": is_operator}
                record(session, actor, "user.create", user.id, after=after)
        except IntegrityError as error:
            raise ConflictError(
                f"{user.email} has an account already; change that one.", param="email"
            ) from error
        return user, row, code

    async def list(self, after: str, limit: int, email: str | None = None) -> Sequence[User]:
        """Users by e-mail address, those after `after`; only that of `email` if one is given."""
        query = select(User).where(User.email > after).order_by(User.email).limit(limit)
        if email is not None:
            query = query.where(User.email == normal_email(email))
        async with self._database.main.reading(EVERY_TENANT) as session:
            return (await session.scalars(query)).all()

    async def change(
        self,
        actor: Principal,
        identifier: str,
        *,
        disabled: bool | UnsetType = UNSET,
        is_operator: bool | UnsetType = UNSET,
        name: str | UnsetType = UNSET,
    ) -> User:
        """Change a user. Disabling, and making or unmaking an operator, end all the user's sessions; what takes a right
        away also ends the user's open invitations.

        Raises:
            NotFoundError: there is no such user.
            ConflictError: operators cannot shut themselves out.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            user = await session.get(User, identifier, with_for_update=True)
            if user is None:
                raise _unknown(identifier)
            if user.id == actor.actor_id and (disabled is True or is_operator is False):
                raise ConflictError("Another operator has to do this to your account.")
            before = _state(user)
            if disabled is not UNSET and disabled != (user.disabled_at is not None):
                user.disabled_at = self._clock() if disabled else None
            if is_operator is not UNSET:
                user.is_operator = is_operator
            if name is not UNSET:
                user.name = name.strip()
            after = _state(user)
            changed = {field for field in after if after[field] != before[field]}
            if changed - {"name"}:
                await self._sessions.end_all(session, user.id)
                await drop_codes(session, user.id)
            if user.disabled_at is not None or (before["is_operator"] and not user.is_operator):
                await drop_invitations(session, user)
            if changed:
                record(
                    session,
                    actor,
                    "user.change",
                    user.id,
                    before={field: before[field] for field in changed},
                    after={field: after[field] for field in changed},
                )
        self._sessions.forget()
        return user

    async def issue_reset(self, actor: Principal, identifier: str) -> tuple[OneTimeCode, str]:
        """A code with which a user sets a new password; those before end.

        Raises:
            NotFoundError: there is no such user.
            ConflictError: the user is disabled.
        """
        row, code = new_code("reset", self._clock())
        row.user_id, row.created_by = identifier, actor.actor_id
        async with self._database.main.writing(EVERY_TENANT) as session:
            user = await session.get(User, identifier, with_for_update=True)
            if user is None:
                raise _unknown(identifier)
            if user.disabled_at is not None:
                raise ConflictError(f"{user.email} is disabled; enable the account first.")
            await drop_codes(session, user.id)
            session.add(row)
            record(session, actor, "user.reset", user.id)
        return row, code

    async def reset(self, visitor: Visitor, code: str, password: str) -> None:
        """Set a password with a code, which ends every session of its user.

        Raises:
            BadRequestError: the code cannot be used, or the password is easy to guess.
            TooManyAttemptsError: too many passwords are being set.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            row = await find_code(session, code, "reset", self._clock())
            user = await session.get_one(User, row.user_id)
        check_password(password, user.email, user.name)
        # Only now: a wrong code costs nothing.
        hashed = await self._passwords.hash(password)
        async with self._database.main.writing(EVERY_TENANT) as session:
            # The user before the code, as whoever changes a user does: neither waits for the other for ever.
            user = await session.get_one(User, user.id, with_for_update=True)
            row = await find_code(session, code, "reset", self._clock())
            row.used_at = self._clock()
            user.password_hash = hashed
            await self._sessions.end_all(session, user.id)
            await drop_codes(session, user.id)
            actor = Principal(
                actor_id=user.id, actor_name=user.email, is_user=True, address=visitor.address
            )
            record(session, actor, "user.password", user.id, by="code")
        self._sessions.forget()


def _state(user: User) -> dict[str, object]:
    return {
        "disabled": user.disabled_at is not None,
        "is_operator": user.is_operator,
        "name": user.name,
    }


def _unknown(identifier: str) -> NotFoundError:
    return NotFoundError(f"There is no user {identifier[:12]!r}.")
