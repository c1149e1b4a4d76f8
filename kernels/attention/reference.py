"""Owns paged attention in plain torch: what the kernel is tested against and what runs on a CPU."""

import torch
from torch.nn.functional import scaled_dot_product_attention

from loraplex.kernels.attention.meta import AttentionMeta, DecodeGroup


def paged_attention_reference(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    meta: AttentionMeta,
    scale: float,
    window: int = 0,
    soft_cap: float = 0.0,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Plain-torch twin of `paged_attention`."""
    fresh = out is None
    if out is None:
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    block_size = k_cache.shape[1]
    for group in _decode_groups(meta, block_size, window):
        everything = len(group.rows) == len(q)
        queries = q if everything else q.index_select(0, group.rows)
        k, v = _gather(k_cache, group), _gather(v_cache, group)
        # Heads that share a KV head become query rows: no repeated keys, and one mask row serves all of them.
        split = (len(queries), k.shape[1], -1, q.shape[2])
        result = _attend(queries.reshape(split), k, v, group.mask, scale, soft_cap)
        if everything and fresh:  # saves a copy
            out = result.reshape(q.shape)
        else:
            out.index_copy_(0, group.rows, result.reshape(queries.shape))
    start = 0
    for sequence, (count, length) in enumerate(zip(meta.query_lens, meta.kv_lens, strict=True)):
        if count > 1:
            first = max(0, length - count - window + 1) // block_size if window else 0
            blocks = meta.block_tables[sequence, first : -(-length // block_size)]
            keys = length - first * block_size
            out[start : start + count] = _attend_chunk(
                q[start : start + count],
                k_cache.index_select(0, blocks).flatten(0, 1)[:keys],
                v_cache.index_select(0, blocks).flatten(0, 1)[:keys],
                scale,
                window,
                soft_cap,
            )
        start += count
    return out


def _attend_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scale: float,
    window: int,
    soft_cap: float,
) -> torch.Tensor:
    """Attention of the last tokens of one sequence: q [count, query heads, D], k and v [keys, KV heads, D]."""
    count, heads, head_dim = q.shape
    length, kv_heads = k.shape[:2]
    q = q.transpose(0, 1)
    k, v = k.transpose(0, 1)[None], v.transpose(0, 1)[None]
    if count == length and not (0 < window < length) and not soft_cap:
        result = scaled_dot_product_attention(
            q[None], k, v, is_causal=True, scale=scale, enable_gqa=heads != kv_heads
        )
        return result[0].transpose(0, 1)
    position = torch.arange(length - count, length, device=q.device)[:, None]
    key = torch.arange(length, device=q.device)[None, :]
    hidden = key > position
    if window:
        hidden |= key <= position - window
    mask = torch.zeros((count, length), dtype=q.dtype, device=q.device)
    mask.masked_fill_(hidden, float("-inf"))
    grouped = q.reshape(1, kv_heads, -1, head_dim)
    result = _attend(grouped, k, v, mask.repeat(heads // kv_heads, 1), scale, soft_cap)
    return result.reshape(heads, count, head_dim).transpose(0, 1)


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor,
    scale: float,
    soft_cap: float,
) -> torch.Tensor:
    """q [batch, KV heads, rows, D], k and v [batch, KV heads, keys, D], mask broadcast to q's rows × keys."""
    if not soft_cap:
        return scaled_dot_product_attention(q, k, v, mask.to(q.dtype), scale=scale)
    scores = torch.matmul(q, k.transpose(-1, -2)).float() * scale
    weights = (soft_cap * torch.tanh(scores / soft_cap) + mask).softmax(dim=-1)
    return torch.matmul(weights.to(v.dtype), v)


def _gather(cache: torch.Tensor, group: DecodeGroup) -> torch.Tensor:
    """The group's keys or values as [group, KV heads, positions, D]."""
    heads, head_dim = cache.shape[2:]
    rows = cache.index_select(0, group.blocks).view(-1, heads * head_dim)
    rows.index_fill_(0, group.stale, 0)
    return rows.view(len(group.rows), -1, heads, head_dim).transpose(1, 2)


def _decode_groups(meta: AttentionMeta, block_size: int, window: int) -> tuple[DecodeGroup, ...]:
    key = (block_size, window)
    cached = meta._decode_groups.get(key)
    if cached is None:
        members = [
            (-(-min(length, window or length) // block_size), sequence)
            for sequence, (count, length) in enumerate(
                zip(meta.query_lens, meta.kv_lens, strict=True)
            )
            if count == 1
        ]
        cached = tuple(
            _plan(meta, sequences, block_size, window) for sequences in _by_length(members)
        )
        meta._decode_groups[key] = cached
    return cached


def _by_length(members: list[tuple[int, int]]) -> list[list[int]]:
    """Sequences, given as (blocks, sequence), in as few groups as keep padding below the real work."""
    if not members:
        return []
    most = max(blocks for blocks, _ in members)
    if most * len(members) <= 2 * sum(blocks for blocks, _ in members):
        return [[sequence for _, sequence in members]]
    groups: dict[int, list[int]] = {}
    for blocks, sequence in members:
        groups.setdefault(blocks.bit_length(), []).append(sequence)
    return list(groups.values())


def _plan(meta: AttentionMeta, sequences: list[int], block_size: int, window: int) -> DecodeGroup:
    device = meta.block_tables.device
    chosen = torch.tensor(sequences, device=device)
    lengths = torch.tensor([meta.kv_lens[s] for s in sequences], device=device)[:, None]
    oldest = (lengths - window).clamp_(min=0) if window else torch.zeros_like(lengths)
    first = oldest // block_size
    counts = (lengths + block_size - 1) // block_size - first
    column = torch.arange(int(counts.max()), device=device)[None, :]
    # Past its end a sequence repeats its own first block: whatever its neighbours hold stays out of reach.
    source = first + torch.where(column < counts, column, 0)
    blocks = meta.block_tables[chosen].long().gather(1, source)
    offset = torch.arange(block_size, device=device)
    seen, own = (
        ((at >= oldest[..., None]) & (at < lengths[..., None])).flatten(1)
        for at in ((c[..., None] * block_size + offset) for c in (first + column, source))
    )
    mask = torch.zeros(seen.shape, device=device).masked_fill_(~seen, float("-inf"))
    return DecodeGroup(
        rows=meta.query_starts[chosen].long(),
        blocks=blocks.flatten(),
        stale=(~own).flatten().nonzero().flatten(),
        mask=mask[:, None, None, :],
    )
