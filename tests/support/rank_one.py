"""Owns the smallest adapter there is, for engine tests that need to know every one of its values."""

import numpy as np
import torch

from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pages import page_elements


def rank_one(value: float, model: ModelConfig, pages: int = 1) -> LoRAWeights:
    """A rank-1 adapter on the first o_proj in float32, all elements `value`, `pages` pages long."""
    modules = model.modules()
    buffer = torch.full((pages * page_elements(torch.float32, modules),), value)
    index, rank, a_row, b_row = (np.array([n]) for n in (3, 1, 0, modules[3].in_features))
    return LoRAWeights(buffer, index, rank, a_row, b_row)
