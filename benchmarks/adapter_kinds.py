"""Owns adapter files of which thousands exist without their bytes: all of one rank are equal except for the last few
values, so the SHA-256 of each is a copied hash state and one piece."""

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loraplex.adapters.admission import AdmissionReport
from loraplex.adapters.canonical import version_digest
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.model_config import ModelConfig, Module

# S-LoRA's suites: adapter i has rank ranks[i modulo their number], on these modules.
SUITES = {"S1": (8,), "S2": (64, 32, 16, 8)}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
PIECE = 1024 * 1024  # what the database keeps in one row
# The file's last row: 32 bfloat16 values, the first four of which tell the adapters apart.
_TAIL_BYTES = 64
# Small, so that scores stay finite through all layers.
_STANDARD_DEVIATION = 0.01


@dataclass(frozen=True, slots=True)
class Member:
    """One adapter of a kind: the end of its file, and what the file and the version are known by."""

    tail: bytes
    weights_sha256: str
    digest: str


class AdapterKind:
    """All adapters of one rank on the modules of a base model whose names end in one of `targets`.

    Attributes:
        size: bytes of each file, a whole number of pieces and a tail.
        config: `adapter_config.json`.
        report: what admission says of member 0, whose whole file was judged.
    """

    def __init__(self, model: ModelConfig, rank: int, targets: Sequence[str]) -> None:
        modules = [m for m in model.modules() if m.name.endswith(tuple(targets))]
        self.rank = rank
        self.config = json.dumps(
            {
                "peft_type": "LORA",
                "r": rank,
                "lora_alpha": rank,
                "target_modules": sorted({m.name.rpartition(".")[2] for m in modules}),
                "task_type": "CAUSAL_LM",
            }
        ).encode()
        self._head, data_bytes = _head(modules, rank)
        self.size = len(self._head) + data_bytes
        self._values = _values()
        self._hash = hashlib.sha256()
        inspector = UploadInspector(self.config, model.modules(), expected_size=self.size)
        for piece in self.pieces():
            self._hash.update(piece)
            inspector.feed(piece)
        inspector.feed(self._tail(0))
        self.report: AdmissionReport = inspector.finish()
        assert self.member(0).digest == self.report.version_digest

    def pieces(self) -> Iterator[bytes]:
        """The bytes that all have in common, in whole pieces."""
        done = len(self._head)
        number = 0
        pending = self._head
        while done < self.size - _TAIL_BYTES:
            # Each stretch begins elsewhere in the random block, so that no two pieces are equal.
            start = 2 * (number * 7919 % (PIECE // 2))
            stretch = self._values[start : start + min(PIECE, self.size - _TAIL_BYTES - done)]
            pending += stretch
            done += len(stretch)
            number += 1
            while len(pending) >= PIECE:
                yield pending[:PIECE]
                pending = pending[PIECE:]
        assert not pending

    def member(self, number: int) -> Member:
        """The adapter with this number, below 2²⁸."""
        tail = self._tail(number)
        whole = self._hash.copy()
        whole.update(tail)
        sha256 = whole.hexdigest()
        return Member(tail, sha256, version_digest(self.report.canonical_config, sha256))

    def write(self, folder: Path, number: int) -> None:
        """Write one adapter as PEFT does: its config and its weights file."""
        (folder / "adapter_config.json").write_bytes(self.config)
        with (folder / "adapter_model.safetensors").open("wb") as file:
            file.writelines(self.pieces())
            file.write(self._tail(number))

    def _tail(self, number: int) -> bytes:
        # Seven bits of a bfloat16 mantissa each, beside the exponent of values near 0.0005.
        own = [0x3A00 | number >> shift & 0x7F for shift in (0, 7, 14, 21)]
        return struct.pack("<4H", *own) + self._values[: _TAIL_BYTES - 8]


def _head(modules: Sequence[Module], rank: int) -> tuple[bytes, int]:
    """Length and header of the file, padded so that it ends `_TAIL_BYTES` behind whole pieces; and its data bytes."""
    header: dict[str, object] = {}
    at = 0
    for module in modules:
        for side, shape in (("A", (rank, module.in_features)), ("B", (module.out_features, rank))):
            end = at + 2 * math.prod(shape)
            header[f"base_model.model.{module.name}.lora_{side}.weight"] = {
                "dtype": "BF16",
                "shape": shape,
                "data_offsets": [at, end],
            }
            at = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * ((_TAIL_BYTES - 8 - len(text) - at) % PIECE)
    return struct.pack("<Q", len(text)) + text, at


def _values() -> bytes:
    """Two pieces of random bfloat16 values."""
    values = np.random.default_rng(0).standard_normal(PIECE, np.float32) * _STANDARD_DEVIATION
    return (values.view(np.uint32) >> 16).astype("<u2").tobytes()
