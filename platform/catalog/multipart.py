"""Owns reading an adapter upload from a multipart body as it arrives: small text parts in memory,
the weights in a nameless temporary file that the kernel removes with the process. Litestar's own
reader keeps a part without a file name in memory whatever its size."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from multipart import (  # type: ignore[import-untyped]  # ships no types
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)

from loraplex.platform.errors import BadRequestError, PayloadTooLargeError

TEXT_LIMIT = 64 * 1024  # bytes of `config` and of every text part
TEXT_PARTS = (
    "name",
    "config",
    "base",
    "alias",
    "chat_template",
    "parent",
    "defaults",
    "golden",
)
PIECE = 1024 * 1024


@dataclass(slots=True)
class AdapterForm:
    """The parts of an upload. `weights` is rewound; whoever has the form closes it."""

    texts: dict[str, bytes]
    weights: IO[bytes]

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


async def read_adapter_form(
    content_type: str, body: AsyncIterator[bytes], folder: Path
) -> AdapterForm:
    """Read `body` to its end, spooling the weights under `folder`.

    Raises:
        BadRequestError: not multipart, malformed, an unknown, repeated or missing part.
        PayloadTooLargeError: a text part above `TEXT_LIMIT`.
    """
    kind, options = parse_options_header(content_type)
    boundary = options.get("boundary")
    if kind != "multipart/form-data" or not boundary:
        raise BadRequestError("Send the adapter as multipart/form-data with a boundary.")
    weights = await asyncio.to_thread(open_spool, folder)
    reader = _Reader(weights)
    try:
        with PushMultipartParser(boundary, max_segment_count=len(TEXT_PARTS) + 1) as parser:
            async for piece in body:
                # An empty piece would tell the parser that the body has ended.
                for event in parser.parse(piece) if piece else ():
                    await reader.take(event)
            parser.close()
        await reader.finish()
    except MultipartError as error:
        weights.close()
        raise BadRequestError(
            "The multipart body is malformed or broke off; send it again."
        ) from error
    except BaseException:
        weights.close()
        raise
    return AdapterForm(reader.texts, weights)


def open_spool(folder: Path) -> IO[bytes]:
    """A nameless file under `folder`, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=folder)


class _Reader:
    """Collects what the parser reports."""

    def __init__(self, weights: IO[bytes]) -> None:
        self.texts: dict[str, bytes] = {}
        self._weights = weights
        self._pending = bytearray()
        self._seen: set[str] = set()
        self._part = ""

    async def take(self, event: MultipartSegment | bytearray | None) -> None:
        if event is None:
            return
        if isinstance(event, MultipartSegment):
            self._begin(event.name)
        elif self._part == "weights":
            self._pending += event
            if len(self._pending) >= PIECE:
                await self._flush()
        else:
            text = self.texts.get(self._part, b"") + bytes(event)
            if len(text) > TEXT_LIMIT:
                raise PayloadTooLargeError(
                    f"{self._part}: at most {TEXT_LIMIT // 1024} KiB are allowed.", param=self._part
                )
            self.texts[self._part] = text

    async def finish(self) -> None:
        if "weights" not in self._seen:
            raise BadRequestError(
                "weights: send adapter_model.safetensors as this part.", param="weights"
            )
        await self._flush()
        self._weights.seek(0)

    def _begin(self, part: str) -> None:
        if part not in (*TEXT_PARTS, "weights"):
            known = ", ".join((*TEXT_PARTS, "weights"))
            raise BadRequestError(f"There is no part {part[:63]!r}; send only {known}.")
        if part in self._seen:
            raise BadRequestError(f"{part}: send this part once.", param=part)
        self._seen.add(part)
        self._part = part

    async def _flush(self) -> None:
        data, self._pending = self._pending, bytearray()
        await asyncio.to_thread(self._weights.write, data)
