"""Owns filling in token ids that were sampled on the device and that the host has not read."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import tl, triton

_BLOCK = 1024


def resolve_token_ids(ids: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Replace references to sampled tokens by these tokens.

    Args:
        ids: [tokens] int64, contiguous; a token id, or ~row for the token in that row of `sampled`.
        sampled: [rows] int64, contiguous.

    Returns:
        [tokens] int64 token ids.
    """
    resolve = resolve_token_ids_triton if dispatch.use_triton(ids) else resolve_token_ids_reference
    return resolve(ids, sampled)


def resolve_token_ids_reference(ids: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Plain-torch twin of `resolve_token_ids`."""
    return torch.where(ids < 0, sampled[(~ids).clamp(min=0)], ids)


def resolve_token_ids_triton(ids: torch.Tensor, sampled: torch.Tensor) -> torch.Tensor:
    """Triton launcher of `resolve_token_ids`."""
    out = torch.empty_like(ids)
    if len(ids):
        _resolve_token_ids_kernel[(-(-len(ids) // _BLOCK),)](
            ids, sampled, out, len(ids), BLOCK=_BLOCK
        )
    return out


@triton.jit(do_not_specialize=["count"])
def _resolve_token_ids_kernel(ids_ptr, sampled_ptr, out_ptr, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = at < count
    ids = tl.load(ids_ptr + at, mask=live, other=0)
    tokens = tl.load(sampled_ptr + (-1 - ids), mask=live & (ids < 0), other=0)
    tl.store(out_ptr + at, tl.where(ids < 0, tokens, ids), mask=live)
