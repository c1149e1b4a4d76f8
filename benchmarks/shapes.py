"""Owns the model shapes that benchmarks build with random weights."""

import json
from pathlib import Path

SHAPES: dict[str, dict[str, object]] = {
    # Llama-3.1-8B
    "8b": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
    },
    # About 100 million parameters, grouped-query attention as in the Llama 3 family.
    "100m": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "num_key_value_heads": 4,
        "vocab_size": 16384,
        "max_position_embeddings": 2048,
    },
    # Runs every benchmark script on a CPU within seconds: shows that it works, measures nothing.
    "tiny": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 256,
        "max_position_embeddings": 1024,
    },
}


def write_config(folder: Path, shape: str, dtype: str) -> Path:
    """Write a Llama `config.json` of a shape; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "dtype": dtype,
        **SHAPES[shape],
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder
