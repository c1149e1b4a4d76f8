"""Owns the rotary tables of a model: cosines and sines per position, for every scaling the served families use.

The parameters are read from `config.json` itself: importing transformers and its config classes for them would cost
seconds at every start.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch

from loraplex.engine.model_config import UnsupportedModelError

_SCALINGS = ("default", "linear", "llama3", "yarn", "dynamic")
# What a config without `rope_theta` means.
_THETA = 10_000.0

Parameters = Mapping[str, float]


class RopeTables(NamedTuple):
    """cos, sin: [positions, rotary_dim / 2] float32, the attention factor of the scaling included."""

    cos: torch.Tensor
    sin: torch.Tensor


def rope_tables(path: Path, head_dim: int, max_model_len: int, device: torch.device) -> RopeTables:
    """Tables for positions below `max_model_len`.

    Raises:
        UnsupportedModelError: a scaling that is not served, parameters that are missing or no numbers, or dynamic
            scaling beyond the original length (its angles depend on the length a sequence will reach, which a KV cache
            cannot follow).
    """
    kind, parameters = _parameters(path)
    if kind not in _SCALINGS:
        raise UnsupportedModelError(
            f"rope type {kind!r} is not supported; supported are {', '.join(_SCALINGS)}."
        )
    try:
        if kind == "dynamic":
            original = int(parameters["original_max_position_embeddings"])
            if max_model_len > original:
                raise UnsupportedModelError(
                    f"dynamic rope scaling is served up to the original length only; set max_model_len to {original}."
                )
        rotary = int(head_dim * parameters["partial_rotary_factor"])
        exponents = torch.arange(0, rotary, 2, dtype=torch.int64).float() / rotary
        frequencies = 1.0 / (parameters["rope_theta"] ** exponents)
        factor = 1.0
        if kind == "linear":
            frequencies = frequencies / parameters["factor"]
        elif kind == "llama3":
            frequencies = _llama3(frequencies, parameters)
        elif kind == "yarn":
            frequencies, factor = _yarn(frequencies, parameters)
        if not bool(((frequencies > 0) & frequencies.isfinite()).all()):
            raise ValueError("they give no finite frequencies")
    except UnsupportedModelError:
        raise
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UnsupportedModelError(
            f"rope_parameters of {path / 'config.json'} are not usable: {error}."
        ) from error
    angles = torch.arange(max_model_len).float()[:, None] * frequencies[None, :]
    return RopeTables((angles.cos() * factor).to(device), (angles.sin() * factor).to(device))


def _parameters(path: Path) -> tuple[str, Parameters]:
    """Type and parameters; transformers 4 wrote `rope_theta` and `rope_scaling`, 5 writes `rope_parameters`."""
    config = json.loads((path / "config.json").read_text())
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = found.get("rope_type") or found.get("type") or "default"
    defaults = {
        "rope_theta": config.get("rope_theta") or _THETA,
        "partial_rotary_factor": config.get("partial_rotary_factor") or 1.0,
        "original_max_position_embeddings": config.get("max_position_embeddings"),
        "max_position_embeddings": config.get("max_position_embeddings"),
    }
    given = {name: value for name, value in found.items() if value is not None}
    return str(kind), {**defaults, **given}


def _llama3(frequencies: torch.Tensor, parameters: Parameters) -> torch.Tensor:
    """Long waves are stretched by `factor`, short ones stay, those between are blended."""
    original = parameters["original_max_position_embeddings"]
    low, high = parameters["low_freq_factor"], parameters["high_freq_factor"]
    turns = original * frequencies / (2 * math.pi)  # rotations within the original length
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequencies + (1 - kept) * frequencies / parameters["factor"]


def _yarn(frequencies: torch.Tensor, parameters: Parameters) -> tuple[torch.Tensor, float]:
    """Frequencies that turn often within the original length stay, slow ones are divided by `factor`, with a ramp over
    the dimensions between; scores grow with the logarithm of the factor (Peng et al. 2023)."""
    original = parameters["original_max_position_embeddings"]
    factor = parameters.get("factor") or parameters["max_position_embeddings"] / original
    half = len(frequencies)

    def dimension(rotations: float) -> float:
        """The dimension that makes so many rotations within the original length."""
        wave = original / (rotations * 2 * math.pi)
        return half * math.log(wave) / math.log(parameters["rope_theta"])

    low = dimension(parameters.get("beta_fast") or 32)
    high = dimension(parameters.get("beta_slow") or 1)
    if parameters.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, 2 * half - 1)
    if low == high:
        high += 0.001
    slow = ((torch.arange(half).float() - low) / (high - low)).clamp(0, 1)
    scaled = slow * frequencies / factor + (1 - slow) * frequencies
    attention = parameters.get("attention_factor")
    if attention is None:
        scale, all_dim = parameters.get("mscale"), parameters.get("mscale_all_dim")
        attention = (
            _magnitude(factor, scale) / _magnitude(factor, all_dim)
            if scale and all_dim
            else _magnitude(factor, 1.0)
        )
    return scaled, float(attention)


def _magnitude(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0
