"""Owns the events tenants can be told of, and writing them down, in the transaction of what they tell, for each of the
tenant's webhooks that wants them. Sending them is somebody else's work, after the commit (`sending`)."""

from collections.abc import Mapping
from enum import StrEnum
from uuid import UUID

import msgspec
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import Webhook, WebhookDelivery


class Event(StrEnum):
    """What can happen."""

    VERSION_CREATED = "adapter.version.created"
    VERSION_DELETED = "adapter.version.deleted"
    ADAPTER_DELETED = "adapter.deleted"
    ALIAS_CHANGED = "adapter.alias.changed"
    GOLDEN_FAILED = "adapter.golden.failed"
    IMPORT_SUCCEEDED = "adapter.import.succeeded"
    IMPORT_FAILED = "adapter.import.failed"
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_CANCELLED = "batch.cancelled"
    KEY_CREATED = "key.created"
    KEY_REVOKED = "key.revoked"
    KEY_ROTATED = "key.rotated"
    LIMIT_CHANGED = "limit.changed"
    MEMBER_JOINED = "member.joined"
    MEMBER_REMOVED = "member.removed"
    TEST = "webhook.test"


MEANINGS: Mapping[Event, str] = {
    Event.VERSION_CREATED: "A version was added and can be served.",
    Event.VERSION_DELETED: "A version was deleted, with its weights.",
    Event.ADAPTER_DELETED: "An adapter was deleted with all of its versions.",
    Event.ALIAS_CHANGED: "An alias was made, moved to another version or split, or deleted.",
    Event.GOLDEN_FAILED: "A version answered a golden prompt otherwise than expected.",
    Event.IMPORT_SUCCEEDED: "An import ended with a version.",
    Event.IMPORT_FAILED: "An import ended without a version.",
    Event.BATCH_COMPLETED: "A batch has run to its end.",
    Event.BATCH_FAILED: "A batch was refused, or could not go on.",
    Event.BATCH_EXPIRED: "A batch did not end within its 24 hours.",
    Event.BATCH_CANCELLED: "A batch was cancelled.",
    Event.KEY_CREATED: "An API key was made.",
    Event.KEY_REVOKED: "An API key was revoked.",
    Event.KEY_ROTATED: "An API key was replaced by a new one.",
    Event.LIMIT_CHANGED: "A limit of the tenant, a key or an adapter was changed.",
    Event.MEMBER_JOINED: "A user became a member of the tenant.",
    Event.MEMBER_REMOVED: "A user is no longer a member of the tenant.",
    Event.TEST: "Somebody asked for a test of this webhook.",
}


class Message(msgspec.Struct):
    """The body that is sent, as the Standard Webhooks convention has it.

    Attributes:
        type: the name of the event.
        timestamp: when it happened, ISO 8601 in UTC.
        data: what it tells. Never a prompt, an answer or a secret.
    """

    type: str
    timestamp: str
    data: dict[str, object]


async def emit(
    session: AsyncSession, tenant_id: UUID | None, event: str, data: Mapping[str, object]
) -> None:
    """Write down an event for each enabled webhook of the tenant that wants it; kept or lost with the transaction of
    `session`, which may be the tenant's or everybody's.

    Args:
        tenant_id: None is nobody, who has no webhooks.
        event: the value of an `Event`.
        data: what to tell; ids, moments, decimals and enums in it become text. Never a prompt or a secret.

    Raises:
        ValueError: no such event.
        TypeError: a value that JSON cannot hold.
    """
    name = Event(event)
    if tenant_id is None:
        return
    enabled = select(Webhook).where(Webhook.tenant_id == tenant_id, Webhook.disabled_at.is_(None))
    wanting = [hook for hook in await session.scalars(enabled) if wants(hook, name)]
    if wanting:
        body = encode(name, data)
        session.add_all(delivery(hook, name, body) for hook in wanting)


def wants(hook: Webhook, event: Event) -> bool:
    """Whether a webhook asked for such events."""
    return not hook.events or event in hook.events


def encode(event: Event, data: Mapping[str, object]) -> bytes:
    """The body for an event that happens now."""
    message = Message(type=event.value, timestamp=utc_now().isoformat(), data=dict(data))
    return msgspec.json.encode(message)


def delivery(hook: Webhook, event: Event, body: bytes) -> WebhookDelivery:
    """A delivery that is due at once."""
    return WebhookDelivery(
        tenant_id=hook.tenant_id, webhook_id=hook.id, event=event.value, body=body
    )
