"""Owns giving an adapter back as a PEFT directory: its two files, byte for byte those its digest is made of, and an
archive of both. Weights are read from the database while they are sent."""

import hashlib
import re
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from uuid import UUID

from msgspec import Struct

from loraplex.adapters.peft_directory import CONFIG_NAME, WEIGHTS_NAME
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.rows import find_adapter, find_version
from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.blobs import BATCH, CHUNK_SIZE
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import AdapterVersion
from loraplex.platform.errors import NotFoundError

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class FileOut(Struct):
    """One file of a version."""

    name: str
    size: int
    sha256: str


class FileList(Struct):
    """The files of a version, as PEFT names them. The config is the canonical one, which the version's digest is made
    of and which computes the same as the one that was pushed."""

    data: list[FileOut]


@dataclass(frozen=True, slots=True)
class Slice:
    """Bytes `[first, last]` of a file."""

    first: int
    last: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1


class UnsatisfiableRangeError(Exception):
    """No byte of the file is in the range asked for."""


class Downloads:
    """Files of versions of all tenants; every method takes the tenant and looks nowhere else."""

    def __init__(self, database: Database, weights: Weights) -> None:
        self._database = database
        self._chunks = weights.chunks

    async def version(self, actor: Principal, tenant_id: UUID, name: str, n: int) -> AdapterVersion:
        """The version whose files are wanted.

        Raises:
            NotFoundError: the tenant has no such adapter or version.
        """
        async with self._database.main.reading(tenant_id) as session:
            adapter = await find_adapter(session, actor, tenant_id, name)
            return await find_version(session, adapter, n)

    def files(self, version: AdapterVersion) -> list[FileOut]:
        """Both files."""
        config = hashlib.sha256(version.config).hexdigest()
        return [
            FileOut(CONFIG_NAME, len(version.config), config),
            FileOut(WEIGHTS_NAME, version.blob.size, version.blob.sha256),
        ]

    def file(self, version: AdapterVersion, name: str) -> FileOut:
        """One of them.

        Raises:
            NotFoundError: there is no such file.
        """
        for file in self.files(version):
            if file.name == name:
                return file
        raise NotFoundError(f"A version has the files {CONFIG_NAME} and {WEIGHTS_NAME} only.")

    async def read(self, version: AdapterVersion, name: str, part: Slice) -> AsyncIterator[bytes]:
        """Some bytes of a file. Nothing of the database is held between two pieces."""
        if name == CONFIG_NAME:
            yield version.config[part.first : part.last + 1]
            return
        seq, skip = divmod(part.first, CHUNK_SIZE)
        missing = part.length
        while missing:
            batch = await self._chunks.read_batch(version.blob_id, seq)
            if not batch:
                # Deleted meanwhile: what the client has is short, and it can tell by the length announced.
                raise NotFoundError("The version was deleted while it was read.")
            seq += BATCH
            for data in batch:
                piece = data[skip : skip + missing]
                skip = 0
                missing -= len(piece)
                yield piece
                if not missing:
                    return

    async def archive(self, adapter: str, version: AdapterVersion) -> AsyncIterator[bytes]:
        """A tar of both files in a folder named `ADAPTER-N`."""
        for file in self.files(version):
            yield _tar_header(adapter, version, file)
            async for piece in self.read(version, file.name, Slice(0, file.size - 1)):
                yield piece
            yield bytes(-file.size % tarfile.BLOCKSIZE)
        yield bytes(2 * tarfile.BLOCKSIZE)

    def archive_size(self, adapter: str, version: AdapterVersion) -> int:
        """Bytes of `archive`."""
        block = tarfile.BLOCKSIZE
        return 2 * block + sum(
            len(_tar_header(adapter, version, file)) + file.size + -file.size % block
            for file in self.files(version)
        )


def parse_range(value: str | None, size: int) -> Slice | None:
    """The part a `Range` header asks for; None for the whole file, also where it asks for several parts at once.

    Raises:
        UnsatisfiableRangeError: it is past the end.
    """
    match = _RANGE.fullmatch(value.strip()) if value else None
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        first, last = max(0, size - int(match[2])), size - 1
    else:
        first, last = int(match[1]), int(match[2]) if match[2] else size - 1
        if last < first and match[2]:
            return None
    if first >= size:
        raise UnsatisfiableRangeError
    return Slice(first, min(last, size - 1))


def _tar_header(adapter: str, version: AdapterVersion, file: FileOut) -> bytes:
    info = tarfile.TarInfo(f"{adapter}-{version.n}/{file.name}")
    info.size = file.size
    info.mtime = int(version.created_at.timestamp())
    return info.tobuf(tarfile.PAX_FORMAT)
