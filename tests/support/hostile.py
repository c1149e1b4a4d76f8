"""Owns the pieces of hostile adapters: a base model to attack, one good adapter of it, and what an attack is. Imports
no torch, so that the process that judges attacks stays small."""

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from loraplex.engine.model_config import ModelConfig, Module

PREFIX = "base_model.model."
# As many modules as a model of 70 billion parameters has, so that what is run over each of them is felt; each is tiny.
BASE: dict[str, object] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 80,
    "num_attention_heads": 2,
}
RANK = 2
Json = dict[str, object]


def base_modules() -> tuple[Module, ...]:
    """Of the base model under attack."""
    return ModelConfig.from_dict(dict(BASE), {}).modules()


class Attack(NamedTuple):
    """An adapter to be refused.

    Attributes:
        config: of adapter_config.json.
        weights: its bytes in pieces; made when needed, since some are large.
        size: what the sender announces, None: as many as there are.
        field: what the refusal must name.
        says: a part of the reason.
    """

    name: str
    config: bytes
    weights: Callable[[], Iterator[bytes]]
    size: int | None
    field: str
    says: str


@dataclass(frozen=True, slots=True)
class Tensor:
    """One entry of a header, and how its data is filled."""

    shape: tuple[int, ...]
    dtype: str = "F32"
    value: bytes = struct.pack("<f", 0.5)

    @property
    def data(self) -> bytes:
        count = 1
        for length in self.shape:
            count *= length
        return self.value * count


def good_tensors() -> dict[str, Tensor]:
    """A LoRA on one module."""
    q = f"{PREFIX}model.layers.0.self_attn.q_proj"
    return {f"{q}.lora_A.weight": Tensor((RANK, 16)), f"{q}.lora_B.weight": Tensor((16, RANK))}


def good_config(**changes: object) -> bytes:
    """Its config, with changes; a value of `...` removes the field."""
    config: Json = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj"],
        **changes,
    }
    return json.dumps({key: value for key, value in config.items() if value is not ...}).encode()


def header_of(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """The safetensors header, ready to be spoilt."""
    header: dict[str, object] = {}
    position = 0
    for name, tensor in tensors.items():
        end = position + len(tensor.data)
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [position, end],
        }
        position = end
    return header


def file_of(header: Mapping[str, object] | bytes, data: bytes) -> bytes:
    """A safetensors file."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def good_file(tensors: Mapping[str, Tensor] | None = None) -> bytes:
    """A well-formed file of these tensors."""
    chosen = good_tensors() if tensors is None else tensors
    return file_of(header_of(chosen), b"".join(tensor.data for tensor in chosen.values()))
