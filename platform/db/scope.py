"""Owns keeping tenants apart in the database: a session is opened for one tenant and then neither sees nor writes rows
of another, whatever its queries say. PostgreSQL enforces the same once more, in `row_security`."""

from enum import Enum
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import Connection, event, text
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from loraplex.platform.db.base import TenantOwned
from loraplex.platform.db.models.tenancy import Tenant
from loraplex.platform.db.row_security import ROLE, VARIABLE


class _All(Enum):
    EVERY_TENANT = "every tenant"


# For work that is about no tenant or about all: operators, migrations of state, chores.
EVERY_TENANT: Final = _All.EVERY_TENANT
Whose = UUID | Literal[_All.EVERY_TENANT]


def whose(tenant_id: UUID | None) -> Whose:
    """The rows of a tenant, or with None everybody's: for services that operators use as tenants do."""
    return EVERY_TENANT if tenant_id is None else tenant_id


_TENANT, _ENFORCED, _CRITERIA = "tenant", "enforced", "criteria"  # keys of `Session.info`


class ForeignRowError(AssertionError):
    """A session of one tenant was about to write a row of another: a mistake of ours."""


class ScopedSession(Session):
    """A session of one tenant, or of every tenant, by its `info`."""


@event.listens_for(ScopedSession, "do_orm_execute")
def _keep_apart(state: ORMExecuteState) -> None:
    info = state.session.info
    tenant = info.get(_TENANT)
    if tenant is None or not (state.is_select or state.is_update or state.is_delete):
        return
    if _CRITERIA not in info:
        info[_CRITERIA] = _criteria(tenant)
    state.statement = state.statement.options(*info[_CRITERIA])


def _criteria(tenant: UUID) -> tuple[ExecutableOption, ...]:
    """What every query of a session is narrowed by; to make them takes longer than to read a row."""
    return (
        with_loader_criteria(
            TenantOwned, lambda entity: entity.tenant_id == tenant, include_aliases=True
        ),
        with_loader_criteria(Tenant, lambda entity: entity.id == tenant, include_aliases=True),
    )


@event.listens_for(ScopedSession, "before_flush")
def _refuse_foreign(session: Session, _: object, __: object) -> None:
    tenant = session.info.get(_TENANT)
    if tenant is None:
        return
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, TenantOwned) and row.tenant_id != tenant:
            raise ForeignRowError(f"{type(row).__name__} of {row.tenant_id}, not of {tenant}")


@event.listens_for(ScopedSession, "after_begin")
def _enforce(session: Session, _: SessionTransaction, connection: Connection) -> None:
    if session.info.get(_ENFORCED):
        # For this transaction only. One statement: each is a way to the server and back.
        connection.execute(
            text("SELECT set_config('role', :role, true), set_config(:variable, :tenant, true)"),
            {"role": ROLE, "variable": VARIABLE, "tenant": str(session.info[_TENANT])},
        )


class RowSecurity:
    """Whether this database enforces scopes itself: PostgreSQL does where the migration could make the role."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._enforced: bool | None = None if engine.dialect.name == "postgresql" else False

    async def enforced(self) -> bool:
        """Asked once; a role made later is seen after a restart."""
        if self._enforced is None:
            query = text(
                "SELECT pg_has_role(oid, 'MEMBER') AND has_table_privilege(oid, 'adapter', 'SELECT')"
                " FROM pg_roles WHERE rolname = :role"
            )
            async with self._engine.connect() as connection:
                self._enforced = bool(await connection.scalar(query, {"role": ROLE}))
        return self._enforced

    async def info(self, whose: Whose) -> dict[str, object]:
        """What a session of `whose` carries."""
        if whose is EVERY_TENANT:
            return {}
        return {_TENANT: whose, _ENFORCED: await self.enforced()}
