"""Owns the JSON of webhooks."""

from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from loraplex.platform.db.models import Webhook, WebhookDelivery
from loraplex.platform.webhooks.events import Event

URL_LENGTH = 2048
DESCRIPTION_LENGTH = 200

# PostgreSQL stores no NUL.
Url = Annotated[str, Meta(min_length=1, max_length=URL_LENGTH, pattern=r"^[^\x00]*$")]
Description = Annotated[str, Meta(max_length=DESCRIPTION_LENGTH, pattern=r"^[^\x00]*$")]


class WebhookCreate(Struct, forbid_unknown_fields=True):
    """What a new webhook needs; without `events` it is told of all."""

    url: Url
    events: list[Event] = []
    description: Description = ""


class WebhookChange(Struct, forbid_unknown_fields=True):
    """What is to change about a webhook."""

    url: Url | UnsetType = UNSET
    events: list[Event] | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class WebhookOut(Struct, omit_defaults=True):
    """A webhook; `secret` is present only in the answer that made it. Until `previous_secret_until` messages are signed
    with the secret before as well."""

    id: str
    url: str
    events: list[Event]
    description: str
    enabled: bool
    disabled_at: datetime | None
    created_at: datetime
    created_by: str
    previous_secret_until: datetime | None
    secret: str | UnsetType = UNSET

    @classmethod
    def of(cls, row: Webhook, secret: str | UnsetType = UNSET) -> "WebhookOut":
        return cls(
            id=str(row.id),
            url=row.url,
            events=[Event(name) for name in row.events],
            description=row.description,
            enabled=row.disabled_at is None,
            disabled_at=row.disabled_at,
            created_at=row.created_at,
            created_by=row.created_by,
            previous_secret_until=row.previous_until,
            secret=secret,
        )


class WebhookList(Struct):
    """Every webhook of a tenant, oldest first."""

    data: list[WebhookOut]


class DeliveryOut(Struct):
    """One event on its way; `next_at` is when it is tried next, null once it has ended, `body` what is sent."""

    id: str
    event: str
    state: str
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_status: int | None
    last_error: str | None
    ended_at: datetime | None
    body: dict[str, object]

    @classmethod
    def of(cls, row: WebhookDelivery) -> "DeliveryOut":
        return cls(
            id=str(row.id),
            event=row.event,
            state=row.state,
            attempts=row.attempts,
            created_at=row.created_at,
            next_at=row.next_at if row.state == "pending" else None,
            last_status=row.last_status,
            last_error=row.last_error,
            ended_at=row.ended_at,
            body=msgspec.json.decode(row.body, type=dict[str, object]),
        )


class DeliveryList(Struct):
    """A page of deliveries, newest first; `next` is the `before` of the following page."""

    data: list[DeliveryOut]
    next: str | None
