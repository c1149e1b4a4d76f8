"""Owns reading the header of a safetensors file: the list of tensors and their byte ranges, checked so strictly that
whatever follows can be read without further doubt."""

import math
import re
import struct
from dataclasses import dataclass

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.strict_json import parse_object, quote

LENGTH_BYTES = 8
MAX_HEADER_BYTES = 2 * 1024 * 1024
MAX_TENSORS = 20_000
MAX_DIMENSIONS = 8
MAX_DIMENSION = 2**31 - 1
DTYPE_BYTES = {"F32": 4, "F16": 2, "BF16": 2}

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,512}")
_WHAT = "the safetensors header"
_SAVE_AGAIN = "save it with save_pretrained(..., safe_serialization=True)"
# Beginnings of files that people upload by mistake.
_OTHER_FORMATS = (
    (b"PK\x03\x04", f"a zip archive or a PyTorch checkpoint; {_SAVE_AGAIN}"),
    (b"\x80", f"a Python pickle; {_SAVE_AGAIN}"),
    (b"GGUF", f"a GGUF file; {_SAVE_AGAIN}"),
    (b"version ", "a Git LFS pointer; run `git lfs pull` to get the weights themselves"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
)


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor: `start` and `end` are byte offsets behind the header; `dtype` is F32, F16 or BF16."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """All tensors in file order; together they cover every byte from `data_start` to `file_size`."""

    tensors: tuple[TensorInfo, ...]
    data_start: int

    @property
    def file_size(self) -> int:
        return self.data_start + (self.tensors[-1].end if self.tensors else 0)


def header_length(prefix: bytes) -> int:
    """Length in bytes of the JSON that follows the first 8 bytes of a file.

    Raises:
        AdapterRejected: not safetensors, or a header larger than `MAX_HEADER_BYTES`.
    """
    if len(prefix) < LENGTH_BYTES:
        raise AdapterRejected(
            "weights", f"the weights file is truncated: it has only {len(prefix)} bytes."
        )
    (length,) = struct.unpack("<Q", prefix[:LENGTH_BYTES])
    if length > MAX_HEADER_BYTES:
        for magic, kind in _OTHER_FORMATS:
            if prefix.startswith(magic):
                raise AdapterRejected("weights", f"the weights file is {kind}.")
        raise AdapterRejected(
            "weights",
            f"the weights file announces a header of {length} bytes (at most {MAX_HEADER_BYTES} are "
            f"read), so it is damaged or not safetensors; {_SAVE_AGAIN}.",
        )
    if length < len("{}"):
        raise AdapterRejected("weights", "the weights file has no safetensors header.")
    return int(length)


def parse_header(data: bytes) -> Header:
    """Read the header JSON (without the 8 length bytes).

    Raises:
        AdapterRejected: malformed, too many tensors, another dtype, or ranges that do not tile the data exactly.
    """
    # Bounds what the JSON parser may allocate before any of it is looked at.
    if data.count(b"{") > 2 * MAX_TENSORS or data.count(b"[") > 4 * MAX_TENSORS:
        raise AdapterRejected("weights", f"{_WHAT} lists more than {MAX_TENSORS} tensors.")
    if not data.startswith(b"{"):
        raise AdapterRejected("weights", f"{_WHAT} does not start with an object; {_SAVE_AGAIN}.")
    raw = parse_object(data, "weights", _WHAT)
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise AdapterRejected("weights", f"{_WHAT}: __metadata__ must hold strings only.")
    if not raw:
        raise AdapterRejected("weights", "the weights file holds no tensors.")
    if len(raw) > MAX_TENSORS:
        raise AdapterRejected("weights", f"{_WHAT} lists more than {MAX_TENSORS} tensors.")
    tensors = sorted((_tensor(name, value) for name, value in raw.items()), key=lambda t: t.start)
    position = 0
    for tensor in tensors:
        if tensor.start != position:
            fault = "overlaps the one before" if tensor.start < position else "leaves a hole"
            raise AdapterRejected(
                "weights", f"the byte range of tensor {quote(tensor.name)} {fault}."
            )
        position = tensor.end
    return Header(tuple(tensors), LENGTH_BYTES + len(data))


def _tensor(name: str, value: object) -> TensorInfo:
    shown = quote(name)
    if not _NAME.fullmatch(name):
        raise AdapterRejected(
            "weights", f"tensor name {shown} has characters other than letters, digits, '_', '.'."
        )
    if not isinstance(value, dict) or value.keys() != {"dtype", "shape", "data_offsets"}:
        raise AdapterRejected(
            "weights", f"tensor {shown} must have exactly dtype, shape and data_offsets."
        )
    dtype, shape, offsets = value["dtype"], value["shape"], value["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise AdapterRejected(
            "weights",
            f"tensor {shown} has dtype {quote(str(dtype))}; save the adapter as float32, float16 "
            "or bfloat16.",
        )
    if not _whole_numbers(shape, MAX_DIMENSION) or len(shape) > MAX_DIMENSIONS:
        raise AdapterRejected("weights", f"tensor {shown} has an invalid shape.")
    if 0 in shape:
        raise AdapterRejected(
            "weights",
            f"tensor {shown} is empty (shape {shape}); it was probably saved from a sharded run, "
            "gather the parameters before save_pretrained.",
        )
    if not _whole_numbers(offsets, 2**63 - 1) or len(offsets) != 2:
        raise AdapterRejected("weights", f"tensor {shown} has invalid data_offsets.")
    start, end = offsets
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        raise AdapterRejected(
            "weights",
            f"tensor {shown} of shape {shape} and dtype {dtype} does not fill its byte range "
            f"{start} to {end}.",
        )
    return TensorInfo(name, dtype, tuple(shape), start, end)


def _whole_numbers(value: object, largest: int) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n <= largest for n in value)
