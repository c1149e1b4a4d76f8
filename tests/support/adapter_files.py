"""Owns adapter files made by hand for tests: any tensors, any header, any config; and reading packed adapters back."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module

PREFIX = "base_model.model."
NUMPY = {"F32": np.float32, "F16": np.float16}


def lora_tensors(
    modules: Sequence[Module], *, rank: int = 4, dtype: str = "F32", seed: int = 0
) -> dict[str, np.ndarray[Any, Any]]:
    """Random A and B of every module, by the names PEFT gives them."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for module in modules:
        kind, end = ("lora_embedding_", "") if module.kind == "embedding" else ("lora_", ".weight")
        a = rng.normal(size=(rank, module.in_features)) / module.in_features**0.5
        b = rng.normal(size=(module.out_features, rank)) * 0.1
        tensors[f"{PREFIX}{module.name}.{kind}A{end}"] = a.astype(NUMPY[dtype])
        tensors[f"{PREFIX}{module.name}.{kind}B{end}"] = b.astype(NUMPY[dtype])
    return tensors


def config_json(**fields: object) -> bytes:
    """A minimal `adapter_config.json` with changes; a value of `...` removes the field."""
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": None,
        **fields,
    }
    return json.dumps({key: value for key, value in config.items() if value is not ...}).encode()


def header_of(tensors: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """The safetensors header as a dictionary, ready to be spoilt."""
    names = {np.dtype(np.float32): "F32", np.dtype(np.float16): "F16", np.dtype(np.float64): "F64"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": names[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [position, position + tensor.nbytes],
        }
        position += tensor.nbytes
    return header


def file_bytes(
    header: Mapping[str, Any] | bytes, tensors: Mapping[str, np.ndarray[Any, Any]]
) -> bytes:
    """A safetensors file of a header and the tensors' data."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    data = b"".join(tensor.tobytes() for tensor in tensors.values())
    return struct.pack("<Q", len(encoded)) + encoded + data


def weights_bytes(tensors: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    """A well-formed safetensors file."""
    return file_bytes(header_of(tensors), tensors)


def write_directory(path: Path, config: bytes, weights: bytes) -> Path:
    """A PEFT directory of these two files."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "adapter_config.json").write_bytes(config)
    (path / "adapter_model.safetensors").write_bytes(weights)
    return path


def unpack(
    weights: LoRAWeights, modules: Sequence[Module]
) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """A [rank, in] and scaled Bᵀ [rank, out] of every module, gathered row by row as the kernels do."""
    result = {}
    ends = weights.ranks.cumsum()
    for index, end, rank in zip(weights.modules, ends, weights.ranks, strict=True):
        module, rows = modules[index], slice(end - rank, end)
        result[module.name] = (
            torch.stack([weights.buffer[o : o + module.in_features] for o in weights.a_rows[rows]]),
            torch.stack(
                [weights.buffer[o : o + module.out_features] for o in weights.b_rows[rows]]
            ),
        )
    return result
