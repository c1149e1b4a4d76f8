"""Owns the choice between a Triton kernel and its plain-torch reference."""

from functools import lru_cache

import torch


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether operations on `tensor` run as Triton kernels. Tests replace this function to run them on a CPU."""
    return tensor.is_cuda


def early_launch(tensor: torch.Tensor) -> bool:
    """Whether kernels on `tensor` are launched while the one before still runs (programmatic dependent launch).

    Such a kernel begins by letting the next one be set up, and waits for the one before to end before it reads or
    writes anything. Between the small kernels of a decode step that saves 7 to 10 us per layer (see linear/tuning.py).
    """
    return tensor.is_cuda and _is_hopper(tensor.device)


@lru_cache(maxsize=16)
def _is_hopper(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device)[0] >= 9
