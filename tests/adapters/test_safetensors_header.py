"""The safetensors header is proved before anything behind it is believed."""

import json
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.safetensors_header import (
    MAX_HEADER_BYTES,
    Header,
    TensorInfo,
    header_length,
    parse_header,
)
from support.adapter_files import file_bytes, header_of

TENSORS: dict[str, np.ndarray[Any, Any]] = {
    "a.weight": np.ones((2, 3), np.float32),
    "b.weight": np.ones((4, 1), np.float16),
}


def parse(data: bytes) -> Header:
    length = header_length(data[:8])
    return parse_header(data[8 : 8 + length])


def rejection(data: bytes) -> str:
    with pytest.raises(AdapterRejected) as caught:
        parse(data)
    assert caught.value.field == "weights"
    return caught.value.message


def test_reads_what_safetensors_writes() -> None:
    data = safetensors.numpy.save(TENSORS, {"format": "pt"})
    header = parse(data)
    assert header.file_size == len(data)
    assert header.tensors == (
        TensorInfo("a.weight", "F32", (2, 3), 0, 24),
        TensorInfo("b.weight", "F16", (4, 1), 24, 32),
    )


def spoilt(change: Callable[[dict[str, Any]], object]) -> bytes:
    header = header_of(TENSORS)
    change(header)
    return file_bytes(header, TENSORS)


def set_a(**fields: object) -> Callable[[dict[str, Any]], object]:
    return lambda header: header["a.weight"].update(fields)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda h: h.clear(), "holds no tensors"),
        (lambda h: h.update({"x\nforged log line": h.pop("a.weight")}), "characters other than"),
        (lambda h: h.update({"../../etc/passwd": h.pop("a.weight")}), "characters other than"),
        (lambda h: h.update({"n\0": h.pop("a.weight")}), "characters other than"),
        (lambda h: h.update({"": h.pop("a.weight")}), "characters other than"),
        (lambda h: h.update({"n" * 513: h.pop("a.weight")}), "characters other than"),
        (lambda h: h.update({"a.weight": 5}), "exactly dtype, shape"),
        (lambda h: h["a.weight"].pop("shape"), "exactly dtype, shape"),
        (set_a(more=1), "exactly dtype, shape"),
        (set_a(dtype="F64", shape=[3]), "float32, float16"),
        (set_a(dtype="I8"), "'I8'"),
        (set_a(dtype=["F32"]), "float32, float16"),
        (set_a(shape="2x3"), "invalid shape"),
        (set_a(shape=[2, 3.0]), "invalid shape"),
        (set_a(shape=[2, True]), "invalid shape"),
        (set_a(shape=[-2, -3]), "invalid shape"),
        (set_a(shape=[2**40, 1]), "invalid shape"),
        (set_a(shape=[1] * 7 + [2, 3]), "invalid shape"),
        (set_a(shape=[0, 2**30]), "is empty"),
        (set_a(shape=[2, 4]), "does not fill its byte range"),
        (set_a(data_offsets=[0]), "invalid data_offsets"),
        (set_a(data_offsets=[0, -1]), "invalid data_offsets"),
        (set_a(data_offsets=[24, 0]), "does not fill its byte range"),
        (set_a(data_offsets=[4, 28]), "leaves a hole"),
        (lambda h: h["b.weight"].update(data_offsets=[28, 36]), "leaves a hole"),
        (lambda h: h["b.weight"].update(data_offsets=[16, 24]), "overlaps"),
        (lambda h: h.update(__metadata__={"a": 1}), "__metadata__"),
        (lambda h: h.update(__metadata__="pt"), "__metadata__"),
    ],
)
def test_bad_headers_are_refused(change: Callable[[dict[str, Any]], object], says: str) -> None:
    assert says in rejection(spoilt(change))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "truncated"),
        (b"\0" * 7, "truncated"),
        (b"\0" * 8, "no safetensors header"),
        (struct.pack("<Q", 53_000_000), "53000000"),
        (struct.pack("<Q", 2**64 - 1), str(2**64 - 1)),
        (b"\x80\x04\x95\x1f\0\0\0\0" + b"." * 40, "pickle"),
        (b"PK\x03\x04" + b"\0" * 4, "zip archive or a PyTorch"),
        (b"PK\x03\x04" + b"\x14\0\x08\x08" * 9, "zip archive or a PyTorch"),
        (b"GGUF\x03\0\0\0" + b"\1" * 20, "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
        (b"\x1f\x8b\x08\0\x12\x34\x56\x67", "gzip"),
        (b"<!DOCTYPE html>", "not safetensors"),
        (file_bytes(b" {}", {}), "start with an object"),
        (file_bytes(b"[]", {}), "start with an object"),
        (file_bytes(b'{"a": ', {}), "not valid JSON"),
        (file_bytes(b'{"\xff": 1}', {}), "not valid JSON"),
        (file_bytes(b'{"a":' * 20_000, {}), "nested too deeply"),
        (file_bytes(b'{"a": {}, "a": {}}', {}), "'a' twice"),
        (file_bytes(b'{"a": {"dtype": "F32", "dtype": "F16"}}', {}), "'dtype' twice"),
    ],
)
def test_other_files_are_refused(data: bytes, says: str) -> None:
    assert says in rejection(data)


def test_many_tensors_are_refused_before_they_cost_memory() -> None:
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    many = json.dumps({f"t{i}": entry for i in range(20_001)}).encode()
    assert len(many) < MAX_HEADER_BYTES
    assert "more than 20000" in rejection(file_bytes(many, {}))
    nests = b'{"a":[' + b"[]," * 600_000 + b"[]]}"
    tracemalloc.start()
    assert "more than 20000" in rejection(file_bytes(nests, {}))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6


def test_a_pytorch_checkpoint_is_recognised(tmp_path: Path) -> None:
    import torch

    torch.save({"a": torch.ones(3)}, tmp_path / "adapter_model.bin")
    data = (tmp_path / "adapter_model.bin").read_bytes()
    assert "safe_serialization=True" in rejection(data)
