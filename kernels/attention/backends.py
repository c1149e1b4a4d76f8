"""Owns which implementation of paged attention an engine uses: chosen once at start, by what fits the model and what
measures fastest.

The Triton kernels run everywhere and are the yardstick. The variable-length attention of torch 2.11 takes no block
tables, so it is no candidate; libraries are added to `installed` once they can be tested where the engine runs.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch

from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.attention.paged import paged_attention

# Trial batch: the length of a short chat, in as many sequences as a moderately busy engine decodes.
_TRIAL_SEQUENCES = 32
_TRIAL_TOKENS = 345
_TRIAL_RUNS = 9
# Largest difference from the yardstick, of its RMS: both round to 16 bits. float32 is held to its own rounding.
_TOLERANCES = {torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 6e-2}


class AttentionOp(Protocol):
    """What `paged_attention` is."""

    def __call__(
        self,
        q: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        meta: AttentionMeta,
        scale: float,
        window: int = 0,
        soft_cap: float = 0.0,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor: ...


@dataclass(frozen=True, slots=True)
class AttentionShape:
    """What of a model decides which backends fit it. `windows` holds every layer's window, 0 for none."""

    query_heads: int
    kv_heads: int
    head_dim: int
    block_size: int
    dtype: torch.dtype
    windows: frozenset[int] = frozenset({0})
    soft_cap: float = 0.0


class Backend(NamedTuple):
    """One implementation: `fits` says whether it respects the model's windows and soft cap and can read its cache."""

    name: str
    op: AttentionOp
    fits: Callable[[AttentionShape], bool]


def installed() -> tuple[Backend, ...]:
    """The backends that can be imported, the yardstick first."""
    return (Backend("triton", paged_attention, lambda _: True),)


def choose_backend(
    shape: AttentionShape, device: torch.device, candidates: Sequence[Backend] | None = None
) -> Backend:
    """The fastest backend for decoding a model of `shape` on `device`.

    Args:
        shape: the model.
        device: where it runs.
        candidates: the yardstick and its rivals, by default those installed. A rival that does not fit, raises, strays
            from the yardstick's result or lets a sequence's neighbours change it is passed over.
    """
    yardstick, *rivals = installed() if candidates is None else candidates
    rivals = [rival for rival in rivals if rival.fits(shape)]
    if not rivals:
        return yardstick
    with torch.inference_mode():
        trial = _Trial(shape, device)
        expected = trial.run(yardstick.op)
        able = [yardstick, *(rival for rival in rivals if trial.passes(rival.op, expected))]
        return min(able, key=lambda backend: trial.seconds(backend.op))


class _Trial:
    """A batch of decoding sequences in a cache laid out as the engine's is."""

    def __init__(self, shape: AttentionShape, device: torch.device) -> None:
        self.shape = shape
        self.device = device
        tokens, count = _TRIAL_TOKENS, _TRIAL_SEQUENCES
        blocks = -(-tokens // shape.block_size)
        cache = torch.randn(
            (count * blocks, 2, 2, shape.block_size, shape.kv_heads, shape.head_dim), device=device
        ).to(shape.dtype)
        self.k_cache, self.v_cache = cache[:, 1, 0], cache[:, 1, 1]
        heads = shape.query_heads + 2 * shape.kv_heads
        fused = torch.randn((count, heads, shape.head_dim), device=device).to(shape.dtype)
        self.q = fused[:, : shape.query_heads]
        table = torch.randperm(count * blocks, device=device).view(count, blocks)
        self.tables = table.to(torch.int32)

    def run(self, op: AttentionOp, lengths: tuple[int, ...] | None = None) -> torch.Tensor:
        lengths = lengths or (_TRIAL_TOKENS,) * _TRIAL_SEQUENCES
        meta = AttentionMeta(
            query_starts=torch.arange(len(lengths) + 1, dtype=torch.int32, device=self.device),
            seq_lens=torch.tensor(lengths, dtype=torch.int32, device=self.device),
            block_tables=self.tables,
            query_lens=(1,) * len(lengths),
            kv_lens=lengths,
        )
        shape = self.shape
        scale = shape.head_dim**-0.5
        results = [
            op(self.q, self.k_cache, self.v_cache, meta, scale, window, shape.soft_cap)
            for window in sorted(shape.windows)
        ]
        return torch.stack(results)

    def passes(self, op: AttentionOp, expected: torch.Tensor) -> bool:
        try:
            result = self.run(op)
            alone = self.run(op, (_TRIAL_TOKENS, *((1,) * (_TRIAL_SEQUENCES - 1))))
        except Exception:  # whatever a library raises, it is not for this model
            return False
        error = (result.float() - expected.float()).abs().max()
        near = error <= _TOLERANCES[self.shape.dtype] * expected.float().square().mean().sqrt()
        return bool(near) and torch.equal(alone[:, 0], result[:, 0])

    def seconds(self, op: AttentionOp) -> float:
        times = []
        for _ in range(_TRIAL_RUNS):
            self._wait()
            start = time.perf_counter()
            self.run(op)
            self._wait()
            times.append(time.perf_counter() - start)
        return statistics.median(times)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
