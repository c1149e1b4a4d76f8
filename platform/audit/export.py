"""Owns the audit trail as files: JSON Lines and CSV, written page by page."""

from collections.abc import AsyncGenerator, AsyncIterator
from enum import StrEnum

import msgspec

from loraplex.platform.audit.schemas import AuditOut
from loraplex.platform.spreadsheet import CSV, csv_file

COLUMNS = AuditOut.__struct_fields__


class TrailFormat(StrEnum):
    """How entries are written."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"


MEDIA_TYPES = {TrailFormat.JSONL: "application/x-ndjson", TrailFormat.CSV: CSV}


async def exported(
    pages: AsyncIterator[list[AuditOut]], form: TrailFormat
) -> AsyncGenerator[bytes]:
    """The entries as bytes, a page at a time; CSV begins with the names of its columns."""
    if form is TrailFormat.CSV:
        async for lines in csv_file(COLUMNS, pages):
            yield lines
        return
    async for page in pages:
        yield msgspec.json.Encoder().encode_lines(page)
