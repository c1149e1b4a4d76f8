"""Owns the kernel for projections of few tokens: one program per block of rows of W, every element of W read once.

W is the wide operand: acc [rows of W, tokens] += W tile × x tileᵀ, so that few tokens still fill a tensor-core
instruction. There is no split of the sum: blocks of 32 rows already give each multiprocessor of an H200 a program at
4096 rows, and partial sums would need scratch and a second pass.
"""

import torch

from loraplex.kernels.language import dot_dtype, power_of_two, start_early, tl, triton
from loraplex.kernels.linear.tuning import Launch


def linear_tile(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, launch: Launch
) -> torch.Tensor:
    """Triton launcher of `linear`.

    Args:
        x: [tokens, in_features] bfloat16 or float16, at most 128 tokens.
        weight: [out_features, in_features], x's dtype. Rows of both begin at multiples of 16 bytes.
        bias: [out_features] or None.
        launch: block sizes; see tuning.py.

    Returns:
        [tokens, out_features], contiguous.
    """
    # Imported here because this module can be imported where Triton is absent.
    from triton.tools.tensor_descriptor import TensorDescriptor

    tokens, in_features = x.shape
    out_features = weight.shape[0]
    y = torch.empty((tokens, out_features), dtype=x.dtype, device=x.device)
    block_tokens = max(16, power_of_two(tokens))
    early = x.is_cuda
    _linear_kernel[(-(-out_features // launch.block_out),)](
        TensorDescriptor.from_tensor(x, [block_tokens, launch.block_in]),
        TensorDescriptor.from_tensor(weight, [launch.block_out, launch.block_in]),
        weight if bias is None else bias,
        y,
        tokens,
        out_features,
        in_features,
        HAS_BIAS=bias is not None,
        BLOCK_TOKENS=block_tokens,
        BLOCK_OUT=launch.block_out,
        BLOCK_IN=launch.block_in,
        EARLY=early,
        DOT=dot_dtype(x.dtype),
        num_warps=launch.num_warps,
        num_stages=launch.stages,
        launch_pdl=early,
    )
    return y


@triton.jit(do_not_specialize=["tokens"])
def _linear_kernel(
    x_desc,
    w_desc,
    bias_ptr,
    y_ptr,
    tokens,
    out_features,
    in_features,
    HAS_BIAS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_IN: tl.constexpr,
    EARLY: tl.constexpr,
    DOT: tl.constexpr,
):
    row = tl.program_id(0) * BLOCK_OUT
    start_early(EARLY)
    acc = tl.zeros([BLOCK_OUT, BLOCK_TOKENS], dtype=tl.float32)
    for column in range(0, in_features, BLOCK_IN):
        w = w_desc.load([row, column])
        x = x_desc.load([0, column])
        acc = tl.dot(w.to(DOT), tl.trans(x).to(DOT), acc)
    out = tl.trans(acc)
    column = row + tl.arange(0, BLOCK_OUT)
    token = tl.arange(0, BLOCK_TOKENS)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + column, mask=column < out_features, other=0.0)
        out += bias.to(tl.float32)[None, :]
    tl.store(
        y_ptr + token[:, None].to(tl.int64) * out_features + column[None, :],
        out.to(y_ptr.dtype.element_ty),
        mask=(token < tokens)[:, None] & (column < out_features)[None, :],
    )
