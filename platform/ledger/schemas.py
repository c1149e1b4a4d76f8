"""Owns the JSON of the ledger."""

from datetime import datetime
from uuid import UUID

from msgspec import Struct

from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.files.ids import BATCH, optional
from loraplex.platform.limits.money import amount
from loraplex.platform.residency.names import AdapterName, evictor


class RequestOut(Struct):
    """One request: what it took and cost, and where its time went, in milliseconds.

    While it is `reserved` it runs, and its tokens and times are 0. `total_ms` and `first_token_ms` are what the API
    worker saw. `queue_ms`, `load_ms`, `prefill_ms` and `decode_ms` are the engine's, disjoint, and null where it did
    not end the request.
    """

    id: str
    tenant: str
    key: str
    answer_id: str
    endpoint: str
    state: str
    choices: int
    created_at: datetime
    base: str
    adapter: str | None
    version: int | None
    digest: str | None
    finish_reason: str
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    cost: float
    total_ms: float
    first_token_ms: float | None
    queue_ms: float | None
    load_ms: float | None
    prefill_ms: float | None
    decode_ms: float | None
    preemptions: int
    evicted_by: str | None
    batch: str | None

    @classmethod
    def of(
        cls, row: LedgerEntry, tenant: str, viewer: UUID | None, names: dict[str, AdapterName]
    ) -> "RequestOut":
        return cls(
            id=str(row.id),
            tenant=tenant,
            key=row.key_id,
            answer_id=row.answer_id,
            endpoint=row.endpoint,
            state=row.state,
            choices=row.choices,
            created_at=row.created_at,
            base=row.base_model,
            adapter=row.adapter,
            version=row.version,
            digest=row.digest,
            finish_reason=row.finish_reason,
            prompt_tokens=row.prompt_tokens,
            cached_tokens=row.cached_tokens,
            output_tokens=row.output_tokens,
            cost=amount(row.cost_nanos),
            total_ms=row.total_ms,
            first_token_ms=row.first_token_ms,
            queue_ms=row.queue_ms,
            load_ms=row.load_ms,
            prefill_ms=row.prefill_ms,
            decode_ms=row.decode_ms,
            preemptions=row.preemptions,
            evicted_by=evictor(row.evicted_by, viewer, names),
            batch=optional(BATCH, row.batch_id),
        )


class RequestList(Struct):
    """A page of requests, newest first; `next` is the `before` of the following page. A page may hold few rows, or
    none, and be followed by others: it looked at as many rows as one page may."""

    data: list[RequestOut]
    next: str | None
