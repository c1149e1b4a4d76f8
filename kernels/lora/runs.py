"""Owns what prefill kernels do for a tile of tokens: go through its runs, adjacent tokens of one adapter, and multiply
each with its B.

A program takes a run's tokens alone, others of the tile are masked: so a NaN in one adapter never meets another's
tokens. What a run needs (its place in the arena, the first rank rows of s, summed over splits) is read once and kept
while the program goes over several blocks of output columns.
"""

from loraplex.kernels.language import tl, triton
from loraplex.kernels.lora.one_token import row_offsets


@triton.jit
def tile_slots(token_slots_ptr, start, num_tokens, TILE: tl.constexpr):
    """[TILE] adapter slots of the tokens from `start` on: -1 for the base model, -2 past the last token."""
    token = start + tl.arange(0, TILE)
    return tl.load(token_slots_ptr + token, mask=token < num_tokens, other=-2)


@triton.jit
def tile_runs(token_slots_ptr, start, num_tokens, TILE: tl.constexpr):
    """The tokens from `start` on: their adapter slots as in `tile_slots`, the numbers of their runs, both [TILE], and
    how many runs there are.

    The programs along a grid's third dimension take runs in turn: of WAYS programs, program w those with the numbers w,
    w + WAYS, ...
    """
    lane = tl.arange(0, TILE)
    slots = tile_slots(token_slots_ptr, start, num_tokens, TILE)
    live = slots != -2
    before = tl.load(token_slots_ptr + start + lane - 1, mask=live & (lane > 0), other=-2)
    opens = (live & (slots != before)).to(tl.int32)
    return slots, tl.cumsum(opens, 0) - 1, tl.sum(opens, axis=0)


@triton.jit
def run_of(slots, numbers, number):
    """The run of this number: its slot, and which lanes are its own."""
    mine = (numbers == number) & (slots != -2)
    return tl.max(tl.where(mine, slots, -2), axis=0), mine


@triton.jit
def low_rank(s_at, split_stride, row, rank, mine, SPLITS: tl.constexpr):
    """Columns `row` of s, summed over splits: [TILE, rows] float32, 0 for other runs' tokens and past the rank, where
    memory holds anything.

    Args:
        s_at: [TILE] pointers to each token's row of s, of the first split.
    """
    at = s_at[:, None] + row[None, :]
    s = tl.zeros([mine.shape[0], row.shape[0]], dtype=tl.float32)
    for _ in tl.static_range(SPLITS):
        s += tl.load(at, mask=mine[:, None], other=0.0)
        at += split_stride
    return tl.where((row < rank)[None, :], s, 0.0)


@triton.jit
def rank_row_block(arena_ptr, offset, row, rank, column, inside):
    """Columns of rank rows that begin at `offset`: [rows, columns], 0 past the rank."""
    at = arena_ptr + offset[:, None] + column[None, :]
    return tl.load(at, mask=(row < rank)[:, None] & inside[None, :], other=0.0)


@triton.jit
def expand_block(
    s,
    b,
    s_at,
    split_stride,
    arena_ptr,
    b_rows_ptr,
    first,
    rank,
    base,
    width,
    mine,
    column,
    inside,
    SPLITS: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    DOT: tl.constexpr,
):
    """s B of a run at output columns `column`: [TILE, columns] float32.

    Args:
        s, b: the first rank rows of both, from `low_rank` and `rank_row_block`; there are more if the rank is larger.
        first, rank, base: from `rank_rows`.
        width: out_features of the module.
        column, inside: output columns within the module and which of them exist.
    """
    BLOCK_RANK: tl.constexpr = b.shape[0]
    acc = tl.zeros([s.shape[0], b.shape[1]], dtype=tl.float32)
    acc = tl.dot(s.to(b.dtype).to(DOT), b.to(DOT), acc, input_precision="ieee")
    for rank_start in tl.range(BLOCK_RANK, rank, BLOCK_RANK, num_stages=1):
        row = rank_start + tl.arange(0, BLOCK_RANK)
        offset = row_offsets(b_rows_ptr, first, rank, base, row, width, ALIGNMENT)
        more_b = rank_row_block(arena_ptr, offset, row, rank, column, inside)
        more_s = low_rank(s_at, split_stride, row, rank, mine, SPLITS)
        acc = tl.dot(more_s.to(b.dtype).to(DOT), more_b.to(DOT), acc, input_precision="ieee")
    return acc
