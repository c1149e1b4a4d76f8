"""Owns the tables of the OpenAI API's files, uploads and batches."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from loraplex.platform.db.base import Base, Row, TenantOwned


class File(Row, TenantOwned, Base):
    """A file of a tenant. Its bytes are those of its parts, in their order; `size` counts them. After `expires_at` it
    is gone for everybody, and its rows go with the next collection."""

    __tablename__ = "file"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    size: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime | None]
    created_by: Mapped[str] = mapped_column(String(12))

    __table_args__ = (Index(None, "tenant_id", "id"), Index(None, "expires_at"))


class FileUpload(Row, TenantOwned, Base):
    """A file that comes in parts: `pending`, `completed`, `cancelled`. `lifetime` are the seconds the file is to live,
    None: until it is deleted."""

    __tablename__ = "file_upload"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    filename: Mapped[str] = mapped_column(String(255))
    purpose: Mapped[str] = mapped_column(String(32))
    mime_type: Mapped[str] = mapped_column(String(255))
    size: Mapped[int] = mapped_column(BigInteger)
    lifetime: Mapped[int | None]
    state: Mapped[str] = mapped_column(String(16), default="pending")
    expires_at: Mapped[datetime]
    created_by: Mapped[str] = mapped_column(String(12))
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("file.id", ondelete="SET NULL"))

    __table_args__ = (Index(None, "tenant_id", "state"), Index(None, "file_id"))


class FilePart(Row, TenantOwned, Base):
    """Bytes of a file, or of an upload that may become one; a blob holds them. `position` orders those of a file."""

    __tablename__ = "file_part"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    blob_id: Mapped[UUID] = mapped_column(ForeignKey("blob.id", ondelete="CASCADE"))
    size: Mapped[int] = mapped_column(BigInteger)
    upload_id: Mapped[UUID | None] = mapped_column(ForeignKey("file_upload.id", ondelete="CASCADE"))
    file_id: Mapped[UUID | None] = mapped_column(ForeignKey("file.id", ondelete="CASCADE"))
    position: Mapped[int] = mapped_column(default=0)

    __table_args__ = (
        Index(None, "tenant_id"),
        Index(None, "blob_id"),
        Index(None, "upload_id"),
        Index(None, "file_id", "position"),
    )


class Batch(Row, TenantOwned, Base):
    """Requests of a file, run one by one for the key that asked. Counts are of lines that are recorded, tokens those
    of answers. Files are named without foreign keys: they may be deleted, and the batch is told of all the same.

    `errors` says why it failed, a list of OpenAI's objects under `data`; `lifetime` are the seconds its result files
    are to live.
    """

    __tablename__ = "batch"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    key_id: Mapped[str] = mapped_column(String(12))
    input_file_id: Mapped[UUID]
    endpoint: Mapped[str] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16), default="validating")
    details: Mapped[dict[str, object] | None]
    lifetime: Mapped[int | None]
    model: Mapped[str | None] = mapped_column(String(512))
    errors: Mapped[dict[str, object] | None]
    total: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    input_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    cached_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    output_file_id: Mapped[UUID | None]
    error_file_id: Mapped[UUID | None]
    expires_at: Mapped[datetime]
    in_progress_at: Mapped[datetime | None]
    finalizing_at: Mapped[datetime | None]
    completed_at: Mapped[datetime | None]
    failed_at: Mapped[datetime | None]
    expired_at: Mapped[datetime | None]
    cancelling_at: Mapped[datetime | None]
    cancelled_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "tenant_id", "id"),)


class BatchResult(TenantOwned, Base):
    """What came of one line of a batch, as it will stand in a result file; `ok` tells in which. The rows go when the
    files are written."""

    __tablename__ = "batch_result"

    batch_id: Mapped[UUID] = mapped_column(
        ForeignKey("batch.id", ondelete="CASCADE"), primary_key=True
    )
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    ok: Mapped[bool]
    body: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (Index(None, "tenant_id"),)
