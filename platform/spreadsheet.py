"""Owns CSV: how lists of the API are written as files for spreadsheets."""

import csv
import io
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIResponse, Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import QueryParameter

CSV = "text/csv; charset=utf-8"
# A spreadsheet takes a cell that begins so for a formula, and what tenants name things is theirs to choose.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class Format(StrEnum):
    """How a list is answered."""

    JSON = "json"
    CSV = "csv"


FormatQuery = Annotated[
    Format, QueryParameter(name="format", description="json: a page; csv: everything, as a file")
]


@dataclass
class CsvOperation(Operation):
    """A page as JSON, or everything as CSV."""

    def __post_init__(self) -> None:
        answer = (self.responses or {}).get("200")
        if isinstance(answer, OpenAPIResponse) and answer.content is not None:
            answer.content["text/csv"] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))


async def csv_file(
    columns: Sequence[str], pages: AsyncIterator[Sequence[msgspec.Struct]]
) -> AsyncGenerator[bytes]:
    """The columns of all rows, a page at a time, under a line with their names."""
    yield csv_rows([columns])
    async for page in pages:
        yield csv_rows([getattr(row, name) for name in columns] for row in page)


def csv_rows(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as RFC 4180 writes them."""
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode().strip('"')
    # Numbers are ours, and a spreadsheet shall add them up.
    harmless = isinstance(value, int | float) or not text.startswith(_FORMULA)
    return text if harmless else f"'{text}"
