"""A paged cache filled for a batch of sequences, and what dense float64 attention makes of it."""

from collections.abc import Callable

import torch

from loraplex.kernels.attention import AttentionMeta

BLOCK = 16
Op = Callable[..., torch.Tensor]
Sequences = tuple[tuple[int, int], ...]


class PagedCase:
    """A batch of sequences given as (query tokens, KV tokens), in a cache whose every unused place is NaN."""

    def __init__(
        self,
        sequences: Sequences,
        q_heads: int,
        kv_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.sequences = sequences
        tokens = sum(count for count, _ in sequences)
        blocks = [-(-length // BLOCK) for _, length in sequences]
        # One layer of a cache shared by two, as the engine cuts it; block 0 stays stale.
        cache = torch.full(
            (sum(blocks) + 2, 2, 2, BLOCK, kv_heads, head_dim), float("nan"), device=device
        ).to(dtype)
        self.k_cache, self.v_cache = cache[:, 1, 0], cache[:, 1, 1]
        # Entries past a sequence's blocks name block 0, which holds NaN, or no block at all.
        table = torch.full((len(sequences), max(blocks) + 2), 0, dtype=torch.int32)
        table[:, -1] = 2**30
        free = (torch.randperm(sum(blocks)) + 1).tolist()
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []
        starts = [0]
        for row, (count, length) in enumerate(sequences):
            mine = [free.pop() for _ in range(blocks[row])]
            table[row, : len(mine)] = torch.tensor(mine, dtype=torch.int32)
            k, v = torch.randn(2, length, kv_heads, head_dim, device=device).to(dtype)
            for at in range(length):
                self.k_cache[mine[at // BLOCK], at % BLOCK] = k[at]
                self.v_cache[mine[at // BLOCK], at % BLOCK] = v[at]
            self.keys.append(k)
            self.values.append(v)
            starts.append(starts[-1] + count)
        fused = torch.randn(tokens, q_heads + 2 * kv_heads, head_dim, device=device).to(dtype)
        self.q = fused[:, :q_heads]
        self.meta = AttentionMeta(
            query_starts=torch.tensor(starts, dtype=torch.int32, device=device),
            seq_lens=torch.tensor([n for _, n in sequences], dtype=torch.int32, device=device),
            block_tables=table.to(device),
            query_lens=tuple(count for count, _ in sequences),
            kv_lens=tuple(length for _, length in sequences),
        )
        self.scale = head_dim**-0.5

    def run(self, op: Op, window: int = 0, soft_cap: float = 0.0) -> torch.Tensor:
        caches = (self.k_cache, self.v_cache)
        return op(self.q, *caches, self.meta, self.scale, window, soft_cap)

    def expected(self, window: int = 0, soft_cap: float = 0.0) -> torch.Tensor:
        results, start = [], 0
        for (count, length), k, v in zip(self.sequences, self.keys, self.values, strict=True):
            q = self.q[start : start + count].double()
            start += count
            group = q.shape[1] // k.shape[1]
            k, v = (t.double().repeat_interleave(group, dim=1) for t in (k, v))
            scores = torch.einsum("qhd,khd->hqk", q, k) * self.scale
            if soft_cap:
                scores = soft_cap * torch.tanh(scores / soft_cap)
            i = torch.arange(length - count, length, device=q.device)[:, None]
            j = torch.arange(length, device=q.device)[None, :]
            seen = (j <= i) & ((j > i - window) if window else (j >= 0))
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            results.append(torch.einsum("hqk,khd->qhd", weights, v))
        return torch.cat(results)
