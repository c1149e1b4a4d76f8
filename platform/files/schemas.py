"""Owns the bodies of the routes of files and uploads, as the OpenAI API has them."""

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from loraplex.platform.db.models import File, FilePart, FileUpload
from loraplex.platform.files.ids import FILE, PART, UPLOAD, shown

# What clients may say a file is for; `batch_output` is what the server itself makes.
Purpose = Literal["assistants", "batch", "fine-tune", "vision", "user_data", "evals"]
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
BATCH_OUTPUT = "batch_output"
UploadState = Literal["pending", "completed", "cancelled", "expired"]
Text = Annotated[str, Meta(min_length=1, max_length=255)]
HOUR, MONTH = 3600, 30 * 24 * 3600


class ExpiresAfter(Struct, frozen=True, forbid_unknown_fields=True):
    """How long a file is to live, counted from when it is made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Meta(ge=HOUR, le=MONTH)]


class FileOut(Struct):
    """A file. `status` is always the same: files are not looked into when they come."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    expires_at: int | None
    object: Literal["file"] = "file"
    status: Literal["processed"] = "processed"
    status_details: None = None

    @classmethod
    def of(cls, row: File) -> "FileOut":
        """As it is stored."""
        return cls(
            shown(FILE, row.id),
            row.size,
            unix(row.created_at),
            row.filename,
            row.purpose,
            unix_or_none(row.expires_at),
        )


class FilePage(Struct):
    """Files, and whether there are more."""

    data: list[FileOut]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class FileDeleted(Struct):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class NewUpload(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to come in parts."""

    filename: Text
    purpose: Purpose
    bytes: Annotated[int, Meta(ge=1, le=8 * 1024**3)]
    mime_type: Text
    expires_after: ExpiresAfter | None = None


class UploadParts(Struct, frozen=True, forbid_unknown_fields=True):
    """The parts of the whole, in their order; `md5` is the whole's, in hex digits."""

    part_ids: Annotated[list[str], Meta(min_length=1, max_length=10_000)]
    md5: str | None = None


class FileUploadOut(Struct):
    """An upload; `file` is what became of it."""

    id: str
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: UploadState
    file: FileOut | None
    object: Literal["upload"] = "upload"

    @classmethod
    def of(cls, row: FileUpload, status: UploadState, file: File | None = None) -> "FileUploadOut":
        """As it is stored, in a state that time may have changed."""
        return cls(
            shown(UPLOAD, row.id),
            row.size,
            unix(row.created_at),
            unix(row.expires_at),
            row.filename,
            row.purpose,
            status,
            None if file is None else FileOut.of(file),
        )


class UploadPartOut(Struct):
    """A part that has arrived."""

    id: str
    created_at: int
    upload_id: str
    object: Literal["upload.part"] = "upload.part"

    @classmethod
    def of(cls, row: FilePart) -> "UploadPartOut":
        """As it is stored."""
        assert row.upload_id is not None
        return cls(shown(PART, row.id), unix(row.created_at), shown(UPLOAD, row.upload_id))


def unix(moment: datetime) -> int:
    """Whole seconds since 1970."""
    return int(moment.timestamp())


def unix_or_none(moment: datetime | None) -> int | None:
    """The same of a moment that may not have come."""
    return None if moment is None else unix(moment)
