"""Owns the table of answers that are kept to build on."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from loraplex.platform.db.base import Base, Row, TenantOwned


class StoredResponse(Row, TenantOwned, Base):
    """One answer of the Responses API, with what it was asked.

    `subject` is the adapter or base model that answered, by which keys that are confined to some see it. `input` and
    `response` are JSON: the items of its own request, and the whole object. `chain` are the ids of the responses it
    builds on, oldest first. `size` is the bytes of both; it goes at `expires_at`, which is put off when another one
    builds on it.
    """

    __tablename__ = "stored_response"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    response_id: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(String(255))
    input: Mapped[bytes] = mapped_column(LargeBinary)
    response: Mapped[bytes] = mapped_column(LargeBinary)
    chain: Mapped[list[str]]
    size: Mapped[int]
    expires_at: Mapped[datetime]

    __table_args__ = (
        Index(None, "tenant_id", "response_id", unique=True),
        # Sums of what a tenant keeps, and what goes first, are read from this alone.
        Index(None, "tenant_id", "expires_at", "size"),
        Index(None, "expires_at"),
    )
