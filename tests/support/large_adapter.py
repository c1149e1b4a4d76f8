"""Owns a large adapter for tests of memory: random values of the right shapes, without a model of that size."""

import json
from pathlib import Path

import numpy as np

from loraplex.engine.model_config import ModelConfig

# An 8B Llama by its shapes; only its config is needed.
CONFIG = {
    "model_type": "llama",
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_config(folder: Path) -> Path:
    """The config of the base model, in a directory of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def write_adapter(folder: Path, rank: int) -> int:
    """An F16 adapter on every linear module of every layer, as PEFT names it; returns its bytes.

    One layer is held in memory at a time. Rank 57 makes 300 MB.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(PROJECTIONS),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    modules = [
        m
        for m in ModelConfig.from_directory(write_config(folder / "base")).modules()
        if ".layers." in m.name
    ]
    header: dict[str, object] = {}
    offset = 0
    shapes = []
    for module in modules:
        for side, shape in (("A", (rank, module.in_features)), ("B", (module.out_features, rank))):
            end = offset + 2 * shape[0] * shape[1]
            header[f"base_model.model.{module.name}.lora_{side}.weight"] = {
                "dtype": "F16",
                "shape": shape,
                "data_offsets": (offset, end),
            }
            shapes.append(shape)
            offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    random = np.random.default_rng(0)
    with (folder / "adapter_model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in shapes:
            file.write(random.standard_normal(shape, np.float32).astype(np.float16).tobytes())
    return 8 + len(text) + offset
