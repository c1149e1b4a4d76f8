"""Owns the choice between a Triton kernel and its plain-torch reference."""

import torch


def use_triton(tensor: torch.Tensor) -> bool:
    """Whether operations on `tensor` run as Triton kernels. Tests replace this function to run them on a CPU."""
    return tensor.is_cuda
