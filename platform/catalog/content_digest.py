"""Owns `Content-Digest` (RFC 9530) of the parts of an upload: a part that has one is looked at before any of it is
stored, so that it can be sent again as it was meant."""

import asyncio
import base64
import binascii
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from loraplex.platform.errors import BadRequestError, PayloadTooLargeError
from loraplex.platform.forms import open_spool

PIECE = 1024 * 1024
_SHA256 = re.compile(r"(?:^|,)\s*sha-256=:(?P<digest>[A-Za-z0-9+/=]{1,64}):")


def parse_content_digest(value: str | None) -> bytes | None:
    """The SHA-256 that a `Content-Digest` header announces; None without one.

    Raises:
        BadRequestError: another form, or no SHA-256 among its digests.
    """
    if value is None:
        return None
    match = _SHA256.search(value)
    try:
        digest = base64.b64decode(match["digest"], validate=True) if match else b""
    except binascii.Error:
        digest = b""
    if len(digest) != hashlib.sha256().digest_size:
        raise BadRequestError("Content-Digest: write 'sha-256=:BASE64:'.", param="content-digest")
    return digest


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of a part before it arrives.

    Attributes:
        digest: its SHA-256, None if it is not announced.
        limit: bytes it may have.
        folder: for the file it goes through if there is a digest to compare with.
    """

    digest: bytes | None
    limit: int
    folder: Path

    @asynccontextmanager
    async def verified(self, body: AsyncIterator[bytes]) -> AsyncGenerator[AsyncIterator[bytes]]:
        """The same bytes.

        Raises:
            BadRequestError: they are not those announced.
            PayloadTooLargeError: they are too many.
        """
        if self.digest is None:
            yield body
            return
        with await asyncio.to_thread(open_spool, self.folder) as spool:
            await self._gather(body, spool)
            yield _pieces(spool)

    async def _gather(self, body: AsyncIterator[bytes], spool: IO[bytes]) -> None:
        actual, size = hashlib.sha256(), 0
        async for piece in body:
            size += len(piece)
            if size > self.limit:
                raise PayloadTooLargeError(
                    "The body is longer than the size announced for the upload."
                )
            actual.update(piece)
            await asyncio.to_thread(spool.write, piece)
        if actual.digest() != self.digest:
            raise BadRequestError(
                "Content-Digest: the bytes that arrived are others, and none were stored; send them "
                "again.",
                code="digest_mismatch",
                param="content-digest",
            )
        spool.seek(0)


async def _pieces(spool: IO[bytes]) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(spool.read, PIECE):
        yield piece
