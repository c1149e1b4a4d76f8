"""Owns the tables of what tenants have: blobs, uploads, adapters, versions, aliases, and what engines keep ready."""

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

from loraplex.platform.db.base import Base, Row, TenantOwned, WeightsBase, utc_now


class BlobState(StrEnum):
    """A blob is written chunk by chunk while uploading; only a ready one is ever read by an engine. One that is part of
    a file belongs to that alone, and engines know nothing of it."""

    UPLOADING = "uploading"
    READY = "ready"
    FILE = "file"


class Blob(Row, TenantOwned, Base):
    """One weights file, or part of a file, of one tenant; its bytes are `BlobChunk` rows. A tenant has each ready
    content once. `sha256` is empty for parts of files."""

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


class Upload(Row, TenantOwned, Base):
    """A resumable upload under way: what was asked for, and the blob that receives the bytes. `options` are those of
    the new version beside its name and config."""

    __tablename__ = "upload"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blob.id", ondelete="CASCADE"))
    adapter_name: Mapped[str] = mapped_column(String(63))
    base_model: Mapped[str] = mapped_column(String(255))
    alias: Mapped[str | None] = mapped_column(String(63))
    config: Mapped[bytes] = mapped_column(LargeBinary)
    chat_template: Mapped[str | None] = mapped_column(Text)
    options: Mapped[dict[str, object] | None]
    expires_at: Mapped[datetime]

    blob: Mapped[Blob] = relationship(lazy="raise")

    __table_args__ = (Index(None, "tenant_id"), Index(None, "blob_id"))


class Adapter(Row, TenantOwned, Base):
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


class AdapterVersion(Row, TenantOwned, Base):
    """Immutable: config and weights that were admitted for one base model. `digest` identifies both together.

    `parent_n` is the number of the version it was made from, `source` how it came here, `defaults` the sampling
    parameters of requests that name none. Its tenant is its adapter's (no foreign key: SQLite can add none).
    """

    __tablename__ = "adapter_version"

    tenant_id: Mapped[UUID] = mapped_column()
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
    parent_n: Mapped[int | None]
    source: Mapped[dict[str, object] | None]
    defaults: Mapped[dict[str, object] | None]
    created_by: Mapped[str] = mapped_column(String(12))

    adapter: Mapped[Adapter] = relationship(lazy="raise")
    blob: Mapped[Blob] = relationship(lazy="raise")

    __table_args__ = (
        UniqueConstraint("adapter_id", "n"),
        Index(None, "blob_id"),
        Index(None, "tenant_id"),
    )


class AdapterAlias(TenantOwned, Base):
    """A movable name for a version; `previous_id` is what it named before, for rollback.

    With a `split`, `[[version number, weight], ...]`, it names several versions, of which `version_id` has most weight;
    `previous_split` is the one before. Its tenant is its adapter's (no foreign key: SQLite can add none).
    """

    __tablename__ = "adapter_alias"

    tenant_id: Mapped[UUID] = mapped_column()
    adapter_id: Mapped[UUID] = mapped_column(
        ForeignKey("adapter.id", ondelete="CASCADE"), primary_key=True
    )
    alias: Mapped[str] = mapped_column(String(63), primary_key=True)
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_version.id", ondelete="CASCADE"))
    previous_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("adapter_version.id", ondelete="SET NULL")
    )
    split: Mapped[list[list[float]] | None]
    previous_split: Mapped[list[list[float]] | None]
    updated_at: Mapped[datetime] = mapped_column(default=utc_now, onupdate=utc_now)
    updated_by: Mapped[str] = mapped_column(String(12))

    version: Mapped[AdapterVersion] = relationship(lazy="raise", foreign_keys=[version_id])
    previous: Mapped[AdapterVersion | None] = relationship(lazy="raise", foreign_keys=[previous_id])

    __table_args__ = (
        Index(None, "version_id"),
        Index(None, "previous_id"),
        Index(None, "tenant_id"),
    )


class GoldenPrompt(Row, TenantOwned, Base):
    """A prompt with the answer its version gives, greedily; checked again when an engine has loaded the version.

    `expected` is None until a first answer was recorded. `result` tells what the last check found: `recorded`,
    `passed`, `failed`, None before the first. `epoch` is the engine life it was checked in last; who checks it now
    holds it until `locked_until`.
    """

    __tablename__ = "golden_prompt"

    tenant_id: Mapped[UUID] = mapped_column()
    version_id: Mapped[UUID] = mapped_column(ForeignKey("adapter_version.id", ondelete="CASCADE"))
    prompt: Mapped[dict[str, object]]
    max_tokens: Mapped[int]
    expected: Mapped[str | None] = mapped_column(Text)
    result: Mapped[str | None] = mapped_column(String(16))
    answer: Mapped[str | None] = mapped_column(Text)
    checked_at: Mapped[datetime | None]
    epoch: Mapped[str | None] = mapped_column(String(16))
    locked_until: Mapped[datetime | None]

    __table_args__ = (Index(None, "version_id"), Index(None, "tenant_id"))


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


class BlobChunk(WeightsBase):
    """Bytes `[seq · CHUNK_SIZE, ...)` of a blob. No foreign key: on SQLite the blob is in another file."""

    __tablename__ = "blob_chunk"

    blob_id: Mapped[UUID] = mapped_column(primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    data: Mapped[bytes] = mapped_column(LargeBinary)
