"""Owns what an API worker leaves behind of answers under way when it is killed: the tokens that it had begun to hand
over, in a file of its own that other workers of the host read when no engine knows.

The file is mapped into memory: a note makes no call of the system, and is there for others when the process that wrote
it has been killed. It does not survive the end of the host itself.
"""

import mmap
import struct
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

from loraplex.platform.engines.messages import Final
from loraplex.platform.engines.outcome import LOST

FOLDER = "tallies"
# Of a choice: its ledger row, its own and its prompt's number, prompt tokens, cached ones, output tokens.
_NOTE = struct.Struct("=16s5I")
_COUNTS = struct.Struct("=3I")
_COUNTS_AT = _NOTE.size - _COUNTS.size
# Twice what one engine takes from a worker (`engines.client.MAX_INFLIGHT`). What is more is not noted.
NOTES = 8192
_NOBODY = bytes(16)


class Tally:
    """The notes of one living worker; settled requests leave none."""

    def __init__(self, folder: Path, worker_id: UUID, notes: int = NOTES) -> None:
        """Make the file. `notes`: choices that it has room for."""
        folder.mkdir(parents=True, exist_ok=True)
        self._path = _path(folder, worker_id)
        with self._path.open("w+b") as file:
            file.truncate(notes * _NOTE.size)
            self._memory = mmap.mmap(file.fileno(), 0)
        self._free = list(range(0, notes * _NOTE.size, _NOTE.size))
        self._places: dict[UUID, dict[int, int]] = {}  # of the choices of each row

    def note(self, row: UUID, choice: int, prompt: int, counts: tuple[int, int, int]) -> None:
        """So many prompt tokens, cached ones and output tokens are about to be with the client."""
        places = self._places.setdefault(row, {})
        at = places.get(choice)
        if at is not None:
            _COUNTS.pack_into(self._memory, at + _COUNTS_AT, *counts)
        elif self._free:
            at = places[choice] = self._free.pop()
            _NOTE.pack_into(self._memory, at, row.bytes, choice, prompt, *counts)

    def forget(self, row: UUID) -> None:
        """It is settled."""
        for at in self._places.pop(row, {}).values():
            self._memory[at : at + len(_NOBODY)] = _NOBODY
            self._free.append(at)

    def close(self) -> None:
        """The process ends in order. The file stays if something is not settled."""
        self._memory.close()
        if not self._places:
            self._path.unlink(missing_ok=True)


class Tallies:
    """What dead workers of this host have left."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, worker_id: UUID) -> list[Final]:
        """What was handed over of answers that nobody settled; nothing if the worker was of another host."""
        try:
            data = _path(self._folder, worker_id).read_bytes()
        except OSError:
            return []
        whole = memoryview(data)[: len(data) // _NOTE.size * _NOTE.size]
        return [
            Final(row, choice, prompt, LOST, *counts)
            for row, choice, prompt, *counts in _NOTE.iter_unpack(whole)
            if row != _NOBODY
        ]

    def remove(self, workers: Collection[UUID]) -> None:
        """Nothing of theirs is left to settle."""
        for worker_id in workers:
            _path(self._folder, worker_id).unlink(missing_ok=True)


def _path(folder: Path, worker_id: UUID) -> Path:
    return folder / worker_id.hex
