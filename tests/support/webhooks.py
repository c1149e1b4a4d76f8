"""Owns what tests of webhooks share: webhooks that lead to a receiver on loopback, and a clock to turn."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import select

from loraplex.platform.db.database import Database
from loraplex.platform.db.models import Webhook, WebhookDelivery
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.outbound import Outbound
from loraplex.platform.webhooks.deliveries import Deliveries
from loraplex.platform.webhooks.events import emit
from loraplex.platform.webhooks.sending import ATTEMPT_SECONDS, Sender
from loraplex.platform.webhooks.signing import new_secret
from support.receiver import Receiver


class Clock:
    """A moment that stays until it is moved. It begins ahead of the real one: rows made by now are due."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC) + timedelta(hours=1)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Hooks:
    """A tenant whose webhooks lead to `got`, and a sender under `clock`."""

    database: Database
    got: Receiver
    clock: Clock
    tenant: UUID
    other: UUID

    def sender(self, attempt_seconds: float = ATTEMPT_SECONDS) -> Sender:
        # Reading the authorities takes long, and nobody asks them here.
        trusted = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        hosts = ["127.0.0.1"]
        outbound = Outbound(allow_http=True, allow_hosts=hosts, ssl_context=trusted)
        return Sender(self.database, outbound, self.clock, lambda: 0.5, attempt_seconds)

    def deliveries(self) -> Deliveries:
        return Deliveries(self.database.main, self.clock, lambda: 0.5)

    async def add(
        self, *events: str, path: str = "/", tenant: UUID | None = None, url: str | None = None
    ) -> Webhook:
        hook = Webhook(
            tenant_id=tenant or self.tenant,
            url=url or f"http://127.0.0.1:{self.got.port}{path}",
            secret=new_secret(),
            events=list(events),
            created_by="test",
        )
        async with self.database.main.writing(EVERY_TENANT) as session:
            session.add(hook)
        return hook

    async def emit(self, event: str = "key.created", **data: object) -> None:
        async with self.database.main.writing(self.tenant) as session:
            await emit(session, self.tenant, event, data)

    async def send(self, sender: Sender | None = None) -> int:
        """One round: everything that is due now, once."""
        sender = sender or self.sender()
        started = await sender.start_due()
        await sender.finish()
        return started

    async def rows(self) -> list[WebhookDelivery]:
        async with self.database.main.reading(EVERY_TENANT) as session:
            return list(await session.scalars(select(WebhookDelivery).order_by(WebhookDelivery.id)))
