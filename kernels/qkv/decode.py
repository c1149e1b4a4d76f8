"""Owns the kernel of `qkv_to_cache` for few tokens: one program per (token, few heads of a slice)."""

from loraplex.kernels.language import start_early, tl, triton
from loraplex.kernels.lora.one_token import expand_token, rank_rows
from loraplex.kernels.norm import scaled
from loraplex.kernels.qkv.slices import heads_of


@triton.jit(do_not_specialize=["module", "num_tokens", "s_split_stride", "s_slice_stride"])
def decode_kernel(
    qkv_ptr,
    k_cache_ptr,
    v_cache_ptr,
    cos_ptr,
    sin_ptr,
    positions_ptr,
    kv_slots_ptr,
    q_norm_ptr,
    k_norm_ptr,
    s_ptr,
    arena_ptr,
    b_rows_ptr,
    index_ptr,
    token_slots_ptr,
    num_tokens,
    num_modules,
    module,
    q_heads,
    kv_heads,
    head_dim,
    half,
    block_size,
    eps,
    qkv_stride,
    cache_block_stride,
    cache_offset_stride,
    cache_head_stride,
    s_split_stride,
    s_slice_stride,
    s_token_stride,
    HAS_NORM: tl.constexpr,
    HAS_LORA: tl.constexpr,
    SPLITS: tl.constexpr,
    SPLITS_BLOCK: tl.constexpr,
    HEADS: tl.constexpr,
    HALF: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_RANK: tl.constexpr,
    ALIGNMENT: tl.constexpr,
    EARLY: tl.constexpr,
):
    start_early(EARLY)
    tl.static_assert(HEADS == 1 or not (HAS_NORM or HAS_LORA), "one head per program with these")
    part, heads, slice_head, first_head = heads_of(tl.program_id(1), q_heads, kv_heads, HEADS)
    width = heads * head_dim
    # Heads side by side, in each the two halves that rotate against each other.
    lane = tl.arange(0, HEADS * 2 * HALF)
    number = first_head + lane // (2 * HALF)
    pair = lane % HALF
    within = (lane % (2 * HALF)) // HALF * half + pair
    inside = (pair < half) & (number < heads)
    column = number * head_dim + within
    REST_LANES: tl.constexpr = max(REST, 1)
    rest_lane = tl.arange(0, HEADS * REST_LANES)
    rest_number = first_head + rest_lane // REST_LANES
    rest_within = 2 * half + rest_lane % REST_LANES
    rest_inside = (rest_within < head_dim) & (rest_number < heads)
    rest_column = rest_number * head_dim + rest_within
    norm_ptr = q_norm_ptr
    cache_ptr = k_cache_ptr
    if part == 1:
        norm_ptr = k_norm_ptr
    if part == 2:
        cache_ptr = v_cache_ptr
    token = tl.program_id(0)
    row = token.to(tl.int64)
    at = qkv_ptr + row * qkv_stride + slice_head * head_dim
    x = tl.load(at + column, mask=inside, other=0.0)
    rest = tl.load(at + rest_column, mask=rest_inside, other=0.0)
    position = tl.load(positions_ptr + token)
    slot = tl.load(kv_slots_ptr + token)
    if HAS_LORA:
        adapter = tl.load(token_slots_ptr + token)
        first, rank, base = rank_rows(index_ptr, adapter, num_modules, module + part, 1)
        s_at = s_ptr + part.to(tl.int64) * s_slice_stride + row * s_token_stride
        added = expand_token(
            s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base, width,
            column, inside,
            SPLITS, SPLITS_BLOCK, BLOCK_RANK, ALIGNMENT,
        )  # fmt: skip
        x = (x.to(tl.float32) + added).to(x.dtype)
        if REST > 0:
            added = expand_token(
                s_at, s_split_stride, arena_ptr, b_rows_ptr, first, rank, base, width,
                rest_column, rest_inside,
                SPLITS, SPLITS_BLOCK, BLOCK_RANK, ALIGNMENT,
            )  # fmt: skip
            rest = (rest.to(tl.float32) + added).to(rest.dtype)
    if part < 2:
        if HAS_NORM:
            wide, wide_rest = x.to(tl.float32), rest.to(tl.float32)
            squares = tl.sum(wide * wide, axis=0) + tl.sum(wide_rest * wide_rest, axis=0)
            scale = tl.rsqrt(squares / head_dim + eps)
            x = scaled(x, scale, tl.load(norm_ptr + within, mask=inside, other=0.0))
            rest = scaled(rest, scale, tl.load(norm_ptr + rest_within, mask=rest_inside, other=0.0))
        angle = position * half + pair
        cos = tl.load(cos_ptr + angle, mask=inside, other=0.0)
        sin = tl.load(sin_ptr + angle, mask=inside, other=0.0)
        wide = x.to(tl.float32)
        # x cos + rotate_half(x) sin.
        a, b = tl.split(tl.permute(tl.reshape(wide, (HEADS, 2, HALF)), (0, 2, 1)))
        turned = tl.reshape(tl.permute(tl.join(-b, a), (0, 2, 1)), (HEADS * 2 * HALF,))
        x = (wide * cos + turned * sin).to(x.dtype)
    if part == 0:
        tl.store(at + column, x, mask=inside)
        if REST > 0:
            tl.store(at + rest_column, rest, mask=rest_inside)
    elif slot >= 0:
        block = (slot // block_size) * cache_block_stride
        to = cache_ptr + block + (slot % block_size) * cache_offset_stride
        tl.store(to + number * cache_head_stride + within, x, mask=inside)
        if REST > 0:
            tl.store(to + rest_number * cache_head_stride + rest_within, rest, mask=rest_inside)
