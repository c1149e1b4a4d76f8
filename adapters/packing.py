"""Owns turning a verified safetensors file into kernel layout: one pass over its pieces in small slabs straight into
the final buffer, hashed on the way, so that exactly the verified bytes are served and no second copy exists."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from loraplex.adapters.errors import AdapterRejected, BlobUnavailableError, DigestMismatchError
from loraplex.adapters.layout import MatrixPlace
from loraplex.adapters.pieces import VerifiedReader
from loraplex.adapters.recipes import Recipes
from loraplex.adapters.safetensors_header import (
    DTYPE_BYTES,
    LENGTH_BYTES,
    TensorInfo,
    header_length,
)
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module

# Converted and transposed while still in the processor's cache. Below 256 KiB the calls themselves cost more.
SLAB_BYTES = 512 * 1024
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# numpy transposes twice as fast as torch; it has no bfloat16, but moving elements needs only their width.
_SAME_WIDTH = {2: torch.int16, 4: torch.int32}


def pack(
    pieces: Iterator[bytes],
    config: bytes,
    sha256: str,
    recipes: Recipes,
    allocate: Callable[[int], torch.Tensor] | None = None,
) -> LoRAWeights:
    """Read an admitted adapter into kernel layout.

    Args:
        pieces: the safetensors file, in order.
        config: its canonical config.
        sha256: hex digest the file must have.
        recipes: of the base model and its dtype; the scale is folded into B in float32 before the cast.
        allocate: gives uint8 [that many bytes] for the buffer; by default new memory of this process.

    Raises:
        DigestMismatchError: the file has other bytes.
        BlobUnavailableError: the values do not fit the dtype.
    """
    dtype = recipes.dtype
    with VerifiedReader(pieces) as reader:
        try:
            length = header_length(reader.read(LENGTH_BYTES))
            recipe = recipes.recipe(reader.read(length), config)
        except AdapterRejected as error:
            # It was admitted once, so these are not the admitted bytes.
            raise DigestMismatchError(
                f"the adapter's stored weights are damaged: {error}"
            ) from error
        size = recipe.elements * dtype.itemsize
        memory = torch.empty(size, dtype=torch.uint8) if allocate is None else allocate(size)
        buffer = memory.view(dtype)
        for start, end in recipe.gaps:
            buffer[start:end] = 0
        slab, target = _Slab(recipes.modules), _Target(buffer)
        for tensor, place, scale in recipe.steps:
            if place is None:
                reader.skip(tensor.end - tensor.start)
            elif scale is None:
                _copy_rows(reader, slab, tensor, place, target)
            else:
                _copy_columns(reader, slab, tensor, place, scale, target)
        reader.check(sha256)
    return replace(recipe.weights, buffer=buffer)


class _Slab:
    """A little memory that values pass through on their way into the buffer."""

    def __init__(self, modules: tuple[Module, ...]) -> None:
        longest_row = max(module.in_features for module in modules) * max(DTYPE_BYTES.values())
        self.size = max(SLAB_BYTES, longest_row)
        values = torch.empty(self.size, dtype=torch.uint8)
        self._view = values.numpy().data
        # Adapters have hundreds of matrices: every call per matrix counts.
        self._typed = {dtype: values.view(dtype) for dtype in _DTYPES.values()}

    def read(self, reader: VerifiedReader, length: int, dtype: torch.dtype) -> torch.Tensor:
        """The next `length` bytes of a file as 1-D values, until the next call."""
        reader.fill(self._view[:length])
        return self._typed[dtype][: length // dtype.itemsize]


class _Target:
    """The buffer, as torch and numpy see it: `bits` [elements] for moving values, `raw` [bytes]."""

    def __init__(self, buffer: torch.Tensor) -> None:
        self.buffer = buffer
        self.bits_type = _SAME_WIDTH[buffer.dtype.itemsize]
        self.bits = buffer.view(self.bits_type).numpy()
        self.raw = buffer.view(torch.uint8).numpy().data


def _copy_rows(
    reader: VerifiedReader,
    slab: _Slab,
    tensor: TensorInfo,
    place: MatrixPlace,
    target: _Target,
) -> None:
    """A [rank, in]: whole rank rows, in blocks."""
    dtype = _DTYPES[tensor.dtype]
    most = slab.size // (place.length * dtype.itemsize)
    for run in place.runs:
        for row in range(0, run.rows, most):
            count = min(most, run.rows - row) * place.length
            start = run.start + row * place.length
            if dtype == target.buffer.dtype:
                reader.fill(target.raw[start * dtype.itemsize : (start + count) * dtype.itemsize])
            else:
                values = slab.read(reader, count * dtype.itemsize, dtype)
                target.buffer[start : start + count].copy_(values)


def _copy_columns(
    reader: VerifiedReader,
    slab: _Slab,
    tensor: TensorInfo,
    place: MatrixPlace,
    scale: float,
    target: _Target,
) -> None:
    """B [out, rank], transposed: a slab of B's rows becomes a range of columns of every rank row."""
    out, rank = tensor.shape
    dtype = _DTYPES[tensor.dtype]
    most = slab.size // (rank * dtype.itemsize)
    targets = []
    for run in place.runs:
        end = run.start + run.rows * place.length
        targets.append((run, target.bits[run.start : end].reshape(run.rows, place.length)))
    for column in range(0, out, most):
        count = min(most, out - column)
        stored = slab.read(reader, count * rank * dtype.itemsize, dtype)
        values = _scaled(stored, scale, target.buffer.dtype).view(target.bits_type).numpy()
        values = values.reshape(count, rank)
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
