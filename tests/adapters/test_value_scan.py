"""Every value is looked at, wherever the pieces of the stream happen to end."""

from typing import Any

import numpy as np
import pytest

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.safetensors_header import Header, TensorInfo, parse_header
from loraplex.adapters.value_scan import ValueScan
from support.adapter_files import header_of, weights_bytes

LENGTHS = {"F32": 4, "F16": 2, "BF16": 2}
NAN = {"F32": b"\x01\x00\x80\xff", "F16": b"\x01\xfc", "BF16": b"\x81\x7f"}
INFINITE = {"F32": b"\x00\x00\x80\xff", "F16": b"\x00\x7c", "BF16": b"\x80\x7f"}
# Just above 2**15, and 2**15 itself.
HUGE = {"F32": b"\x01\x00\x00\xc7", "F16": b"\x01\x78", "BF16": b"\x01\xc7"}
LARGE = {"F32": b"\x00\x00\x00\xc7", "F16": b"\x00\x78", "BF16": b"\x00\xc7"}


def header(dtype: str, count: int) -> Header:
    size = count * LENGTHS[dtype]
    tensors = (
        TensorInfo("first", dtype, (count, 1), 0, size),
        TensorInfo("second", dtype, (1, count), size, 2 * size),
    )
    return Header(tensors, 8)


def scan(dtype: str, data: bytes, step: int) -> ValueScan:
    result = ValueScan(header(dtype, len(data) // LENGTHS[dtype] // 2))
    for start in range(0, len(data), step):
        result.feed(data[start : start + step])
    result.finish()
    return result


@pytest.mark.parametrize("step", [1, 3, 7, 64, 10**6])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("bad", ["NaN", "infinite", "32768"])
@pytest.mark.parametrize("index", [0, 9, 10, 19])
def test_one_bad_value_is_found(dtype: str, bad: str, index: int, step: int) -> None:
    width = LENGTHS[dtype]
    value = {"NaN": NAN, "infinite": INFINITE, "32768": HUGE}[bad][dtype]
    data = bytearray(LARGE[dtype] * 20)
    data[index * width : (index + 1) * width] = value
    with pytest.raises(AdapterRejected) as caught:
        scan(dtype, bytes(data), step)
    assert bad in caught.value.message
    assert ("'first'" if index < 10 else "'second'") in caught.value.message
    assert caught.value.field == "weights"


@pytest.mark.parametrize("step", [1, 5, 4096])
@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_finite_values_pass_and_zeros_are_noted(dtype: str, step: int) -> None:
    width = LENGTHS[dtype]
    assert scan(dtype, LARGE[dtype] * 20, step).zeros == []
    assert scan(dtype, bytes(20 * width), step).zeros == ["first", "second"]
    minus_zero = b"\0" * (width - 1) + b"\x80"
    data = minus_zero * 10 + bytes(9 * width) + LARGE[dtype]
    assert scan(dtype, data, step).zeros == ["first"]


def test_a_large_tensor_is_scanned_to_its_end() -> None:
    """Longer than the scan's own blocks, fed at once, with the fault in the last value."""
    tensors: dict[str, np.ndarray[Any, Any]] = {"w": np.ones((700, 1000), np.float32)}
    tensors["w"][-1, -1] = np.nan
    data = weights_bytes(tensors)
    length = int.from_bytes(data[:8], "little")
    result = ValueScan(parse_header(data[8 : 8 + length]))
    with pytest.raises(AdapterRejected, match="NaN"):
        result.feed(data[8 + length :])


def test_too_many_and_too_few_bytes() -> None:
    data = LARGE["F32"] * 20
    result = ValueScan(header("F32", 10))
    result.feed(data[:-3])
    with pytest.raises(AdapterRejected, match="truncated: 3 bytes are missing"):
        result.finish()
    with pytest.raises(AdapterRejected, match="behind its last tensor"):
        ValueScan(header("F32", 10)).feed(data + b"\0")


def test_tensors_of_other_dtypes_follow_each_other() -> None:
    tensors: dict[str, np.ndarray[Any, Any]] = {
        "odd": np.ones((3, 1), np.float16),
        "then": np.full((2, 2), -1.5, np.float32),
    }
    data = weights_bytes(tensors)
    length = int.from_bytes(data[:8], "little")
    assert header_of(tensors)["then"]["data_offsets"] == [6, 22]
    result = ValueScan(parse_header(data[8 : 8 + length]))
    for byte in data[8 + length :]:
        result.feed(bytes([byte]))
    result.finish()
    assert result.zeros == []
