"""Owns the JSON of jobs."""

from datetime import datetime
from typing import cast

from msgspec import Struct

from loraplex.platform.db.models import Job


class JobProgress(Struct):
    """How much of a job is done, in bytes; `total` is null until it is known."""

    done: int
    total: int | None


class JobOut(Struct):
    """A job: `queued`, `running`, `succeeded` or `failed`. `request` is what was asked for, without secrets; `result`
    what came of it, `error` why nothing did."""

    id: str
    kind: str
    state: str
    created_at: datetime
    created_by: str
    ended_at: datetime | None
    attempts: int
    request: dict[str, object]
    progress: JobProgress | None
    result: dict[str, object] | None
    error: str | None

    @classmethod
    def of(cls, row: Job) -> "JobOut":
        ended = row.ended_at is not None
        return cls(
            id=str(row.id),
            kind=row.kind,
            state=row.state,
            created_at=row.created_at,
            created_by=row.created_by,
            ended_at=row.ended_at,
            attempts=row.attempts,
            request={key: value for key, value in row.request.items() if key != "actor"},
            progress=None if ended else _progress(row),
            result=row.result if ended else None,
            error=row.error,
        )


class JobList(Struct):
    """A page of jobs, newest first; `next` is the `before` of the following page."""

    data: list[JobOut]
    next: str | None


def _progress(row: Job) -> JobProgress | None:
    stored = (row.result or {}).get("progress")
    if not isinstance(stored, dict):
        return None
    return JobProgress(cast("int", stored["done"]), cast("int | None", stored["total"]))
