"""Owns one lean HTTP/1.1 connection for load: it sends a streamed completion and notes when its events arrive.

A general HTTP client takes longer for a chunk than the server does, so a load generator built on one measures itself.
"""

import asyncio
import itertools
import re
import ssl
import time
from dataclasses import dataclass
from typing import NamedTuple, cast
from urllib.parse import urlsplit

_TOKENS = re.compile(rb'"completion_tokens":(\d+)')
_ERROR = re.compile(rb'data: ({"error":.*?)\n\n', re.DOTALL)
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_DATA = b"data: "
_CHUNKED_END = b"0\r\n\r\n"
# The usage and the end mark, with room to spare.
_TAIL_BYTES = 2048


class LoadError(Exception):
    """The server refused or broke off; the message is fit for the user."""


class Address(NamedTuple):
    """A server and the key to show it."""

    host: str
    port: int
    secure: bool
    path: str
    key: str

    @classmethod
    def of(cls, url: str, key: str) -> "Address":
        """From the URL of a server."""
        parts = urlsplit(url)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        return cls(parts.hostname or "127.0.0.1", port, secure, parts.path.rstrip("/"), key)


@dataclass(frozen=True, slots=True)
class Timing:
    """One answered request. Times are seconds from sending it.

    Attributes:
        first: the first event.
        last: the last event that held text.
        total: the end of the answer.
        tokens: as the server counted them.
        gaps: between arrivals, each of one or more events, seconds.
    """

    first: float
    last: float
    total: float
    tokens: int
    gaps: tuple[float, ...]


class Connection(asyncio.Protocol):
    """Sends one request at a time and reads its whole answer."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._done: asyncio.Future[None] | None = None
        self._status = 0
        self._left = -1  # bytes of an answer with a length; -1: it is chunked
        self._tail = b""
        self._arrivals: list[float] = []

    @classmethod
    async def open(cls, address: Address) -> "Connection":
        """Connect.

        Raises:
            LoadError: the server cannot be reached.
        """
        context = ssl.create_default_context() if address.secure else None
        try:
            _, connection = await asyncio.get_running_loop().create_connection(
                cls, address.host, address.port, ssl=context
            )
        except OSError as error:
            raise LoadError(f"{address.host} port {address.port}: {error}") from error
        return connection

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def complete(self, address: Address, route: str, body: bytes) -> Timing:
        """Send a JSON body that asks for a stream with usage; returns when the answer has ended.

        Raises:
            LoadError: it was refused, ended with an error, or broke off.
        """
        if self._transport is None:
            raise LoadError("The server closed the connection.")
        self._status, self._left, self._tail, self._arrivals = 0, -1, b"", []
        self._done = asyncio.get_running_loop().create_future()
        start = time.perf_counter()
        self._transport.write(_request(address, route, body))
        await self._done
        times, ended = self._arrivals, time.perf_counter()
        if self._status != 200:
            raise LoadError(f"The server answered {self._status}: {_text(self._tail)}")
        if error := _ERROR.search(self._tail):
            raise LoadError(f"A stream ended with an error: {_text(error[1])}")
        counted = _TOKENS.search(self._tail)
        if not times or counted is None:
            raise LoadError(f"A stream ended without its usage: {_text(self._tail)}")
        # The last arrival may hold nothing but the usage; it comes with the last text or right behind it.
        gaps = tuple(b - a for a, b in itertools.pairwise(times))
        return Timing(times[0] - start, times[-1] - start, ended - start, int(counted[1]), gaps)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._done is not None and not self._done.done():
            self._done.set_exception(LoadError("The server closed the connection."))

    def data_received(self, data: bytes) -> None:
        if self._status == 0:
            head, separator, data = (self._tail + data).partition(b"\r\n\r\n")
            if not separator:
                self._tail = head
                return
            self._tail = b""
            self._status = int(head[9:12])
            length = _LENGTH.search(head)
            self._left = int(length[1]) if length else -1
        if _DATA in data:
            self._arrivals.append(time.perf_counter())
        self._tail = (self._tail + data)[-_TAIL_BYTES:]
        if self._left < 0:
            ended = self._tail.endswith(_CHUNKED_END)
        else:
            self._left -= len(data)
            ended = self._left <= 0
        if ended and self._done is not None and not self._done.done():
            self._done.set_result(None)


def _request(address: Address, route: str, body: bytes) -> bytes:
    head = (
        f"POST {address.path}{route} HTTP/1.1\r\nhost: {address.host}:{address.port}\r\n"
        f"authorization: Bearer {address.key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _text(data: bytes) -> str:
    return data.decode(errors="replace")[:300]
