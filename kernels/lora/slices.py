"""Owns which slice of a fused projection a program of an expand writes to."""

from loraplex.kernels.language import tl, triton

# Widths are kernel arguments, not a tensor, so that no launch needs a copy to the device.
MAX_SLICES = 3


@triton.jit
def slice_of(block, width_0, width_1, width_2, BLOCK_OUT: tl.constexpr):
    """Slices have unequal widths, so their blocks are numbered through instead of taking the widest for all: the slice
    of a block, its width, where it begins in y, and the block's number within it."""
    blocks_0 = tl.cdiv(width_0, BLOCK_OUT)
    blocks_1 = tl.cdiv(width_1, BLOCK_OUT)
    past_0 = block >= blocks_0
    past_1 = block >= blocks_0 + blocks_1
    part = past_0.to(tl.int32) + past_1.to(tl.int32)
    width = tl.where(past_1, width_2, tl.where(past_0, width_1, width_0))
    offset = tl.where(past_0, width_0, 0) + tl.where(past_1, width_1, 0)
    block -= tl.where(past_0, blocks_0, 0) + tl.where(past_1, blocks_1, 0)
    return part, width, offset, block
