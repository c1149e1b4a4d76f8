"""Owns what an engine process and its loader process say to each other: msgspec structs, MessagePack with a length in
front, on a socket pair. The weights themselves lie in memory both have mapped."""

import select
import socket
import struct
from collections import deque

import msgspec

from loraplex.adapters.cache import CacheStats
from loraplex.adapters.figures import AdapterFigures
from loraplex.adapters.reading import AdapterRef

_LENGTH = struct.Struct("<I")
_READ_BYTES = 256 * 1024


class Load(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """Bring an adapter to the host. `ref` comes with the first order for a handle only."""

    handle: int
    ref: AdapterRef | None


class Release(msgspec.Struct, frozen=True, array_like=True, tag="release"):
    """One `Loaded` of this handle is not read any more."""

    handle: int


class Vacate(msgspec.Struct, frozen=True, array_like=True, tag="vacate"):
    """The same for memory an earlier loader has filled, by its place."""

    start: int


class Forget(msgspec.Struct, frozen=True, array_like=True, tag="forget"):
    """Remove an adapter from host and disk; a `Gone` follows when nothing is left."""

    handle: int | None
    identity: str


class Pin(msgspec.Struct, frozen=True, array_like=True, tag="pin"):
    """These stay on the host, and no others of an earlier order."""

    refs: list[AdapterRef]


class Resident(msgspec.Struct, frozen=True, array_like=True, tag="resident"):
    """What is on the device now, most valuable first."""

    identities: list[str]


ToLoader = Load | Release | Vacate | Forget | Pin | Resident


class Loaded(msgspec.Struct, frozen=True, array_like=True, tag="loaded"):
    """An adapter is on the host: bytes `start` to `start + size` of the shared memory. The other fields are those of
    `engine.lora.LoRAWeights`, as bytes of int64, and `LoadResult.seconds`."""

    handle: int
    start: int
    size: int
    modules: bytes
    ranks: bytes
    a_rows: bytes
    b_rows: bytes
    seconds: float


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed"):
    """An adapter cannot be had."""

    handle: int
    error: str


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="gone"):
    """See `adapters.figures.Forgotten`."""

    identity: str
    host_entries: int
    disk_files: int


class News(msgspec.Struct, frozen=True, array_like=True, tag="news"):
    """Once a second: counters, and the figures of adapters that have changed."""

    stats: CacheStats
    changed: list[AdapterFigures]
    gone: list[str]


class Restored(msgspec.Struct, frozen=True, array_like=True, tag="restored"):
    """An adapter of the warm set is on the host; they come most valuable first."""

    ref: AdapterRef


FromLoader = Loaded | Failed | Gone | News | Restored


class Channel:
    """One end of the socket pair that never waits: what cannot be sent at once is kept, what has not arrived is left.

    Attributes:
        closed: the other end is gone.
    """

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.closed = False
        self._socket = end
        self._unsent: deque[memoryview] = deque()
        self._arrived = bytearray()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(FromLoader)
        self._poll = select.poll()
        self._poll.register(end, select.POLLIN)

    def send(self, message: ToLoader) -> None:
        """Send, now or at a later `send` or `receive`."""
        self._unsent.append(memoryview(frame(self._encoder.encode(message))))
        self._flush()

    def receive(self) -> list[FromLoader]:
        """What has arrived. With nothing there it takes a microsecond."""
        if self._unsent:
            self._flush()
        try:
            data = self._socket.recv(_READ_BYTES)
        except (BlockingIOError, ConnectionResetError):
            return []  # a reset is told once, and what came before it can still be read
        if not data:
            self.closed = True
            return []
        self._arrived += data
        return [self._decoder.decode(body) for body in split(self._arrived)]

    def wait(self, timeout: float) -> None:
        """Sleep until something arrives, at most `timeout` seconds."""
        self._poll.poll(timeout * 1000)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(self._unsent[0])
                if sent < len(self._unsent[0]):
                    self._unsent[0] = self._unsent[0][sent:]
                else:
                    self._unsent.popleft()
        except BlockingIOError:
            pass
        except ConnectionError:
            self._unsent.clear()  # `receive` finds the end


def frame(body: bytes) -> bytes:
    """A message as it travels."""
    return _LENGTH.pack(len(body)) + body


def split(arrived: bytearray) -> list[bytes]:
    """Take the whole messages from the front of what has arrived."""
    bodies, at = [], 0
    while len(arrived) - at >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(arrived, at)
        end = at + _LENGTH.size + length
        if end > len(arrived):
            break
        bodies.append(bytes(arrived[at + _LENGTH.size : end]))
        at = end
    del arrived[:at]
    return bodies
