"""Owns reading a safetensors checkpoint: the headers of its shards, and their bytes into tensors by many threads."""

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from loraplex.engine.model_config import UnsupportedModelError

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
# Reading threads and bytes they read at a time; two pinned buffers per thread, one filled while the other is sent, make
# 128 MiB. 16 GB of bfloat16 from a warm page cache to one NVIDIA H200, 16 cores, 2026-11-22, GB/s: 4 threads × 16 MiB
# 19, 8 × 8 31, 16 × 8 25 to 28, 16 × 4 12, 16 × 16 22. The bus takes 55, one thread reads 7 from the page cache.
_THREADS = 8
_PIECE_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor in a file: its first byte, row-major."""

    file: Path
    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype


def read_headers(shards: Sequence[Path]) -> dict[str, StoredTensor]:
    """Every tensor of the shards by name.

    Raises:
        UnsupportedModelError: a file is missing, damaged or shorter than its header says, or holds a dtype that is no
            plain float.
    """
    stored: dict[str, StoredTensor] = {}
    for shard in shards:
        try:
            # The library checks what a header may say: offsets without gaps, sizes that fit dtype, shape and file.
            with safe_open(str(shard), framework="numpy"), shard.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except OSError as error:
            raise UnsupportedModelError(f"{shard} cannot be read: {error.strerror}.") from error
        except SafetensorError as error:
            raise UnsupportedModelError(f"{shard} is damaged or cut short: {error}.") from error
        for name, entry in header.items():
            if name != "__metadata__":
                stored[name] = _stored(shard, 8 + length, name, entry)
    return stored


def read_into(pairs: Sequence[tuple[StoredTensor, torch.Tensor]]) -> None:
    """Fill tensors from their files, casting where the dtypes differ.

    Args:
        pairs: each with a contiguous target of the stored shape; targets all on one device.

    Raises:
        UnsupportedModelError: a file ended early or could not be read.
    """
    if not pairs:
        return
    device = pairs[0][1].device
    threads = min(_THREADS, len(os.sched_getaffinity(0)))
    with ExitStack() as files:
        descriptors = {
            path: files.enter_context(path.open("rb", buffering=0)).fileno()
            for path in {stored.file for stored, _ in pairs}
        }
        pieces = deque(_pieces(pairs, descriptors))
        with ThreadPoolExecutor(threads, thread_name_prefix="weights") as pool:
            done = [pool.submit(_read_all, pieces, device) for _ in range(threads)]
        for future in done:
            future.result()
    if device.type == "cuda":
        # Casts went through device memory, which is wanted for the KV cache now.
        torch.cuda.empty_cache()


class _Piece(NamedTuple):
    """Part of a tensor: where to read in which file, and the flat piece of the target it fills."""

    path: Path
    descriptor: int
    start: int
    dtype: torch.dtype
    target: torch.Tensor

    @property
    def num_bytes(self) -> int:
        return self.target.numel() * self.dtype.itemsize


def _stored(shard: Path, data: int, name: str, entry: dict[str, object]) -> StoredTensor:
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise UnsupportedModelError(
            f"{name} in {shard} is stored as {dtype}; served are {', '.join(_DTYPES)}."
        )
    assert isinstance(shape, list)
    assert isinstance(offsets, list)
    return StoredTensor(shard, data + offsets[0], tuple(shape), _DTYPES[dtype])


def _pieces(
    pairs: Sequence[tuple[StoredTensor, torch.Tensor]], descriptors: dict[Path, int]
) -> Iterator[_Piece]:
    for stored, target in pairs:
        assert target.shape == stored.shape
        flat = target.view(-1)
        size = stored.dtype.itemsize
        step = _PIECE_BYTES // size
        for first in range(0, len(flat), step):
            yield _Piece(
                stored.file,
                descriptors[stored.file],
                stored.start + first * size,
                stored.dtype,
                flat[first : first + step],
            )


def _drain(pieces: deque[_Piece]) -> Iterator[_Piece]:
    """Take pieces until none is left."""
    while True:
        try:
            piece = pieces.popleft()
        except IndexError:
            return
        yield piece


@torch.inference_mode()
def _read_all(pieces: deque[_Piece], device: torch.device) -> None:
    """What one thread does."""
    try:
        if device.type == "cuda":
            _read_to_gpu(pieces, device)
        else:
            _read_to_host(pieces)
    except BaseException:
        pieces.clear()  # the other threads need not go on
        raise


def _read_to_gpu(pieces: deque[_Piece], device: torch.device) -> None:
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.default_stream(device))
    buffers = [torch.empty(_PIECE_BYTES, dtype=torch.uint8, pin_memory=True) for _ in range(2)]
    sent = [torch.cuda.Event(), torch.cuda.Event()]
    for number, piece in enumerate(_drain(pieces)):
        turn = number % 2
        sent[turn].synchronize()
        source = buffers[turn][: piece.num_bytes]
        _read(piece, source)
        with torch.cuda.stream(stream):
            values = source.view(piece.dtype)
            if piece.dtype is not piece.target.dtype:
                values = values.to(device, non_blocking=True)
            piece.target.copy_(values, non_blocking=True)
            sent[turn].record()
    stream.synchronize()


def _read_to_host(pieces: deque[_Piece]) -> None:
    buffer = torch.empty(_PIECE_BYTES, dtype=torch.uint8)
    for piece in _drain(pieces):
        if piece.dtype is piece.target.dtype:
            _read(piece, piece.target.view(torch.uint8))
        else:
            source = buffer[: piece.num_bytes]
            _read(piece, source)
            piece.target.copy_(source.view(piece.dtype))


def _read(piece: _Piece, into: torch.Tensor) -> None:
    """Fill a tensor of bytes from the piece's place in its file."""
    rest = into.numpy().data
    at = piece.start
    while rest:
        try:
            count = os.preadv(piece.descriptor, [rest], at)
        except OSError as error:
            raise UnsupportedModelError(
                f"{piece.path} cannot be read: {error.strerror}."
            ) from error
        if count == 0:
            raise UnsupportedModelError(f"{piece.path} ended while it was read.")
        rest, at = rest[count:], at + count
