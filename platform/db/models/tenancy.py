"""Owns the tables of who there is: tenants and their API keys."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column, relationship

from loraplex.platform.db.base import Base, Row, TenantOwned, utc_now


class Tenant(Row, Base):
    """Owns adapters, keys and limits.

    `weight` is its share of a busy engine beside other tenants; `max_running` how many of its requests an engine works
    on at once; `storage_limit` bytes of stored weights; `ledger_days` how long its ledger rows are kept. None: without
    a limit of its own.
    """

    __tablename__ = "tenant"

    name: Mapped[str] = mapped_column(String(63), unique=True)
    weight: Mapped[float] = mapped_column(default=1.0, server_default="1")
    max_running: Mapped[int | None]
    storage_limit: Mapped[int | None] = mapped_column(BigInteger)
    ledger_days: Mapped[int | None]


class ApiKey(TenantOwned, Base):
    """An API key at rest: its public id and the SHA-256 of the whole; without a tenant it is an operator's.

    `adapters` are the names it may use and see, None for all. `replaces` is the key it was rotated from, which ends by
    its own `expires_at`.
    """

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64))
    last4: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]]
    adapters: Mapped[list[str] | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str | None] = mapped_column(String(12))
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    replaces: Mapped[str | None] = mapped_column(String(12))

    tenant: Mapped[Tenant | None] = relationship(lazy="raise")

    __table_args__ = (Index(None, "tenant_id"),)
