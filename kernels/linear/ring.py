"""Owns the kernel for projections of few tokens: W streams through a ring of tiles in shared memory.

One program per block of W's rows; every element of W is read once, by bulk copies. The first tiles of W, which depend
on no earlier kernel, are on their way before the program waits for the kernel before it (programmatic dependent
launch): memory does not rest while norms and activations run. W is the wide operand, acc [rows of W, tokens] +=
W tile × x tileᵀ, so that few tokens still fill a tensor-core instruction. The sum over in_features is not split:
partial sums would need scratch and counters, and gained nothing up to 32 tokens.

Written in Gluon, Triton's lower language, because Triton itself fills its pipeline with x and W together.
"""

import torch
from triton import cdiv
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    mma_v2,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from loraplex.kernels.language import power_of_two
from loraplex.kernels.linear.tuning import Launch

# Renamed between Triton 3.6 and 3.9.
_barrier = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
_load = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared


def linear_ring(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, launch: Launch
) -> torch.Tensor:
    """Launcher of `linear` for NVIDIA Hopper.

    Args:
        x: [tokens, in_features] bfloat16 or float16, at most 128 tokens.
        weight: [out_features, in_features], x's dtype. Rows of both begin at multiples of 16 bytes.
        bias: [out_features] or None.
        launch: block sizes; see tuning.py.

    Returns:
        [tokens, out_features], contiguous.
    """
    tokens, in_features = x.shape
    out_features = weight.shape[0]
    y = torch.empty((tokens, out_features), dtype=x.dtype, device=x.device)
    block_tokens = max(16, power_of_two(tokens))
    _ring_kernel[(cdiv(out_features, launch.block_out),)](
        _descriptor(x, block_tokens, launch.block_in),
        _descriptor(weight, launch.block_out, launch.block_in),
        y if bias is None else bias,
        y,
        tokens,
        out_features,
        in_features,
        HAS_BIAS=bias is not None,
        TOKENS=block_tokens,
        BLOCK_OUT=launch.block_out,
        BLOCK_IN=launch.block_in,
        STAGES=launch.stages,
        WARPS=launch.num_warps,
        num_warps=launch.num_warps,
        launch_pdl=True,
    )
    return y


def _descriptor(matrix: torch.Tensor, rows: int, columns: int) -> TensorDescriptor:
    element = gl.bfloat16 if matrix.dtype is torch.bfloat16 else gl.float16
    layout = gl.NVMMASharedLayout.get_default_for([rows, columns], element)
    shape, strides = list(matrix.shape), list(matrix.stride())
    return TensorDescriptor(matrix, shape, strides, [rows, columns], layout)


@gluon.jit(do_not_specialize=["tokens"])
def _ring_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_ptr,
    tokens,
    out_features,
    in_features,
    HAS_BIAS: gl.constexpr,
    TOKENS: gl.constexpr,
    BLOCK_OUT: gl.constexpr,
    BLOCK_IN: gl.constexpr,
    STAGES: gl.constexpr,
    WARPS: gl.constexpr,
):
    # The warp-group instruction takes 64 rows of W or more; 32 rows go to the older one.
    WIDE: gl.constexpr = BLOCK_OUT >= 64
    ACC: gl.constexpr = (
        gl.NVMMADistributedLayout([3, 0], [WARPS, 1], [16, TOKENS, 16])
        if WIDE
        else gl.NVMMADistributedLayout(
            [2, 0], [BLOCK_OUT // 16, WARPS // (BLOCK_OUT // 16)], [16, 8]
        )
    )
    TILE_BYTES: gl.constexpr = (TOKENS + BLOCK_OUT) * BLOCK_IN * 2
    # The next kernel may be set up now: it waits for this one's end before it reads anything.
    gl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; mov.u32 $0, 0;",
        "=r",
        [],
        dtype=gl.int32,
        is_pure=False,
        pack=1,
    )
    row = gl.program_id(0) * BLOCK_OUT
    tiles = (in_features + BLOCK_IN - 1) // BLOCK_IN
    w_ring = gl.allocate_shared_memory(w_desc.dtype, [STAGES, BLOCK_OUT, BLOCK_IN], w_desc.layout)
    x_ring = gl.allocate_shared_memory(x_desc.dtype, [STAGES, TOKENS, BLOCK_IN], x_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for first in gl.static_range(STAGES):
        mbarrier.init(full.index(first), count=1)
    fence_async_shared()
    _barrier()
    for first in gl.static_range(STAGES):
        mbarrier.expect(full.index(first), TILE_BYTES, pred=first < tiles)
        _load(
            w_desc,
            [row, first * BLOCK_IN],
            full.index(first),
            w_ring.index(first),
            pred=first < tiles,
        )
    # Here the kernel before this one has ended and x can be read.
    gl.inline_asm_elementwise(
        "griddepcontrol.wait; mov.u32 $0, 0;", "=r", [], dtype=gl.int32, is_pure=False, pack=1
    )
    for first in gl.static_range(STAGES):
        _load(
            x_desc,
            [0, first * BLOCK_IN],
            full.index(first),
            x_ring.index(first),
            pred=first < tiles,
        )

    acc = gl.full([BLOCK_OUT, TOKENS], 0.0, gl.float32, layout=ACC)
    for tile in range(tiles):
        slot = tile % STAGES
        mbarrier.wait(full.index(slot), (tile // STAGES) & 1)
        w = w_ring.index(slot)
        x = x_ring.index(slot).permute((1, 0))
        if WIDE:
            acc = warpgroup_mma(w, x, acc, is_async=True)
            acc = warpgroup_mma_wait(num_outstanding=1, deps=(acc,))
            # One product is still running, so the slot of the one before it is what has become free.
            free = tile - 1
        else:
            acc = mma_v2(
                w.load(gl.DotOperandLayout(0, ACC, 2)), x.load(gl.DotOperandLayout(1, ACC, 2)), acc
            )
            free = tile
        _barrier()
        ahead = free + STAGES
        slot = ahead % STAGES
        more = (free >= 0) & (ahead < tiles)
        mbarrier.expect(full.index(slot), TILE_BYTES, pred=more)
        _load(w_desc, [row, ahead * BLOCK_IN], full.index(slot), w_ring.index(slot), pred=more)
        _load(x_desc, [0, ahead * BLOCK_IN], full.index(slot), x_ring.index(slot), pred=more)
    if WIDE:
        acc = warpgroup_mma_wait(num_outstanding=0, deps=(acc,))
        # The layout change below reuses the ring, which another warp group's last product may still be reading.
        _barrier()

    # Neighbouring threads store neighbouring elements of a row of y.
    OUT: gl.constexpr = gl.BlockedLayout([BLOCK_OUT // 32, 1], [32, 1], [1, WARPS], [0, 1])
    out = gl.convert_layout(acc, OUT)
    column = row + gl.arange(0, BLOCK_OUT, layout=gl.SliceLayout(1, OUT))
    token = gl.arange(0, TOKENS, layout=gl.SliceLayout(0, OUT))
    if HAS_BIAS:
        bias = gl.load(bias_ptr + column, mask=column < out_features, other=0.0)
        out += bias.to(gl.float32)[:, None]
    gl.store(
        y_ptr + token[None, :].to(gl.int64) * out_features + column[:, None],
        out.to(y_ptr.dtype.element_ty),
        mask=(column < out_features)[:, None] & (token < tokens)[None, :],
    )
