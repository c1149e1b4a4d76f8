"""Owns writing the audit trail: who changed what, in the same transaction as the change."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.models import AuditEntry


def record(
    session: AsyncSession,
    actor: Principal,
    action: str,
    target: str,
    tenant_id: UUID | None = None,
    **detail: object,
) -> AuditEntry:
    """Add one entry, kept or lost with the transaction of `session`.

    Args:
        action: `noun.verb`, for example `alias.set`.
        target: what was changed, by the name its owner knows.
        tenant_id: whose it was; the actor's own tenant if not given.
        detail: values worth keeping; never a secret.
    """
    entry = AuditEntry(
        tenant_id=tenant_id or actor.tenant_id,
        actor=actor.actor_id,
        actor_name=actor.actor_name,
        address=actor.address,
        action=action,
        target=target,
        detail=detail,
    )
    session.add(entry)
    return entry
