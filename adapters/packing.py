"""Owns turning a verified safetensors file into kernel layout: one pass over its pieces in small slabs straight into
the final buffer, hashed on the way, so that exactly the verified bytes are served and no second copy exists."""

from collections.abc import Callable, Iterator

import torch

from loraplex.adapters.canonical import resolve
from loraplex.adapters.errors import AdapterRejected, BlobUnavailableError, DigestMismatchError
from loraplex.adapters.layout import MatrixPlace, plan
from loraplex.adapters.lora_tensors import match_tensors
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.pieces import VerifiedReader
from loraplex.adapters.safetensors_header import (
    DTYPE_BYTES,
    LENGTH_BYTES,
    TensorInfo,
    header_length,
    parse_header,
)
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module
from loraplex.engine.pages import page_elements

# Converted and transposed while still in the processor's cache. Below 256 KiB the calls themselves cost more.
SLAB_BYTES = 512 * 1024
_MAX_CANONICAL_BYTES = 1024 * 1024
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# numpy transposes twice as fast as torch; it has no bfloat16, but moving elements needs only their width.
_SAME_WIDTH = {2: torch.int16, 4: torch.int32}


def pack(
    pieces: Iterator[bytes],
    config: bytes,
    sha256: str,
    modules: tuple[Module, ...],
    dtype: torch.dtype,
    allocate: Callable[[int], torch.Tensor] | None = None,
) -> LoRAWeights:
    """Read an admitted adapter into kernel layout.

    Args:
        pieces: the safetensors file, in order.
        config: its canonical config.
        sha256: hex digest the file must have.
        dtype: of the model; the scale is folded into B in float32 before the cast.
        allocate: gives uint8 [that many bytes] for the buffer; by default new memory of this process.

    Raises:
        DigestMismatchError: the file has other bytes.
        BlobUnavailableError: the values do not fit `dtype`.
    """
    with VerifiedReader(pieces) as reader:
        try:
            length = header_length(reader.read(LENGTH_BYTES))
            header = parse_header(reader.read(length))
            pairs = match_tensors(header, modules).pairs
            resolved = resolve(PeftConfig.parse(config, _MAX_CANONICAL_BYTES), pairs, modules)
        except AdapterRejected as error:
            # It was admitted once, so these are not the admitted bytes.
            raise DigestMismatchError(
                f"the adapter's stored weights are damaged: {error}"
            ) from error
        ranks = {pair.module.index: pair.rank for pair in pairs}
        layout = plan(ranks, modules, page_elements(dtype, modules))
        size = layout.elements * dtype.itemsize
        memory = torch.empty(size, dtype=torch.uint8) if allocate is None else allocate(size)
        buffer = memory.view(dtype)
        for start, end in layout.gaps:
            buffer[start:end] = 0
        slab = _Slab(modules)
        a = {pair.a.name: pair.module.index for pair in pairs}
        b = {
            pair.b.name: (pair.module.index, lora.scale)
            for pair, lora in zip(pairs, resolved, strict=True)
        }
        for tensor in header.tensors:
            if tensor.name in a:
                _copy_rows(reader, slab, tensor, layout.a[a[tensor.name]], buffer)
            elif tensor.name in b:
                index, scale = b[tensor.name]
                _copy_columns(reader, slab, tensor, layout.b[index], scale, buffer)
            else:
                reader.skip(tensor.end - tensor.start)
        reader.check(sha256)
    return layout.weights(buffer)


class _Slab:
    """A little memory that values pass through on their way into the buffer."""

    def __init__(self, modules: tuple[Module, ...]) -> None:
        longest_row = max(module.in_features for module in modules) * max(DTYPE_BYTES.values())
        self.size = max(SLAB_BYTES, longest_row)
        self._bytes = torch.empty(self.size, dtype=torch.uint8)
        self._view = self._bytes.numpy().data

    def read(self, reader: VerifiedReader, length: int, dtype: torch.dtype) -> torch.Tensor:
        """The next `length` bytes of a file as 1-D values, until the next call."""
        reader.fill(self._view[:length])
        return self._bytes[:length].view(dtype)


def _copy_rows(
    reader: VerifiedReader,
    slab: _Slab,
    tensor: TensorInfo,
    place: MatrixPlace,
    buffer: torch.Tensor,
) -> None:
    """A [rank, in]: whole rank rows, in blocks."""
    dtype = _DTYPES[tensor.dtype]
    most = slab.size // (place.length * dtype.itemsize)
    for run in place.runs:
        for row in range(0, run.rows, most):
            count = min(most, run.rows - row) * place.length
            start = run.start + row * place.length
            target = buffer[start : start + count]
            if dtype == buffer.dtype:
                reader.fill(target.view(torch.uint8).numpy().data)
            else:
                target.copy_(slab.read(reader, count * dtype.itemsize, dtype))


def _copy_columns(
    reader: VerifiedReader,
    slab: _Slab,
    tensor: TensorInfo,
    place: MatrixPlace,
    scale: float,
    buffer: torch.Tensor,
) -> None:
    """B [out, rank], transposed: a slab of B's rows becomes a range of columns of every rank row."""
    out, rank = tensor.shape
    dtype = _DTYPES[tensor.dtype]
    most = slab.size // (rank * dtype.itemsize)
    bits = _SAME_WIDTH[buffer.dtype.itemsize]
    targets = []
    for run in place.runs:
        end = run.start + run.rows * place.length
        rows = buffer[run.start : end].view(bits).view(run.rows, place.length).numpy()
        targets.append((run, rows))
    for column in range(0, out, most):
        count = min(most, out - column)
        stored = slab.read(reader, count * rank * dtype.itemsize, dtype).view(count, rank)
        values = _scaled(stored, scale, buffer.dtype).view(bits).numpy()
        for run, rows in targets:
            rows[:, column : column + count] = values[:, run.first : run.first + run.rows].T


def _scaled(values: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """`values` · `scale`, computed in float32 and rounded once."""
    if dtype == torch.float16:
        return _scaled_to_half(values, scale)
    if scale == 1:
        return values.to(dtype)
    if values.dtype == dtype:
        return values * scale  # torch itself computes it in float32
    return (values.to(torch.float32) * scale).to(dtype)


def _scaled_to_half(values: torch.Tensor, scale: float) -> torch.Tensor:
    if values.dtype == torch.float16 and abs(scale) <= 1:
        return values if scale == 1 else values * scale
    wide = values.to(torch.float32)
    if scale != 1:
        wide *= scale
    low, high = wide.aminmax()
    if max(-low, high) > torch.finfo(torch.float16).max:
        raise BlobUnavailableError(
            "the adapter's scaled values overflow float16; serve the base model in bfloat16."
        )
    return wide.to(torch.float16)
