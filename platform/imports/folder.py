"""Owns reading an adapter from a directory of the server that the operator has opened for this; no name in it leads
out of it."""

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path, PurePosixPath

from loraplex.adapters.peft_config import MAX_CONFIG_BYTES
from loraplex.platform.errors import UnprocessableError
from loraplex.platform.imports.places import CONFIG_NAME, WEIGHTS_NAME, Found, missing

PIECE = 1024 * 1024


class FolderPlace:
    """A directory under `root`."""

    def __init__(self, root: Path, path: str) -> None:
        self._root = root
        self._path = path

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Found]:
        """See `Place.open`."""
        files = await asyncio.to_thread(self._open)
        try:
            config, weights = files
            data = await asyncio.to_thread(os.read, config, MAX_CONFIG_BYTES + 1)
            source: dict[str, object] = {"kind": "path", "path": self._path}
            yield Found(data, _pieces(weights), os.fstat(weights).st_size, source)
        finally:
            for file in files:
                os.close(file)

    def _open(self) -> list[int]:
        """Open both files, following no link: neither one that is there nor one put there this moment."""
        path = PurePosixPath(self._path)
        with suppress(ValueError):
            path = path.relative_to(PurePosixPath(self._root))
        if path.is_absolute() or ".." in path.parts or "\0" in self._path:
            raise UnprocessableError(
                f"path: {self._path[:200]!r} is not under the server's --import-dir.",
                param="source.path",
            )
        opened: list[int] = []
        try:
            folder = _folder(self._root, path.parts)
            try:
                opened.append(_regular_file(folder, CONFIG_NAME, self._path))
                opened.append(_regular_file(folder, WEIGHTS_NAME, self._path))
            finally:
                os.close(folder)
        except BaseException:
            for file in opened:
                os.close(file)
            raise
        return opened


def _folder(root: Path, parts: tuple[str, ...]) -> int:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    for part in parts:
        try:
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
        except OSError as error:
            raise UnprocessableError(
                f"path: there is no directory {'/'.join(parts)[:200]!r} under the server's "
                "--import-dir; links are not followed.",
                param="source.path",
            ) from error
        finally:
            os.close(folder)
        folder = below
    return folder


def _regular_file(folder: int, name: str, path: str) -> int:
    try:
        # A pipe would be waited for without end.
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        raise missing(path[:200], name) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise missing(path[:200], name)
    return file


async def _pieces(file: int) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(os.read, file, PIECE):
        yield piece
