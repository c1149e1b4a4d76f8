"""Owns the JSON of the audit trail."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from loraplex.platform.db.models import AuditEntry


class AuditOut(Struct):
    """One change: who made it, to what, and what it was before and after.

    `tenant` is empty for what belongs to none and for a tenant that is gone. Tenants do not see the `address` of
    operators.
    """

    id: str
    created_at: datetime
    tenant: str
    actor: str
    actor_name: str
    by_operator: bool
    address: str
    action: str
    target: str
    before: dict[str, object] | None
    after: dict[str, object] | None
    detail: dict[str, object]

    @classmethod
    def of(cls, row: AuditEntry, tenant: str, viewer: UUID | None) -> "AuditOut":
        """An entry as a tenant sees it, or an operator (`viewer` None)."""
        hidden = row.by_operator and viewer is not None
        return cls(
            id=str(row.id),
            created_at=row.created_at,
            tenant=tenant,
            actor=row.actor,
            actor_name=row.actor_name,
            by_operator=row.by_operator,
            address="" if hidden else row.address,
            action=row.action,
            target=row.target,
            before=row.before,
            after=row.after,
            detail=row.detail,
        )


class AuditList(Struct):
    """A page of entries, newest first; `next` is the `before` of the following page."""

    data: list[AuditOut]
    next: str | None
