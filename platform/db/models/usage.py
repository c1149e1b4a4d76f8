"""Owns the tables of what is used: limits and their meters, prices, the ledger and its sums."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Index, String, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from loraplex.platform.db.base import Base, Row, TenantOwned, utc_now


class Limit(Row, TenantOwned, Base):
    """What a subject may use: a tenant (`subject_id` its id), a key (its id) or an adapter (its id). None: no limit.

    Money is in billionths of the currency unit.
    """

    __tablename__ = "usage_limit"

    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    subject: Mapped[str] = mapped_column(String(8))
    subject_id: Mapped[str] = mapped_column(String(36))
    requests_per_minute: Mapped[int | None]
    tokens_per_minute: Mapped[int | None] = mapped_column(BigInteger)
    max_concurrent: Mapped[int | None]
    tokens_per_month: Mapped[int | None] = mapped_column(BigInteger)
    cost_per_month_nanos: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (UniqueConstraint("subject", "subject_id"), Index(None, "tenant_id"))


class Meter(TenantOwned, Base):
    """Where a limited subject stands. Changed only in the transactions that reserve and settle ledger rows, so it
    cannot drift from them.

    `window` is `[[slot, requests, tokens], ...]` of the last minute, a slot being a few seconds of Unix time; `month`
    is `YYYY-MM` in UTC, of which the sums are; reserved counts as used until it is settled.
    """

    __tablename__ = "meter"

    subject: Mapped[str] = mapped_column(String(8), primary_key=True)
    subject_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(ForeignKey("tenant.id", ondelete="CASCADE"))
    running: Mapped[int] = mapped_column(default=0)
    window: Mapped[list[list[int]]]
    month: Mapped[str] = mapped_column(String(7))
    month_tokens: Mapped[int] = mapped_column(BigInteger, default=0)
    month_cost_nanos: Mapped[int] = mapped_column(BigInteger, default=0)

    __table_args__ = (Index(None, "tenant_id"),)


class Price(Row, Base):
    """Billionths of the currency unit per token on a base model, or of one adapter on it. Zero unless set."""

    __tablename__ = "price"

    base_model: Mapped[str] = mapped_column(String(255))
    adapter_id: Mapped[UUID | None] = mapped_column(ForeignKey("adapter.id", ondelete="CASCADE"))
    input_nanos: Mapped[int] = mapped_column(BigInteger)
    cached_nanos: Mapped[int] = mapped_column(BigInteger)
    output_nanos: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        UniqueConstraint("base_model", "adapter_id"),
        # NULLs are distinct to a unique constraint.
        Index(
            "uq_price_of_base",
            "base_model",
            unique=True,
            sqlite_where=text("adapter_id IS NULL"),
            postgresql_where=text("adapter_id IS NULL"),
        ),
        Index(None, "adapter_id"),
    )


class ApiWorker(Base):
    """One API worker process that lives, or died less than a lease ago. Whose heartbeat stands still is dead, and what
    it had reserved is settled by another.

    `host`, `pid` and `birth` name the process for others on the same host, see `reaper.process_identity`; `service` is
    the same for workers that talk to the same engines.
    """

    __tablename__ = "api_worker"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    host: Mapped[str] = mapped_column(String(255))
    pid: Mapped[int]
    birth: Mapped[int] = mapped_column(BigInteger)
    service: Mapped[str] = mapped_column(String(64))
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    heartbeat_at: Mapped[datetime] = mapped_column(default=utc_now)


class LedgerEntry(Row, TenantOwned, Base):
    """One request: reserved before an engine sees it, settled with what it took and where its time went.

    Kept when the adapter is gone (hence no foreign keys). `state` is `reserved`, `settled`, or `reaped`: settled by
    another worker from what the engine knew. `key_id` is a key's or, from the playground, a user's id; `answer_id` the
    id in the answer's body; `choices` how many generations ran. While reserved, `finish_reason` is `running`,
    `reserved_tokens` and `reserved_nanos` what limits count for it, `worker_id` who works on it; `limited` names the
    meters that count it. `input_nanos`, `cached_nanos` and `output_nanos` are the prices per token when it was
    reserved, at which it is settled. Tokens are those handed over. Times are milliseconds: `first_token_ms` and
    `total_ms` as the API worker saw them, the four others as the engine did for the choice that ended last; they are
    unknown where the engine did not end the request. `evicted_by` is the identity of the adapter whose arrival had
    pushed this request's adapter out, or "kv". `batch_id` is the batch that asked, None if a client did.
    """

    __tablename__ = "ledger"

    tenant_id: Mapped[UUID] = mapped_column()
    key_id: Mapped[str] = mapped_column(String(12))
    answer_id: Mapped[str] = mapped_column(String(64))
    endpoint: Mapped[str] = mapped_column(String(16), server_default="")
    state: Mapped[str] = mapped_column(String(8), server_default="settled")
    worker_id: Mapped[UUID | None]
    choices: Mapped[int] = mapped_column(server_default="1")
    base_model: Mapped[str] = mapped_column(String(255))
    adapter: Mapped[str | None] = mapped_column(String(63))
    version: Mapped[int | None]
    version_id: Mapped[UUID | None]
    digest: Mapped[str | None] = mapped_column(String(64))
    finish_reason: Mapped[str] = mapped_column(String(16))
    prompt_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    reserved_tokens: Mapped[int] = mapped_column(BigInteger, server_default="0")
    reserved_nanos: Mapped[int] = mapped_column(BigInteger, server_default="0")
    input_nanos: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cached_nanos: Mapped[int] = mapped_column(BigInteger, server_default="0")
    output_nanos: Mapped[int] = mapped_column(BigInteger, server_default="0")
    cost_nanos: Mapped[int] = mapped_column(BigInteger, server_default="0")
    limited: Mapped[list[list[str]] | None]
    total_ms: Mapped[float]
    first_token_ms: Mapped[float | None]
    queue_ms: Mapped[float | None]
    load_ms: Mapped[float | None]
    prefill_ms: Mapped[float | None]
    decode_ms: Mapped[float | None]
    preemptions: Mapped[int]
    evicted_by: Mapped[str | None] = mapped_column(String(128))
    batch_id: Mapped[UUID | None]

    __table_args__ = (
        Index(None, "tenant_id", "id"),
        Index(None, "tenant_id", "adapter", "id"),
        Index(None, "tenant_id", "key_id", "id"),
        Index(None, "answer_id"),
        Index(
            "ix_ledger_reserved",
            "worker_id",
            sqlite_where=text("state = 'reserved'"),
            postgresql_where=text("state = 'reserved'"),
        ),
    )


class UsageRollup(TenantOwned, Base):
    """Sums of settled requests over one minute, hour or day (`unit` m, h, d) that begins at `start`, by when they were
    reserved. `adapter` is empty for the base model itself, `version` then 0."""

    __tablename__ = "usage_rollup"

    unit: Mapped[str] = mapped_column(String(1), primary_key=True)
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    start: Mapped[datetime] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(String(12), primary_key=True)
    base_model: Mapped[str] = mapped_column(String(255), primary_key=True)
    adapter: Mapped[str] = mapped_column(String(63), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    requests: Mapped[int] = mapped_column(BigInteger)
    errors: Mapped[int] = mapped_column(BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    output_tokens: Mapped[int] = mapped_column(BigInteger)
    cost_nanos: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "unit", "start"),)
