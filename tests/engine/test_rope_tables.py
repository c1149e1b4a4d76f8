"""Rotary tables equal those of transformers for every scaling that is served, in both ways a config spells it."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from loraplex.engine.model_config import UnsupportedModelError
from loraplex.engine.models.rope import rope_tables

HEAD_DIM, LENGTH = 64, 300
CASES: dict[str, dict[str, object]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "llama 3.1": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "llama3, short": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
    "yarn, qwen": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    "yarn, all fields": {
        "rope_type": "yarn",
        "factor": 16.0,
        "original_max_position_embeddings": 128,
        "beta_fast": 16,
        "beta_slow": 2,
        "mscale": 1.2,
        "mscale_all_dim": 0.8,
        "truncate": False,
    },
    "yarn, attention factor": {
        "rope_type": "yarn",
        "factor": 2.0,
        "original_max_position_embeddings": 256,
        "attention_factor": 1.25,
    },
    "yarn, no original length": {"rope_type": "yarn", "factor": 2.0},
}


def write(path: Path, parameters: dict[str, object], theta: float, *, legacy: bool) -> Path:
    transformers.LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        head_dim=HEAD_DIM,
        max_position_embeddings=512,
        rope_parameters={"rope_theta": theta, **parameters},
    ).save_pretrained(path)
    if legacy:
        file = path / "config.json"
        config = json.loads(file.read_text())
        del config["rope_parameters"]
        if parameters["rope_type"] != "default":
            config["rope_scaling"] = parameters
        file.write_text(json.dumps({**config, "rope_theta": theta}))
    return path


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
@pytest.mark.parametrize("case", CASES)
def test_tables(tmp_path: Path, case: str, theta: float, legacy: bool) -> None:
    path = write(tmp_path, CASES[case], theta, legacy=legacy)
    config = transformers.AutoConfig.from_pretrained(path)
    if case == "default":
        inverse = 1.0 / theta ** (torch.arange(0, HEAD_DIM, 2).float() / HEAD_DIM)
        factor = 1.0
    else:
        kind = str(CASES[case]["rope_type"])
        inverse, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    angles = torch.arange(LENGTH).float()[:, None] * inverse.float()[None, :]
    tables = rope_tables(path, HEAD_DIM, LENGTH, torch.device("cpu"))
    # An angle of 300 radians carries a rounding error of 300 × 2⁻²⁴ at least.
    torch.testing.assert_close(tables.cos, angles.cos() * factor, rtol=0, atol=1e-4)
    torch.testing.assert_close(tables.sin, angles.sin() * factor, rtol=0, atol=1e-4)


def test_partial_rotation(tmp_path: Path) -> None:
    path = write(tmp_path, {"rope_type": "default"}, 10_000.0, legacy=True)
    file = path / "config.json"
    config = {**json.loads(file.read_text()), "partial_rotary_factor": 0.5}
    file.write_text(json.dumps(config))
    tables = rope_tables(path, HEAD_DIM, LENGTH, torch.device("cpu"))
    assert tables.cos.shape == (LENGTH, HEAD_DIM // 4)


def test_what_cannot_be_served(tmp_path: Path) -> None:
    cpu = torch.device("cpu")
    path = write(tmp_path, {"rope_type": "linear", "factor": 2.0}, 1e4, legacy=False)
    file = path / "config.json"
    config = json.loads(file.read_text())
    for parameters, message in (
        ({"rope_type": "longrope"}, "'longrope' is not supported"),
        ({"rope_type": "linear"}, "not usable: 'factor'"),
        ({"rope_type": "linear", "factor": 0}, "not usable"),
        ({"rope_type": "llama3", "factor": "eight"}, "not usable"),
        ({"rope_type": "dynamic", "factor": 2.0}, "set max_model_len to 512"),
    ):
        file.write_text(json.dumps({**config, "rope_parameters": parameters}))
        with pytest.raises(UnsupportedModelError, match=message):
            rope_tables(path, HEAD_DIM, 600, cpu)
