"""Owns the port through which an import reads: a place that has the two files of an adapter."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from loraplex.adapters.peft_config import MAX_CONFIG_BYTES
from loraplex.adapters.peft_directory import CONFIG_NAME, WEIGHTS_NAME
from loraplex.platform.errors import UnprocessableError
from loraplex.platform.imports.remote_file import RemoteFile

__all__ = ["CONFIG_NAME", "WEIGHTS_NAME", "Found", "Place", "missing", "read_config", "weights_of"]


@dataclass(frozen=True, slots=True)
class Found:
    """An adapter in its place.

    Attributes:
        config: the bytes of its config, at most one more than are allowed.
        weights: the bytes of its weights file; read once.
        size: how many these are, None if the place does not say.
        source: what the version keeps of where it came from, the exact revision included.
        sha256: of the weights as the place knows it, None if it does not.
    """

    config: bytes
    weights: AsyncIterator[bytes]
    size: int | None
    source: dict[str, object]
    sha256: str | None = None


class Place(Protocol):
    """Where an adapter lies."""

    def open(self) -> AbstractAsyncContextManager[Found]:
        """Find the adapter.

        Raises:
            PlatformError: it is not there, cannot be reached or may not be read.
        """
        ...


def missing(place: str, name: str) -> UnprocessableError:
    """The answer where a file is not there."""
    hint = "save the adapter with save_pretrained(..., safe_serialization=True)"
    return UnprocessableError(f"{place} has no {name}; {hint}, or name the folder it is in.")


async def read_config(file: RemoteFile) -> bytes:
    """A config of any size, without reading more of it than can be right."""
    data = b""
    async for piece in file.pieces():
        data += piece
        if len(data) > MAX_CONFIG_BYTES:
            break
    return data[: MAX_CONFIG_BYTES + 1]


@asynccontextmanager
async def weights_of(file: RemoteFile) -> AsyncGenerator[AsyncIterator[bytes]]:
    """The bytes of a file, its reader closed with the block."""
    pieces = file.pieces()
    try:
        yield pieces
    finally:
        await pieces.aclose()
