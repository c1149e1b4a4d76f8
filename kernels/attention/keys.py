"""Owns the inner loop that the kernels of prefill and decode share: online softmax over paged keys and values."""

from loraplex.kernels.language import tl, triton


@triton.jit
def soften(scores, soft_cap):
    """c × tanh(scores / c). tanh(|x|) = (1 - e^-2|x|) / (1 + e^-2|x|) cannot overflow."""
    decay = tl.exp(-2.0 * tl.abs(scores / soft_cap))
    capped = soft_cap * (1.0 - decay) / (1.0 + decay)
    return tl.where(scores < 0.0, -capped, capped)


@triton.jit
def finite(highest):
    """What to subtract from a row's scores: a row that has seen no key has no maximum, and -inf - -inf is NaN."""
    return tl.where(highest == float("-inf"), 0.0, highest)


@triton.jit
def in_log2(scores, scale, soft_cap, HAS_SOFT_CAP: tl.constexpr):
    """Products of queries and keys as exponents of 2, which is what the hardware raises."""
    log2_e: tl.constexpr = 1.4426950408889634
    if HAS_SOFT_CAP:
        return soften(scores * scale, soft_cap) * log2_e
    return scores * (scale * log2_e)


@triton.jit
def _rows(base, at, present, in_head, MASKED: tl.constexpr, WHOLE: tl.constexpr):
    """Rows of the cache. Loads are masked, not only scores: 0 × NaN of a stale row would be NaN."""
    if MASKED and WHOLE:
        return tl.load(base + at, mask=present[:, None], other=0.0)
    if MASKED:
        return tl.load(base + at, mask=present[:, None] & in_head[None, :], other=0.0)
    if WHOLE:
        return tl.load(base + at)
    return tl.load(base + at, mask=in_head[None, :], other=0.0)


@triton.jit
def attend_keys(
    acc,
    highest,
    total,
    q,
    position,
    first_key,
    last_key,
    seen_from,
    kv_end,
    table,
    k_at,
    v_at,
    block_stride,
    offset_stride,
    scale,
    soft_cap,
    window,
    MASKED: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_WINDOW: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DOT: tl.constexpr,
):
    """Attend keys first_key to last_key in iterations of KEYS.

    With MASKED only keys from seen_from to kv_end are read, and CAUSAL hides keys past a row's position or before its
    window; without it every row sees every key of the range.
    """
    column = tl.arange(0, HEAD_DIM)
    in_head = column < HEAD
    for key_start in range(first_key, last_key, KEYS):
        key = key_start + tl.arange(0, KEYS)
        present = (key >= seen_from) & (key < kv_end)
        if MASKED:
            block = tl.load(table + key // BLOCK, mask=present, other=0).to(tl.int64)
        else:
            block = tl.load(table + key // BLOCK).to(tl.int64)
        # One layout of addresses serves keys and values: computing them is what bounds this loop.
        at = (block * block_stride + (key % BLOCK) * offset_stride)[:, None] + column[None, :]
        k = _rows(k_at, at, present, in_head, MASKED, HEAD == HEAD_DIM)
        scores = tl.dot(q, k.to(DOT).T, input_precision="ieee")
        scores = in_log2(scores, scale, soft_cap, HAS_SOFT_CAP)
        if MASKED:
            seen = present[None, :]
            if CAUSAL:
                seen = seen & (key[None, :] <= position[:, None])
                if HAS_WINDOW:
                    seen = seen & (key[None, :] > position[:, None] - window)
            scores = tl.where(seen, scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        base = finite(higher) if MASKED else higher
        weights = tl.exp2(scores - base[:, None])
        shrink = tl.exp2(highest - base)
        total = total * shrink + tl.sum(weights, axis=1)
        acc = acc * shrink[:, None]
        v = _rows(v_at, at, present, in_head, MASKED, HEAD == HEAD_DIM)
        acc = tl.dot(weights.to(v.dtype).to(DOT), v.to(DOT), acc, input_precision="ieee")
        highest = higher
    return acc, highest, total


@triton.jit
def attend_single_query(
    q_at,
    q_head_stride,
    first_key,
    last_key,
    seen_from,
    table,
    k_at,
    v_at,
    block_stride,
    offset_stride,
    scale,
    soft_cap,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    HAS_SOFT_CAP: tl.constexpr,
    BLOCK: tl.constexpr,
    KEYS: tl.constexpr,
    HEAD: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    DOT: tl.constexpr,
):
    """Attend keys first_key to last_key, of which seen_from is the first that counts, with the query of one token in
    the GROUP heads from q_at on; the other ROWS mean nothing.

    Returns:
        As `attend_keys`: weighted sum of values [ROWS, HEAD_DIM], highest score and sum of weights [ROWS].
    """
    row = tl.arange(0, ROWS)
    column = tl.arange(0, HEAD_DIM)
    q = tl.load(
        q_at + (row * q_head_stride)[:, None] + column[None, :],
        mask=(row < GROUP)[:, None] & (column < HEAD)[None, :],
        other=0.0,
    ).to(DOT)
    return attend_keys(
        tl.zeros([ROWS, HEAD_DIM], dtype=tl.float32),
        tl.full([ROWS], float("-inf"), dtype=tl.float32),
        tl.zeros([ROWS], dtype=tl.float32),
        q,
        row,
        first_key,
        last_key,
        seen_from,
        last_key,
        table,
        k_at,
        v_at,
        block_stride,
        offset_stride,
        scale,
        soft_cap,
        0,
        MASKED=True,
        CAUSAL=False,
        HAS_WINDOW=False,
        HAS_SOFT_CAP=HAS_SOFT_CAP,
        BLOCK=BLOCK,
        KEYS=KEYS,
        HEAD=HEAD,
        HEAD_DIM=HEAD_DIM,
        DOT=DOT,
    )


@triton.jit
def write_heads(out_at, out_head_stride, acc, total, GROUP: tl.constexpr, HEAD: tl.constexpr):
    """Write acc / total, the first GROUP rows of it, to as many heads of a token from out_at on. A sequence without
    keys gets zeros: they keep NaN out of the layers that follow."""
    row = tl.arange(0, acc.shape[0])
    column = tl.arange(0, acc.shape[1])
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out_at + row[:, None] * out_head_stride + column[None, :],
        result.to(out_at.dtype.element_ty),
        mask=(row < GROUP)[:, None] & (column < HEAD)[None, :],
    )
