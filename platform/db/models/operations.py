"""Owns the tables of what happens around requests: the audit trail, webhooks, and work in the background."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, false
from sqlalchemy.orm import Mapped, mapped_column, relationship

from loraplex.platform.db.base import Base, Row, TenantOwned, utc_now


class AuditEntry(Row, TenantOwned, Base):
    """One change somebody made; append-only, and kept when what it speaks of is gone (hence no foreign keys).

    `actor` is the id of a key or a user, `actor_name` its name at that time, `by_operator` whether it stood above
    tenants. `before` and `after` hold what changed.
    """

    __tablename__ = "audit"

    tenant_id: Mapped[UUID | None]
    actor: Mapped[str] = mapped_column(String(12))
    actor_name: Mapped[str] = mapped_column(String(254), default="", server_default="")
    by_operator: Mapped[bool] = mapped_column(default=False, server_default=false())
    address: Mapped[str] = mapped_column(String(64), default="", server_default="")
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(255))
    detail: Mapped[dict[str, object]]
    before: Mapped[dict[str, object] | None]
    after: Mapped[dict[str, object] | None]

    __table_args__ = (Index(None, "tenant_id", "id"),)


class Webhook(Row, TenantOwned, Base):
    """Where a tenant wants to be told of events; `secret` signs what is sent, until `previous_until` beside the one
    before. An empty list of `events` means all."""

    __tablename__ = "webhook"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    url: Mapped[str] = mapped_column(String(2048))
    secret: Mapped[str] = mapped_column(String(64))
    previous_secret: Mapped[str | None] = mapped_column(String(64))
    previous_until: Mapped[datetime | None]
    events: Mapped[list[str]]
    description: Mapped[str] = mapped_column(String(200), default="")
    disabled_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(12))

    __table_args__ = (Index(None, "tenant_id"),)


class WebhookDelivery(Row, TenantOwned, Base):
    """One event on its way to one webhook: `pending`, `delivered` or `failed`. Whoever sends it holds it until
    `locked_until`."""

    __tablename__ = "webhook_delivery"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    webhook_id: Mapped[UUID] = mapped_column(ForeignKey("webhook.id", ondelete="CASCADE"))
    event: Mapped[str] = mapped_column(String(64))
    body: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[str] = mapped_column(String(16), default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    next_at: Mapped[datetime] = mapped_column(default=utc_now)
    locked_until: Mapped[datetime | None]
    last_status: Mapped[int | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    ended_at: Mapped[datetime | None]

    webhook: Mapped[Webhook] = relationship(lazy="raise")

    __table_args__ = (
        Index(None, "tenant_id"),
        Index(None, "webhook_id", "id"),
        Index(None, "state", "next_at"),
    )


class Job(Row, TenantOwned, Base):
    """Work in the background that outlives the process it began in: `queued`, `running`, `succeeded` or `failed`.
    Whoever runs it holds it until `locked_until`; then another takes it up."""

    __tablename__ = "job"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    kind: Mapped[str] = mapped_column(String(32))
    state: Mapped[str] = mapped_column(String(16), default="queued")
    request: Mapped[dict[str, object]]
    result: Mapped[dict[str, object] | None]
    error: Mapped[str | None] = mapped_column(Text)
    attempts: Mapped[int] = mapped_column(default=0)
    locked_until: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(12))

    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "state", "locked_until"))
