"""Owns which heads of a fused qkv projection a program of `qkv_to_cache` has."""

from loraplex.kernels.language import tl, triton


@triton.jit
def heads_of(group, q_heads, kv_heads, HEADS: tl.constexpr):
    """Groups of HEADS heads are numbered through queries, keys and values; a group's heads are all of one slice.

    Returns:
        The slice (0 queries, 1 keys, 2 values), how many heads it has, its first head in qkv, and the group's first
        head within it.
    """
    q_groups = tl.cdiv(q_heads, HEADS)
    kv_groups = tl.cdiv(kv_heads, HEADS)
    is_k = (group >= q_groups) & (group < q_groups + kv_groups)
    is_v = group >= q_groups + kv_groups
    part = is_k.to(tl.int32) + 2 * is_v.to(tl.int32)
    heads = tl.where(part > 0, kv_heads, q_heads)
    start = tl.where(is_v, q_heads + kv_heads, tl.where(is_k, q_heads, 0))
    group -= tl.where(is_v, q_groups + kv_groups, tl.where(is_k, q_groups, 0))
    return part, heads, start, group * HEADS
