"""Owns turning a verified safetensors file into kernel layout: one pass over the file in small slabs straight into the
final buffer, hashing on the way, so that exactly the verified bytes are served and no second copy exists."""

import hashlib
from collections.abc import Mapping
from io import BufferedIOBase

import torch

from loraplex.adapters.canonical import resolve
from loraplex.adapters.errors import AdapterRejected, BlobUnavailableError, DigestMismatchError
from loraplex.adapters.layout import MatrixPlace, plan
from loraplex.adapters.lora_tensors import match_tensors
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.safetensors_header import (
    DTYPE_BYTES,
    LENGTH_BYTES,
    TensorInfo,
    header_length,
    parse_header,
)
from loraplex.engine.lora import LoRAWeights, ModuleRows, page_elements
from loraplex.engine.model_config import Module

# Read, converted and transposed while still in the processor's cache: 256 KiB was 1.3x as fast as 1 MiB.
SLAB_BYTES = 256 * 1024
_MAX_CANONICAL_BYTES = 1024 * 1024
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


def pack(
    file: BufferedIOBase,
    config: bytes,
    sha256: str,
    modules: tuple[Module, ...],
    dtype: torch.dtype,
    *,
    pin: bool = False,
) -> LoRAWeights:
    """Read an admitted adapter into kernel layout.

    Args:
        file: the safetensors file, at its start.
        config: its canonical config.
        sha256: hex digest the file must have.
        dtype: of the model; the scale is folded into B in float32 before the cast.
        pin: allocate the buffer page-locked.

    Raises:
        DigestMismatchError: the file has other bytes.
        BlobUnavailableError: the values do not fit `dtype`.
    """
    reader = _Reader(file, modules)
    try:
        length = header_length(reader.read(LENGTH_BYTES))
        header = parse_header(reader.read(length))
        pairs = match_tensors(header, modules).pairs
        resolved = resolve(PeftConfig.parse(config, _MAX_CANONICAL_BYTES), pairs, modules)
    except AdapterRejected as error:
        # It was admitted once, so these are not the admitted bytes.
        raise DigestMismatchError(f"the adapter's stored weights are damaged: {error}") from error
    longest = max(max(module.in_features, module.out_features) for module in modules)
    ranks = {pair.module.index: pair.rank for pair in pairs}
    layout = plan(ranks, modules, page_elements(dtype, longest))
    buffer = torch.empty(layout.elements, dtype=dtype, pin_memory=pin)
    for start, end in layout.gaps:
        buffer[start:end] = 0
    a = {pair.a.name: pair.module.index for pair in pairs}
    b = {
        pair.b.name: (pair.module.index, lora.scale)
        for pair, lora in zip(pairs, resolved, strict=True)
    }
    for tensor in header.tensors:
        if tensor.name in a:
            _copy_rows(reader, tensor, layout.a[a[tensor.name]], buffer)
        elif tensor.name in b:
            index, scale = b[tensor.name]
            _copy_columns(reader, tensor, layout.b[index], scale, buffer)
        else:
            reader.skip(tensor.end - tensor.start)
    reader.check(sha256)
    return LoRAWeights(buffer, layout.module_rows())


def plan_rows(
    ranks: Mapping[int, int], modules: tuple[Module, ...], page: int
) -> tuple[tuple[ModuleRows, ...], int]:
    """Where `pack` puts the rows of an adapter with `ranks` by module index, and the elements its buffer takes."""
    layout = plan(ranks, modules, page)
    return layout.module_rows(), layout.elements


class _Reader:
    """Reads a file forwards through one reused slab and hashes what it reads."""

    def __init__(self, file: BufferedIOBase, modules: tuple[Module, ...]) -> None:
        longest_row = max(module.in_features for module in modules) * max(DTYPE_BYTES.values())
        self.slab = torch.empty(max(SLAB_BYTES, longest_row), dtype=torch.uint8)
        self._view = self.slab.numpy().data
        self._file = file
        self._digest = hashlib.sha256()

    def read(self, length: int) -> bytes:
        data = self._file.read(length)
        self._digest.update(data)
        return data

    def fill(self, length: int) -> None:
        """Read exactly `length` bytes into the start of the slab."""
        view = self._view[:length]
        done = 0
        while done < length:
            count = self._file.readinto(view[done:])
            if not count:
                raise DigestMismatchError("the adapter's stored weights are truncated.")
            done += count
        self._digest.update(view)

    def skip(self, length: int) -> None:
        """Read and hash what is not needed."""
        while length:
            step = min(length, len(self._view))
            self.fill(step)
            length -= step

    def check(self, sha256: str) -> None:
        if self._file.read(1) or self._digest.hexdigest() != sha256:
            raise DigestMismatchError("the adapter's stored weights do not match their digest.")


def _copy_rows(
    reader: _Reader, tensor: TensorInfo, place: MatrixPlace, buffer: torch.Tensor
) -> None:
    """A [rank, in]: whole rank rows, in blocks."""
    width = place.length * DTYPE_BYTES[tensor.dtype]
    most = len(reader.slab) // width
    for run in place.runs:
        for row in range(0, run.rows, most):
            count = min(most, run.rows - row)
            reader.fill(count * width)
            start = run.start + row * place.length
            rows = reader.slab[: count * width].view(_DTYPES[tensor.dtype])
            buffer[start : start + count * place.length].copy_(rows)


def _copy_columns(
    reader: _Reader, tensor: TensorInfo, place: MatrixPlace, scale: float, buffer: torch.Tensor
) -> None:
    """B [out, rank], transposed: a slab of B's rows becomes a range of columns of every rank row."""
    out, rank = tensor.shape
    width = rank * DTYPE_BYTES[tensor.dtype]
    most = len(reader.slab) // width
    for column in range(0, out, most):
        count = min(most, out - column)
        reader.fill(count * width)
        values = reader.slab[: count * width].view(_DTYPES[tensor.dtype]).view(count, rank)
        values = values.to(torch.float32) * scale
        if buffer.dtype == torch.float16 and values.abs().max() > torch.finfo(torch.float16).max:
            raise BlobUnavailableError(
                "the adapter's scaled values overflow float16; serve the base model in bfloat16."
            )
        values = values.to(buffer.dtype)
        for run in place.runs:
            end = run.start + run.rows * place.length
            rows = buffer[run.start : end].view(run.rows, place.length)
            rows[:, column : column + count] = values[:, run.first : run.first + run.rows].t()
