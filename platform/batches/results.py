"""Owns the lines of result files, and writing these files."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from uuid import UUID, uuid4

import msgspec

from loraplex.platform.error_responses import openai_body
from loraplex.platform.errors import PlatformError
from loraplex.platform.files.contents import Contents
from loraplex.platform.forms import open_spool, pieces
from loraplex.platform.one_line import one_line


class LineResponse(msgspec.Struct):
    """What the request would have been answered, had it come by itself."""

    status_code: int
    request_id: str
    body: msgspec.Raw


class LineError(msgspec.Struct):
    """Why there is no answer."""

    code: str
    message: str


class ResultLine(msgspec.Struct):
    """A line of a result file."""

    id: str
    custom_id: str
    response: LineResponse | None
    error: LineError | None


class Stored(NamedTuple):
    """The bytes of a result file that is not one yet."""

    blob_id: UUID
    size: int


def answered(custom_id: str, answer: bytes) -> bytes:
    """The line of a request that was answered."""
    return _line(custom_id, LineResponse(200, _request_id(), msgspec.Raw(answer)), None)


def refused(custom_id: str, error: PlatformError) -> bytes:
    """The line of a request that was refused or failed."""
    body = msgspec.Raw(msgspec.json.encode(openai_body(error)))
    return _line(custom_id, LineResponse(error.status, _request_id(), body), None)


def never_run(custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that did not get its turn."""
    return _line(custom_id, None, LineError(code, message))


async def store_lines(
    contents: Contents, tenant_id: UUID, folder: Path, lines: AsyncIterator[bytes]
) -> Stored | None:
    """Write lines to a blob, by way of a file under `folder`; None if there are none.

    What a tenant has paid for is kept, also where it is more than it may store; then it can store nothing else.
    """
    with await asyncio.to_thread(open_spool, folder) as spool:
        size = 0
        async for line in lines:
            size += await asyncio.to_thread(spool.write, line)
        if not size:
            return None
        spool.seek(0)
        blob_id = await contents.store(tenant_id, size, pieces(spool), limited=False)
        return Stored(blob_id, size)


def _line(custom_id: str, response: LineResponse | None, error: LineError | None) -> bytes:
    line = ResultLine(f"batch_req_{uuid4().hex}", custom_id, response, error)
    return one_line(msgspec.json.encode(line)) + b"\n"


def _request_id() -> str:
    return f"req_{uuid4().hex}"
