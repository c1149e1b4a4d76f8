"""Owns LoRA at the embedding: its shrink is a lookup of columns of A, its expand that of any linear."""

import torch

from loraplex.kernels import dispatch
from loraplex.kernels.language import tl, triton
from loraplex.kernels.lora.expand import lora_expand
from loraplex.kernels.lora.one_token import rank_rows
from loraplex.kernels.lora.shrink import rank_columns
from loraplex.kernels.lora.tables import LoRASegments, LoRATables

# Rank rows looked up at a time. Untuned.
_BLOCK_RANK = 16


def lora_embed_shrink(
    ids: torch.Tensor, tables: LoRATables, segments: LoRASegments, module: int
) -> torch.Tensor:
    """Look up each token's column of its adapter's A.

    Args:
        ids: [tokens] int64, below the vocabulary size.
        tables: where rank rows lie.
        segments: which tokens belong to which adapter.
        module: the embedding's index.

    Returns:
        [1, 1, tokens, R] float32, as `lora_shrink` would return for one-hot rows.
    """
    shrink = lora_embed_shrink_triton if dispatch.use_triton(ids) else lora_embed_shrink_reference
    return shrink(ids, tables, segments, module)


def lora_embed_apply(
    y: torch.Tensor,
    ids: torch.Tensor,
    tables: LoRATables,
    segments: LoRASegments,
    module: int,
) -> None:
    """Add the adapters' part to embedded tokens, in place: y [tokens, hidden]; see `lora_embed_shrink`."""
    s = lora_embed_shrink(ids, tables, segments, module)
    lora_expand(y, s, tables, segments, module, (y.shape[1],))


def lora_embed_shrink_reference(
    ids: torch.Tensor, tables: LoRATables, segments: LoRASegments, module: int
) -> torch.Tensor:
    """Plain-torch twin of `lora_embed_shrink`."""
    columns = rank_columns(segments)
    s = torch.empty((1, 1, len(ids), columns), dtype=torch.float32, device=ids.device)
    for slot, start, stop in segments.spans:
        first, rank = tables.index[slot, module, :2].tolist()
        at = tables.a_rows[first : first + rank] + ids[start:stop, None]
        s[0, 0, start:stop, :rank] = tables.arena[at]
    return s


def lora_embed_shrink_triton(
    ids: torch.Tensor, tables: LoRATables, segments: LoRASegments, module: int
) -> torch.Tensor:
    """Triton launcher of `lora_embed_shrink`."""
    columns = rank_columns(segments)
    s = torch.empty((1, 1, len(ids), columns), dtype=torch.float32, device=ids.device)
    if len(ids):
        _lora_embed_shrink_kernel[(len(ids),)](
            ids,
            tables.arena,
            tables.a_rows,
            tables.index,
            segments.token_slots,
            s,
            tables.index.shape[1],
            module,
            s.stride(2),
            BLOCK_RANK=_BLOCK_RANK,
        )
    return s


@triton.jit(do_not_specialize=["module"])
def _lora_embed_shrink_kernel(
    ids_ptr,
    arena_ptr,
    a_rows_ptr,
    index_ptr,
    token_slots_ptr,
    s_ptr,
    num_modules,
    module,
    s_token_stride,
    BLOCK_RANK: tl.constexpr,
):
    token = tl.program_id(0)
    adapter = tl.load(token_slots_ptr + token)
    first, rank, _ = rank_rows(index_ptr, adapter, num_modules, module, 0)
    column = tl.load(ids_ptr + token)
    for row_start in range(0, rank, BLOCK_RANK):
        row = row_start + tl.arange(0, BLOCK_RANK)
        used = row < rank
        a_at = tl.load(a_rows_ptr + first + row, mask=used, other=0)
        value = tl.load(arena_ptr + a_at + column, mask=used, other=0.0)
        at = s_ptr + token.to(tl.int64) * s_token_stride + row
        tl.store(at, value.to(tl.float32), mask=used)
