"""Owns the tables: who there is (tenants, keys), what they have (blobs, uploads, adapters,
versions, aliases), and who changed what (audit)."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from loraplex.platform.db.base import Base, Row, WeightsBase, utc_now


class Tenant(Row, Base):
    """Owns adapters, keys and limits."""

    __tablename__ = "tenant"

    name: Mapped[str] = mapped_column(String(63), unique=True)


class ApiKey(Base):
    """An API key at rest: its public id and the SHA-256 of the whole; without a tenant it is an operator's."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(12), primary_key=True)
    tenant_id: Mapped[UUID | None] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(100))
    sha256: Mapped[str] = mapped_column(String(64))
    last4: Mapped[str] = mapped_column(String(4))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    created_by: Mapped[str | None] = mapped_column(String(12))
    revoked_at: Mapped[datetime | None]

    tenant: Mapped[Tenant | None] = relationship(lazy="raise")

    __table_args__ = (Index(None, "tenant_id"),)


class BlobState(StrEnum):
    """A blob is written chunk by chunk while uploading; only a ready one is ever read by an engine."""

    UPLOADING = "uploading"
    READY = "ready"


class Blob(Row, Base):
    """One weights file of one tenant; its bytes are `BlobChunk` rows. A tenant has each ready content once."""

    __tablename__ = "blob"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(String(16), default=BlobState.UPLOADING)

    __table_args__ = (
        Index(
            "uq_blob_ready",
            "tenant_id",
            "sha256",
            unique=True,
            sqlite_where=text("state = 'ready'"),
            postgresql_where=text("state = 'ready'"),
        ),
        Index(None, "sha256"),
    )


class Upload(Row, Base):
    """A resumable upload under way: what was asked for, and the blob that receives the bytes."""

    __tablename__ = "upload"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blob.id", ondelete="CASCADE"))
    adapter_name: Mapped[str] = mapped_column(String(63))
    base_model: Mapped[str] = mapped_column(String(255))
    alias: Mapped[str | None] = mapped_column(String(63))
    config: Mapped[bytes] = mapped_column(LargeBinary)
    chat_template: Mapped[str | None] = mapped_column(Text)
    expires_at: Mapped[datetime]

    blob: Mapped[Blob] = relationship(lazy="raise")

    __table_args__ = (Index(None, "tenant_id"), Index(None, "blob_id"))


class Adapter(Row, Base):
    """A name in a tenant. `last_version` only grows, so a version number never means two things."""

    __tablename__ = "adapter"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(63))
    last_version: Mapped[int] = mapped_column(default=0)

    __table_args__ = (UniqueConstraint("tenant_id", "name"),)


class AdapterVersion(Row, Base):
    """Immutable: config and weights that were admitted for one base model. `digest` identifies both together."""

    __tablename__ = "adapter_version"

    adapter_id: Mapped[UUID] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    n: Mapped[int]
    digest: Mapped[str] = mapped_column(String(64))
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blob.id"))
    base_model: Mapped[str] = mapped_column(String(255))
    base_fingerprint: Mapped[str] = mapped_column(String(64))
    config: Mapped[bytes] = mapped_column(LargeBinary)
    report: Mapped[dict[str, object]]
    rank: Mapped[int]
    chat_template: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16), default="ready")
    created_by: Mapped[str] = mapped_column(String(12))

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    blob: Mapped[Blob] = relationship(lazy="raise")

    __table_args__ = (UniqueConstraint("adapter_id", "n"), Index(None, "blob_id"))


class AdapterAlias(Base):
    """A movable name for a version; `previous_id` is what it named before, for rollback."""

    __tablename__ = "adapter_alias"

    adapter_id: Mapped[UUID] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    alias: Mapped[str] = mapped_column(String(63), primary_key=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_version.id", ondelete="CASCADE"))
    previous_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("adapter_version.id", ondelete="SET NULL")
    )
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    updated_by: Mapped[str] = mapped_column(String(12))

    version: Mapped[AdapterVersion] = relationship(lazy="raise", foreign_keys=[version_id])
    previous: Mapped[AdapterVersion | None] = relationship(lazy="raise", foreign_keys=[previous_id])

    __table_args__ = (Index(None, "version_id"), Index(None, "previous_id"))


class AuditEntry(Row, Base):
    """One change somebody made; append-only, and kept when what it speaks of is gone (hence no foreign keys)."""

    __tablename__ = "audit"

    tenant_id: Mapped[UUID | None]
    actor: Mapped[str] = mapped_column(String(12))
    action: Mapped[str] = mapped_column(String(64))
    target: Mapped[str] = mapped_column(String(255))
    detail: Mapped[dict[str, object]]

    __table_args__ = (Index(None, "tenant_id", "id"),)


class BlobChunk(WeightsBase):
    """Bytes `[seq · CHUNK_SIZE, ...)` of a blob. No foreign key: on SQLite the blob is in another file."""

    __tablename__ = "blob_chunk"

    blob_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
