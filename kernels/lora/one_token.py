"""Owns where a slot's rank rows lie, and what decode kernels do with them for a single token: multiply with B.

At decode an adapter has few tokens, often one: a tensor-core tile would be mostly padding, and loops over adapters
would wait for memory again and again. A program for one token asks at once for all it reads.
"""

from loraplex.kernels.language import tl, triton


@triton.jit
def rank_rows(index_ptr, slot, num_modules, module, KIND: tl.constexpr):
    """First entry in the row table, rank (0 for the base model) and base of a slot's rows; KIND 0 for A, 1 for B."""
    used = slot >= 0
    entry = index_ptr + (slot.to(tl.int64) * num_modules + module) * 4
    first = tl.load(entry, mask=used, other=0)
    rank = tl.load(entry + 1, mask=used, other=0).to(tl.int32)
    base = tl.load(entry + 2 + KIND, mask=used, other=0)
    return first, rank, base


@triton.jit
def row_offsets(rows_ptr, first, rank, base, row, length, ALIGNMENT: tl.constexpr):
    """Offset in the arena of rank rows `row`, each `length` elements long."""
    listed = tl.load(rows_ptr + first + row, mask=row < tl.where(base < 0, rank, 0), other=0)
    offset = tl.where(base < 0, listed, base + row * length)
    # Tells the compiler what the offsets are multiples of, and so how wide its loads may be.
    return offset // ALIGNMENT * ALIGNMENT


@triton.jit
def expand_token(
    s_at,
    split_stride,
    arena_ptr,
    b_rows_ptr,
    first,
    rank,
    base,
    width,
    column,
    inside,
    SPLITS: tl.constexpr,
    SPLITS_BLOCK: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    ALIGNMENT: tl.constexpr,
):
    """s B of one token at output columns `column`: float32, zeros if its rank is 0.

    Args:
        s_at: pointer to the token's s of the first split.
        first, rank, base: from `rank_rows`.
        width: out_features of the module.
        inside: which columns exist.
    """
    acc = tl.zeros([column.shape[0]], dtype=tl.float32)
    split = tl.arange(0, SPLITS_BLOCK)
    for row_start in range(0, rank, BLOCK_RANK):
        row = row_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        part_at = s_at + split[:, None].to(tl.int64) * split_stride + row[None, :]
        parts = tl.load(part_at, mask=(split < SPLITS)[:, None] & used[None, :], other=0.0)
        offset = row_offsets(b_rows_ptr, first, rank, base, row, width, ALIGNMENT)
        at = arena_ptr + offset[:, None] + column[None, :]
        b = tl.load(at, mask=used[:, None] & inside[None, :], other=0.0)
        acc += tl.sum(tl.sum(parts, axis=0)[:, None] * b.to(tl.float32), axis=0)
    return acc
