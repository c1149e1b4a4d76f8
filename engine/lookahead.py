"""Owns the choice whether the engine launches a step before it has read the tokens of the one before."""

import torch


def runs_ahead(device: torch.device) -> bool:
    """Whether steps overlap on `device`. A sequence that ends by surprise wastes its row of the step launched
    meanwhile, which a GPU has to spare and a CPU has not. Tests replace this function to overlap steps on a CPU."""
    return device.type == "cuda"
