"""Owns the tables: who there is (tenants, keys), what they have (blobs, uploads, adapters,
versions, aliases), what engines keep ready, what was served (ledger), and who changed what (audit)."""

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
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column, relationship

from loraplex.platform.db.base import Base, Row, WeightsBase, utc_now


class Tenant(Row, Base):
    """Owns adapters, keys and limits.

    `weight` is its share of a busy engine beside other tenants; `max_running` how many of its requests an engine works
    on at once, None without a limit.
    """

    __tablename__ = "tenant"

    name: Mapped[str] = mapped_column(String(63), unique=True)
    weight: Mapped[float] = mapped_column(default=1.0, server_default="1")
    max_running: Mapped[int | None]


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
    """A name in a tenant. `last_version` only grows, so a version number never means two things.

    What a pinned adapter serves stays in the memory of its engines; `max_running` is how many requests for one version
    of it an engine works on at once.
    """

    __tablename__ = "adapter"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    name: Mapped[str] = mapped_column(String(63))
    last_version: Mapped[int] = mapped_column(default=0)
    pinned: Mapped[bool] = mapped_column(default=False, server_default=false())
    max_running: Mapped[int | None]

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


class WarmAdapter(Base):
    """One adapter version an engine had in memory, most useful first by `position`: loaded again after a restart."""

    __tablename__ = "warm_adapter"

    base_fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    adapter_version_id: Mapped[UUID] = mapped_column(
        ForeignKey("adapter_version.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)

    __table_args__ = (Index(None, "adapter_version_id"),)


class LedgerEntry(Row, Base):
    """One generation that was handed to an engine: what it took, and where its time went.

    Kept when the adapter is gone (hence no foreign keys). `answer_id` is the id in the answer's body, `choice` the
    index in it. Times are milliseconds: `first_token_ms` and `total_ms` as the API worker saw them, the four others as
    the engine did; they are unknown where the engine did not end the request. `evicted_by` is the identity of the
    adapter whose arrival had pushed this request's adapter out, or "kv".
    """

    __tablename__ = "ledger"

    tenant_id: Mapped[UUID]
    key_id: Mapped[str] = mapped_column(String(12))
    answer_id: Mapped[str] = mapped_column(String(64))
    choice: Mapped[int]
    base_model: Mapped[str] = mapped_column(String(255))
    adapter: Mapped[str | None] = mapped_column(String(63))
    version: Mapped[int | None]
    version_id: Mapped[UUID | None]
    digest: Mapped[str | None] = mapped_column(String(64))
    finish_reason: Mapped[str] = mapped_column(String(16))
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    total_ms: Mapped[float]
    first_token_ms: Mapped[float | None]
    queue_ms: Mapped[float | None]
    load_ms: Mapped[float | None]
    prefill_ms: Mapped[float | None]
    decode_ms: Mapped[float | None]
    preemptions: Mapped[int]
    evicted_by: Mapped[str | None] = mapped_column(String(128))

    __table_args__ = (
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "adapter", "id"),
        Index(None, "answer_id"),
    )


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
