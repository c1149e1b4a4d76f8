"""Owns who is what in a tenant. Only owners and operators touch owners, and a tenant that has an owner keeps one."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import joinedload

from loraplex.platform.accounts.codes import drop_invitations
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import normal_email
from loraplex.platform.auth.principal import Principal, Role
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Membership, Tenant, User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import ConflictError, NotFoundError, PermissionDeniedError
from loraplex.platform.webhooks.events import Event, emit


class MemberService:
    """Members of one tenant at a time; the caller has decided that the principal may manage them.

    Changes run in sessions of every tenant, with the tenant in each query: they also end sessions of users, which are
    no tenant's.
    """

    def __init__(self, database: Database, sessions: Sessions) -> None:
        self._database = database
        self._sessions = sessions

    async def list(self, tenant_id: UUID) -> Sequence[Membership]:
        """Every member with the user behind it, by e-mail address."""
        query = (
            select(Membership)
            .join(Membership.user)
            .where(Membership.tenant_id == tenant_id)
            .options(joinedload(Membership.user))
            .order_by(User.email)
        )
        async with self._database.main.reading(tenant_id) as session:
            return (await session.scalars(query)).all()

    async def get(self, tenant_id: UUID, user_id: str) -> Membership:
        """One member, with the user.

        Raises:
            NotFoundError: the tenant has no such member.
        """
        async with self._database.main.reading(tenant_id) as session:
            return await _member(session, tenant_id, user_id)

    async def add(self, actor: Principal, tenant_id: UUID, email: str, role: Role) -> Membership:
        """Make an existing user a member, without asking; for operators.

        Raises:
            NotFoundError: nobody has an account with this address.
            ConflictError: the user is a member already.
        """
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                query = select(User).where(User.email == normal_email(email))
                user = await session.scalar(query)
                if user is None:
                    raise NotFoundError(
                        "Nobody has an account with this e-mail address; invite them.",
                        param="email",
                    )
                member = Membership(tenant_id=tenant_id, user_id=user.id, role=role, user=user)
                session.add(member)
                await session.flush()
                record(
                    session, actor, "member.create", user.id, tenant_id, after={"role": role.value}
                )
                told = {"user": user.id, "email": user.email, "role": role}
                await emit(session, tenant_id, Event.MEMBER_JOINED, told)
        except IntegrityError as error:
            raise ConflictError("This user is a member already; change the role.") from error
        self._sessions.forget()
        return member

    async def change(
        self, actor: Principal, tenant_id: UUID, user_id: str, role: Role
    ) -> Membership:
        """Another role, which ends all sessions of the user; a lesser one also ends the user's open invitations.

        Raises:
            NotFoundError: the tenant has no such member.
            PermissionDeniedError: it is about owners, and the actor is none.
            ConflictError: the tenant would be left without an owner.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            await _lock(session, tenant_id)
            member = await _member(session, tenant_id, user_id)
            before = Role(member.role)
            if role is not before:
                require_may_give(actor, before)
                require_may_give(actor, role)
                await _keep_an_owner(session, tenant_id, before)
                member.role = role
                record(
                    session,
                    actor,
                    "member.change",
                    user_id,
                    tenant_id,
                    before={"role": before.value},
                    after={"role": role.value},
                )
                if _is_less(role, before):
                    await drop_invitations(session, member.user, tenant_id)
                await self._sessions.end_all(session, user_id)
        self._sessions.forget()
        return member

    async def remove(self, actor: Principal, tenant_id: UUID, user_id: str) -> None:
        """Take a member out of the tenant, which ends all sessions of the user, and the open invitations that the user
        made or could come back with; the account stays.

        Raises:
            NotFoundError, PermissionDeniedError, ConflictError: as for `change`.
        """
        async with self._database.main.writing(EVERY_TENANT) as session:
            await _lock(session, tenant_id)
            member = await _member(session, tenant_id, user_id)
            role = Role(member.role)
            require_may_give(actor, role)
            await _keep_an_owner(session, tenant_id, role)
            await session.delete(member)
            await drop_invitations(session, member.user, tenant_id)
            record(session, actor, "member.delete", user_id, tenant_id, before={"role": role.value})
            await emit(session, tenant_id, Event.MEMBER_REMOVED, {"user": user_id, "role": role})
            await self._sessions.end_all(session, user_id)
        self._sessions.forget()


def require_may_give(actor: Principal, role: Role) -> None:
    """Whether the actor may give, change or take this role.

    Raises:
        PermissionDeniedError: it is that of an owner, and the actor neither an owner nor an operator.
    """
    if role is Role.OWNER and not (actor.is_operator or actor.role is Role.OWNER):
        raise PermissionDeniedError("Only an owner of the tenant makes or changes owners.")


def _is_less(role: Role, than: Role) -> bool:
    ranks = tuple(Role)
    return ranks.index(role) < ranks.index(than)


async def _lock(session: AsyncSession, tenant_id: UUID) -> None:
    """One change of a tenant's members at a time: two owners could otherwise demote each other."""
    query = select(Tenant.id).where(Tenant.id == tenant_id)
    await session.execute(query.with_for_update(key_share=True))


async def _member(session: AsyncSession, tenant_id: UUID, user_id: str) -> Membership:
    query = (
        select(Membership)
        .where(Membership.tenant_id == tenant_id, Membership.user_id == user_id)
        .options(joinedload(Membership.user))
    )
    member: Membership | None = await session.scalar(query)
    if member is None:
        raise NotFoundError(f"There is no member {user_id[:12]!r} in this tenant.")
    return member


async def _keep_an_owner(session: AsyncSession, tenant_id: UUID, role: Role) -> None:
    """Before somebody of this role loses it."""
    owners = (Membership.tenant_id == tenant_id, Membership.role == Role.OWNER)
    count = select(func.count()).select_from(Membership).where(*owners)
    if role is Role.OWNER and await session.scalar(count) == 1:
        raise ConflictError("This is the tenant's only owner; make somebody else an owner first.")
