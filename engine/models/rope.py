"""Owns the rotary tables of a model: cosines and sines per position, for every scaling the served families use."""

from pathlib import Path
from typing import NamedTuple

import torch
from transformers import AutoConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from loraplex.engine.model_config import UnsupportedModelError

_SCALINGS = ("default", "linear", "llama3", "yarn", "dynamic")


class RopeTables(NamedTuple):
    """cos, sin: [positions, rotary_dim / 2] float32, the attention factor of the scaling included."""

    cos: torch.Tensor
    sin: torch.Tensor


def rope_tables(path: Path, head_dim: int, max_model_len: int, device: torch.device) -> RopeTables:
    """Tables for positions below `max_model_len`.

    Raises:
        UnsupportedModelError: a scaling that is not served, or dynamic scaling beyond the original length (its angles
            depend on the length a sequence will reach, which a KV cache cannot follow).
    """
    config = AutoConfig.from_pretrained(path)
    parameters: dict[str, float | str] = config.rope_parameters
    kind = str(parameters.get("rope_type", "default"))
    if kind not in _SCALINGS:
        raise UnsupportedModelError(
            f"rope type {kind!r} is not supported; supported are {', '.join(_SCALINGS)}."
        )
    if kind == "dynamic":
        original = int(
            parameters.get("original_max_position_embeddings") or config.max_position_embeddings
        )
        if max_model_len > original:
            raise UnsupportedModelError(
                f"dynamic rope scaling is served up to the original length only; set max_model_len to {original}."
            )
        kind = "default"
    factor = 1.0
    if kind == "default":
        share = float(parameters.get("partial_rotary_factor", 1.0))
        rotary = int(head_dim * share)
        exponents = torch.arange(0, rotary, 2, dtype=torch.int64).float() / rotary
        frequencies = 1.0 / (float(parameters["rope_theta"]) ** exponents)
    else:
        frequencies, factor = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    angles = torch.arange(max_model_len).float()[:, None] * frequencies.float()[None, :]
    return RopeTables((angles.cos() * factor).to(device), (angles.sin() * factor).to(device))
