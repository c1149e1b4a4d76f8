"""Owns invitations into tenants: an admin makes one for an e-mail address and hands its code over; whoever has the code
becomes a member, with the account there is or a new one."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, CursorResult, delete, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.accounts.codes import find_code, new_code
from loraplex.platform.accounts.members import require_may_give
from loraplex.platform.accounts.passwords import Passwords, check_password
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import (
    NewSession,
    Proof,
    SignIn,
    Visitor,
    normal_email,
    wrong_credentials,
)
from loraplex.platform.accounts.signed_in import SignedIn
from loraplex.platform.accounts.users import new_user
from loraplex.platform.auth.principal import Principal, Role
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Membership, OneTimeCode, User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError, PermissionDeniedError
from loraplex.platform.webhooks.events import Event, emit


class InvitationService:
    """Invitations of one tenant at a time, and accepting one."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        sign_in: SignIn,
        passwords: Passwords,
        clock: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._sign_in = sign_in
        self._passwords = passwords
        self._clock = clock

    async def create(
        self, actor: Principal, tenant_id: UUID, email: str, role: Role
    ) -> tuple[OneTimeCode, str]:
        """An invitation in place of one to the same address: its row and its code, which cannot be had again.

        Raises:
            PermissionDeniedError: only owners invite owners.
            ConflictError: the tenant has a member with this address.
        """
        require_may_give(actor, role)
        row, code = new_code("invitation", self._clock())
        row.tenant_id, row.role, row.created_by = tenant_id, role, actor.actor_id
        row.email = email = normal_email(email)
        async with self._database.main.writing(tenant_id) as session:
            member = (
                select(Membership.user_id)
                .join(Membership.user)
                .where(Membership.tenant_id == tenant_id, User.email == email)
            )
            if await session.scalar(member) is not None:
                raise ConflictError(f"{email} is a member already; change the role.", param="email")
            await session.execute(
                delete(OneTimeCode).where(*_open(tenant_id), OneTimeCode.email == email)
            )
            session.add(row)
            await session.flush()
            after = {"email": email, "role": role.value}
            record(session, actor, "invitation.create", str(row.id), tenant_id, after=after)
        return row, code

    async def list(self, tenant_id: UUID) -> Sequence[OneTimeCode]:
        """Invitations that can still be accepted, oldest first."""
        query = (
            select(OneTimeCode)
            .where(*_open(tenant_id), OneTimeCode.expires_at > self._clock())
            .order_by(OneTimeCode.id)
        )
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def revoke(self, actor: Principal, tenant_id: UUID, identifier: UUID) -> None:
        """Take an invitation back.

        Raises:
            NotFoundError: the tenant has no such open invitation.
        """
        async with self._database.main.writing(tenant_id) as session:
            done = await session.execute(
                delete(OneTimeCode).where(*_open(tenant_id), OneTimeCode.id == identifier)
            )
            assert isinstance(done, CursorResult)
            if done.rowcount == 0:
                raise NotFoundError(f"There is no open invitation {str(identifier)!r}.")
            record(session, actor, "invitation.delete", str(identifier), tenant_id)

    async def accept_signed_in(self, user: SignedIn, visitor: Visitor, code: str) -> NewSession:
        """Become a member with the account one is signed in to; the session is replaced, as what it may do changes.

        Raises:
            BadRequestError: the code cannot be used.
            PermissionDeniedError: the invitation is for another address.
            ConflictError: the user is a member already.
        """
        return await self._join(visitor, code, None, user.email)

    async def accept(self, visitor: Visitor, code: str, password: str, name: str) -> NewSession:
        """Become a member and sign in: with the password of the account that has the invited address, else with a new
        account that gets this password.

        Raises:
            BadRequestError: the code cannot be used, or the new password is easy to guess.
            AuthenticationError: it is not the password of the account.
            TooManyAttemptsError: too many wrong passwords, or too many people sign in.
            ConflictError: the user is a member already.
        """
        async with self._database.main.reading(EVERY_TENANT) as session:
            row = await find_code(session, code, "invitation", self._clock())
            email = row.email or ""
            known = await session.scalar(select(User.id).where(User.email == email))
        if known is not None:
            stored = await self._sign_in.verify(visitor, email, password)
            return await self._join(visitor, code, None, email, stored)
        check_password(password, email, name)
        user = new_user(email, name)
        user.password_hash = await self._passwords.hash(password)
        return await self._join(visitor, code, user, email)

    async def join(
        self, session: AsyncSession, code: str, user: User, visitor: Visitor
    ) -> OneTimeCode:
        """Use a code for this user, in the caller's transaction.

        Raises:
            BadRequestError: the code cannot be used.
            PermissionDeniedError: the invitation is for another address.
        """
        row = await find_code(session, code, "invitation", self._clock())
        if row.email != user.email:
            raise PermissionDeniedError(
                "This invitation is for another e-mail address; sign in with that account."
            )
        row.used_at = self._clock()
        assert row.tenant_id is not None
        assert row.role is not None
        session.add(Membership(tenant_id=row.tenant_id, user_id=user.id, role=row.role))
        await session.flush()
        actor = Principal(
            actor_id=user.id, actor_name=user.email, is_user=True, address=visitor.address
        )
        after = {"role": row.role}
        record(session, actor, "member.create", user.id, row.tenant_id, after=after)
        told = {"user": user.id, "email": user.email, "role": row.role}
        await emit(session, row.tenant_id, Event.MEMBER_JOINED, told)
        return row

    async def _join(
        self, visitor: Visitor, code: str, new: User | None, email: str, stored: str | None = None
    ) -> NewSession:
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                user = new
                if user is None:
                    known = select(User).where(User.email == email).with_for_update()
                    user = await session.scalar(known)
                    changed = stored is not None and user and user.password_hash != stored
                    if user is None or user.disabled_at is not None or changed:
                        raise wrong_credentials()
                else:
                    session.add(user)
                    await session.flush()
                    record(session, visitor.principal, "user.create", user.id, by="invitation")
                await self.join(session, code, user, visitor)
                by: Proof = "invitation" if stored is None else "password"
                opened = await self._sign_in.open(session, user, visitor, by)
        except IntegrityError as error:
            raise ConflictError("You are a member already; sign in.") from error
        self._sessions.forget()
        return opened


def _open(tenant_id: UUID) -> tuple[ColumnElement[bool], ...]:
    return (
        OneTimeCode.tenant_id == tenant_id,
        OneTimeCode.purpose == "invitation",
        OneTimeCode.used_at.is_(None),
    )
