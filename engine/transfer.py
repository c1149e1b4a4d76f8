"""Owns bringing a step's small arrays to the device: one pinned buffer, one copy, no waiting."""

import numpy as np
import torch

_ALIGNMENT = 16


def to_device(arrays: list[np.ndarray], device: torch.device) -> list[torch.Tensor]:
    """The arrays as tensors on `device`, valid in stream order; on a CPU they share memory with contiguous arrays.

    The pinned buffer comes from torch's caching host allocator, which hands it out again only after the copy is done.
    """
    if device.type == "cpu":
        return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    starts, total = [], 0
    for array in arrays:
        starts.append(total)
        total += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    packed = torch.empty(total, dtype=torch.uint8, pin_memory=True)
    host = packed.numpy()
    for start, array in zip(starts, arrays, strict=True):
        host[start : start + array.nbytes].view(array.dtype).reshape(array.shape)[...] = array
    moved = packed.to(device, non_blocking=True)
    return [
        moved[start : start + array.nbytes]
        .view(_TORCH_TYPES[array.dtype.itemsize])
        .view(array.shape)
        for start, array in zip(starts, arrays, strict=True)
    ]


_TORCH_TYPES = {4: torch.int32, 8: torch.int64}
