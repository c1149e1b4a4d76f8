"""Owns cutting a file into lines as it is read, and reading one line as a request. Both meet whatever people upload."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, NamedTuple

import msgspec

from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError

# What a request may have that comes by itself, and some for the words around it.
MAX_LINE = 8 * 1024**2 + 4096
MAX_ID = 512
MAX_MODEL = 512  # as wide as its column
# Blank ones included, which are not requests. Each takes 10 us: without an end, a file of nothing else takes an hour.
MAX_LINES = 200_000


class Line(NamedTuple):
    """A line that is not blank. `content` is None for one of more than `MAX_LINE` bytes."""

    number: int
    content: bytes | None


class LineRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a line asks for; the body is read when it is run."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID)]
    method: str
    url: str
    body: msgspec.Raw


class LineModel(msgspec.Struct):
    """What is looked at of a body before it is run."""

    model: Annotated[str, msgspec.Meta(max_length=MAX_MODEL)]


class Request(NamedTuple):
    """A line of an input that was found in order."""

    number: int
    content: LineRequest


async def read_lines(source: AsyncIterator[bytes]) -> AsyncGenerator[Line]:
    """The lines of a stream, numbered from 1; blank ones are counted and left out. No more than one line and a piece
    of the stream are in memory.

    Raises:
        BadRequestError: there are more than `MAX_LINES`.
    """
    number, pending, too_long = 0, bytearray(), False
    async for piece in source:
        start = 0
        while (end := piece.find(b"\n", start)) >= 0:
            number += 1
            if number > MAX_LINES:
                raise BadRequestError(
                    f"The file has more than {MAX_LINES} lines; remove those that are blank.",
                    code="too_many_lines",
                )
            if too_long or len(pending) + end - start > MAX_LINE:
                yield Line(number, None)
            elif content := bytes(pending + piece[start:end]).strip():
                yield Line(number, content)
            pending.clear()
            too_long, start = False, end + 1
            await asyncio.sleep(0)  # whoever reads does something with it, and others want a turn
        if not too_long:
            pending += piece[start:]
        if len(pending) > MAX_LINE:
            too_long = True
            pending.clear()
    if too_long:
        yield Line(number + 1, None)
    elif content := bytes(pending).strip():
        yield Line(number + 1, content)


def read_request(line: Line, endpoint: str) -> tuple[LineRequest, str]:
    """A line as a request for `endpoint`, and the model it names.

    Raises:
        BadRequestError: it is none; the message is for whoever wrote the file.
    """
    if line.content is None:
        raise BadRequestError(
            f"The line is longer than {MAX_LINE} bytes; split the request.", code="line_too_long"
        )
    request = decode_body(line.content, LineRequest)
    if request.method != "POST":
        raise BadRequestError("method must be 'POST'.", param="method", code="invalid_method")
    if request.url != endpoint:
        raise BadRequestError(
            f"url must be {endpoint!r}, the endpoint of the batch.", param="url", code="invalid_url"
        )
    model = decode_body(bytes(request.body), LineModel).model
    if "\0" in model:  # which no database takes
        raise BadRequestError("model: remove the NUL character.", param="model")
    return request, model


async def read_judged(source: AsyncIterator[bytes], endpoint: str) -> AsyncGenerator[Request]:
    """The requests of an input that was found in order; fewer if it is deleted meanwhile, and ends in a piece of a
    line."""
    async for line in read_lines(source):
        try:
            request, _ = read_request(line, endpoint)
        except BadRequestError:
            return
        yield Request(line.number, request)
