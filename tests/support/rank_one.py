"""Owns the smallest adapter there is, for engine tests that need to know every one of its values."""

import torch

from loraplex.engine.lora import LoRAWeights, ModuleRows
from loraplex.engine.model_config import ModelConfig


def rank_one(value: float, model: ModelConfig, pages: int = 1) -> LoRAWeights:
    """A rank-1 adapter on the first o_proj in float32, all elements `value`, `pages` pages long."""
    page = 2 * 1024 * 1024 // 4
    module = model.modules()[3]
    buffer = torch.full((pages * page,), value)
    return LoRAWeights(buffer, (ModuleRows(3, (0,), (module.in_features,)),))
