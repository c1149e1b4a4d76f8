"""Owns reading a multipart body as it arrives: small text parts in memory, the one file in a nameless temporary file
that the kernel removes with the process. Litestar's own reader keeps a part without a file name in memory whatever its
size."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

from multipart import (  # type: ignore[import-untyped]  # ships no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from loraplex.platform.errors import BadRequestError, PayloadTooLargeError

PIECE = 1024 * 1024


class FormShape(NamedTuple):
    """What a form has.

    Attributes:
        what: is sent by it, for messages.
        texts: the text parts it may have; `text_limit` bytes each.
        file: the part that is a file, which must be there; `wanted` says what to send as it.
        file_limit: bytes of the file.
    """

    what: str
    texts: tuple[str, ...]
    text_limit: int
    file: str
    wanted: str
    file_limit: int


@dataclass(slots=True)
class Form:
    """The parts that came. `file` is rewound; whoever has the form closes it. `filename` is its name at the client."""

    texts: dict[str, bytes]
    file: IO[bytes]
    filename: str
    size: int

    def text(self, part: str) -> str | None:
        """A text part, or None when it is absent or empty.

        Raises:
            BadRequestError: not UTF-8.
        """
        try:
            return self.texts.get(part, b"").decode() or None
        except UnicodeDecodeError as error:
            raise BadRequestError(f"{part}: this is not UTF-8 text.", param=part) from error

    def required(self, part: str) -> str:
        """A text part that must be there.

        Raises:
            BadRequestError: it is not.
        """
        value = self.text(part)
        if value is None:
            raise BadRequestError(f"{part}: this part is required.", param=part)
        return value


async def read_form(
    content_type: str, body: AsyncIterator[bytes], folder: Path, shape: FormShape
) -> Form:
    """Read `body` to its end, spooling the file under `folder`.

    Raises:
        BadRequestError: not multipart, malformed, an unknown, repeated or missing part.
        PayloadTooLargeError: a part above its limit.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary")
    if kind != "multipart/form-data" or not boundary:
        raise BadRequestError(f"Send the {shape.what} as multipart/form-data with a boundary.")
    file = await asyncio.to_thread(open_spool, folder)
    reader = _Reader(file, shape)
    try:
        with PushMultipartParser(boundary, max_segment_count=len(shape.texts) + 1) as parser:
            async for piece in body:
                # An empty piece would tell the parser that the body has ended.
                for event in parser.parse(piece) if piece else ():
                    await reader.take(event)
            parser.close()
        await reader.finish()
    except MultipartError as error:
        file.close()
        raise BadRequestError(
            "The multipart body is malformed or broke off; send it again."
        ) from error
    except BaseException:
        file.close()
        raise
    return Form(reader.texts, file, reader.filename, reader.size)


def open_spool(folder: Path) -> IO[bytes]:
    """A nameless file under `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


async def pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """What is left of an open file, read in threads."""
    while piece := await asyncio.to_thread(file.read, PIECE):
        yield piece


class _Reader:
    """Collects what the parser reports."""

    def __init__(self, file: IO[bytes], shape: FormShape) -> None:
        self.texts: dict[str, bytes] = {}
        self.filename = ""
        self.size = 0
        self._file = file
        self._shape = shape
        self._pending = bytearray()
        self._seen: set[str] = set()
        self._part = ""

    async def take(self, event: MultipartSegment | bytearray | None) -> None:
        if event is None:
            return
        if isinstance(event, MultipartSegment):
            self._begin(event.name)
            if event.name == self._shape.file:
                self.filename = event.filename or ""
        elif self._part == self._shape.file:
            self.size += len(event)
            self._check(self.size, self._shape.file_limit)
            self._pending += event
            if len(self._pending) >= PIECE:
                await self._flush()
        else:
            text = self.texts.get(self._part, b"") + bytes(event)
            self._check(len(text), self._shape.text_limit)
            self.texts[self._part] = text

    async def finish(self) -> None:
        part = self._shape.file
        if part not in self._seen:
            raise BadRequestError(f"{part}: {self._shape.wanted}.", param=part)
        await self._flush()
        self._file.seek(0)

    def _begin(self, part: str) -> None:
        parts = (*self._shape.texts, self._shape.file)
        if part not in parts:
            known = ", ".join(parts)
            raise BadRequestError(f"There is no part {part[:63]!r}; send only {known}.")
        if part in self._seen:
            raise BadRequestError(f"{part}: send this part once.", param=part)
        self._seen.add(part)
        self._part = part

    def _check(self, size: int, limit: int) -> None:
        if size > limit:
            number = f"{limit // 1024} KiB" if limit < 1024**2 else f"{limit // 1024**2} MiB"
            raise PayloadTooLargeError(
                f"{self._part}: at most {number} are allowed.", param=self._part
            )

    async def _flush(self) -> None:
        data, self._pending = self._pending, bytearray()
        await asyncio.to_thread(self._file.write, data)
