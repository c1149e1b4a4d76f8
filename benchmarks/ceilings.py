"""Owns what the machine can do at best, measured in the same run as what is held against it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from replay import events_us, replay_us


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Bytes per second of a large read and of a large copy (read plus written), FLOP per second of a large product."""

    read: float
    copy: float
    gemm: float


def measure_ceilings(dtype: torch.dtype, device: torch.device) -> Ceilings:
    """A sum over and a copy of 4 GiB, and an 8192³ matrix product; small ones on a CPU."""
    cuda = device.type == "cuda"
    count, side = (2**31, 8192) if cuda else (2**20, 128)
    source = torch.ones(count, dtype=dtype, device=device)
    target = torch.empty_like(source)
    size = count * dtype.itemsize
    copy_us = _time(lambda: target.copy_(source), device)
    wide = source.view(torch.int64) if source.numel() % 4 == 0 else source
    read_us = _time(lambda: wide.amax(), device)
    a = torch.randn(side, side, dtype=dtype, device=device)
    b = torch.randn(side, side, dtype=dtype, device=device)
    gemm_us = _time(lambda: a @ b, device)
    copy = 2 * size / copy_us * 1e6
    # A reduction may be slower than a copy where its kernel is not the best; what a copy reads and writes is possible.
    return Ceilings(max(size / read_us * 1e6, copy), copy, 2 * side**3 / gemm_us * 1e6)


def _time(call: Callable[[], object], device: torch.device) -> float:
    if device.type != "cuda":
        return replay_us(lambda _: call(), 1, device)
    call()
    return events_us(call)
