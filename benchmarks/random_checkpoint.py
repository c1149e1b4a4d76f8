"""Owns checkpoints with random weights on disk: what `save_pretrained` would write, in seconds instead of minutes."""

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from shapes import write_config

from loraplex.engine.model_config import ModelConfig
from loraplex.engine.models.weights import allocate, checkpoint_names

_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}


def write_checkpoint(folder: Path, shape: str, dtype: torch.dtype, shards: int) -> int:
    """Write `config.json` and `shards` safetensors files of a known shape; returns their bytes.

    Matrices are pieces of one random block, so no two begin alike; norms are ones.
    """
    write_config(folder, shape, str(dtype).removeprefix("torch."))
    model = ModelConfig.from_directory(folder)
    empty = allocate(model, dtype, torch.device("meta"))
    tensors = [(name, tuple(tensor.shape)) for name, tensor in checkpoint_names(empty, model)]
    sizes = [_count(shape) * dtype.itemsize for _, shape in tensors]
    groups: list[list[tuple[str, tuple[int, ...]]]] = [[] for _ in range(shards)]
    written = 0
    for tensor, size in zip(tensors, sizes, strict=True):
        groups[written * shards // sum(sizes)].append(tensor)
        written += size
    device = "cuda" if torch.cuda.is_available() else "cpu"
    block = torch.empty(max(sizes) // dtype.itemsize + 4096, dtype=dtype, device=device)
    block = block.normal_(0, 0.02).cpu()
    names = [f"model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
    if shards == 1:
        names = ["model.safetensors"]
    with ThreadPoolExecutor(shards) as pool:
        list(pool.map(lambda at: _write(folder / names[at], groups[at], block), range(shards)))
    if shards > 1:
        index = {tensor: names[at] for at in range(shards) for tensor, _ in groups[at]}
        (folder / "model.safetensors.index.json").write_text(
            json.dumps({"metadata": {"total_size": sum(sizes)}, "weight_map": index})
        )
    return sum(sizes)


def _count(shape: Sequence[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _write(path: Path, tensors: list[tuple[str, tuple[int, ...]]], block: torch.Tensor) -> None:
    header: dict[str, object] = {}
    at = 0
    for name, shape in tensors:
        end = at + _count(shape) * block.dtype.itemsize
        header[name] = {
            "dtype": _NAMES[block.dtype],
            "shape": shape,
            "data_offsets": [at, end],
        }
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    ones = torch.ones(8192, dtype=block.dtype)
    rng = random.Random(path.name)
    with path.open("wb", buffering=0) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, shape in tensors:
            count = _count(shape)
            first = rng.randrange(len(block) - count + 1)
            values = ones[:count] if len(shape) == 1 else block[first : first + count]
            rest = values.view(torch.uint8).numpy().data
            while rest:
                rest = rest[file.write(rest) :]
