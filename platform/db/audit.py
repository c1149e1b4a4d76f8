"""Owns writing the audit trail: who changed what, in the same transaction as the change."""

from collections.abc import Mapping
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.auth.principal import Principal
from loraplex.platform.db.models import AuditEntry

# Who acts where nobody asked for it.
SYSTEM = Principal(actor_id="system", actor_name="loraplex", is_operator=True)


def record(
    session: AsyncSession,
    actor: Principal,
    action: str,
    target: str,
    tenant_id: UUID | None = None,
    *,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
    **detail: object,
) -> AuditEntry:
    """Add one entry, kept or lost with the transaction of `session`.

    Args:
        action: `noun.verb`, for example `alias.set`.
        target: what was changed, by the name its owner knows.
        tenant_id: whose it was; the actor's own tenant if not given.
        before: the fields that changed as they were; None for what did not exist.
        after: the same fields as they are now; None for what does not exist any more.
        detail: other values worth keeping. None of the three may hold a secret; ids, moments, decimals and enums in
            them become text.

    Raises:
        TypeError: a value that JSON cannot hold.
    """
    entry = AuditEntry(
        tenant_id=tenant_id or actor.tenant_id,
        actor=actor.actor_id,
        actor_name=actor.actor_name,
        by_operator=actor.is_operator,
        address=actor.address,
        action=action,
        target=target,
        detail=_plain(detail),
        before=None if before is None else _plain(before),
        after=None if after is None else _plain(after),
    )
    session.add(entry)
    return entry


def _plain(values: Mapping[str, object]) -> dict[str, object]:
    return msgspec.convert(msgspec.to_builtins(dict(values)), dict[str, object])
