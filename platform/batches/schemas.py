"""Owns the bodies of the routes of batches, as the OpenAI API has them."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, convert

from loraplex.platform.db.models import Batch
from loraplex.platform.files.ids import BATCH, FILE, optional, shown
from loraplex.platform.files.schemas import ExpiresAfter, unix, unix_or_none

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
Key = Annotated[str, Meta(max_length=64)]
Value = Annotated[str, Meta(max_length=512)]
Metadata = Annotated[dict[Key, Value], Meta(max_length=16)]


class NewBatch(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be run."""

    input_file_id: str
    endpoint: Endpoint
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class BatchFault(Struct):
    """Why a batch failed; `line` is of the input file, counted from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchFaults(Struct):
    """The first of them."""

    data: list[BatchFault]
    object: Literal["list"] = "list"


class RequestCounts(Struct):
    """Lines in all, and those that are through."""

    total: int
    completed: int
    failed: int


class InputDetails(Struct):
    cached_tokens: int


class OutputDetails(Struct):
    reasoning_tokens: int = 0


class BatchUsage(Struct):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class BatchOut(Struct):
    """A batch."""

    id: str
    endpoint: str
    input_file_id: str
    status: str
    model: str | None
    errors: BatchFaults | None
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    completion_window: Literal["24h"] = "24h"
    object: Literal["batch"] = "batch"

    @classmethod
    def of(cls, row: Batch) -> "BatchOut":
        """As it is stored."""
        read, written = row.input_tokens, row.output_tokens
        return cls(
            shown(BATCH, row.id),
            row.endpoint,
            shown(FILE, row.input_file_id),
            row.status,
            row.model,
            None if row.errors is None else convert(row.errors, BatchFaults),
            optional(FILE, row.output_file_id),
            optional(FILE, row.error_file_id),
            unix(row.created_at),
            unix_or_none(row.in_progress_at),
            unix(row.expires_at),
            unix_or_none(row.finalizing_at),
            unix_or_none(row.completed_at),
            unix_or_none(row.failed_at),
            unix_or_none(row.expired_at),
            unix_or_none(row.cancelling_at),
            unix_or_none(row.cancelled_at),
            RequestCounts(row.total, row.completed, row.failed),
            BatchUsage(
                read, InputDetails(row.cached_tokens), written, OutputDetails(), read + written
            ),
            None if row.details is None else convert(row.details, dict[str, str]),
        )


class BatchPage(Struct):
    """Batches, newest first, and whether there are more."""

    data: list[BatchOut]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"
