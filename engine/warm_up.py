"""Owns compiling and running every kernel once before the engine takes requests, so that none of them waits for a
compiler.

Nothing is left behind: no keys or values are written, no adapter is read, and what is computed is dropped. Keys come
from a block that nobody has filled, so the numbers mean nothing.
"""

from dataclasses import replace

import numpy as np
import torch

from loraplex.engine.batch import Batch, HostBatch, move
from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.models.decoder import Decoder
from loraplex.engine.sampler import Sampler
from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.lora.tables import MANY_WAYS, LoRASegments
from loraplex.kernels.lora.tuning import MOST_DECODE_TOKENS

# Tokens of the steps. Kernels differ between 16, 32, 64, 128 and 512 tokens and above (kernels/linear/tuning.py,
# kernels/lora/tuning.py).
STEP_TOKENS = (16, 32, 64, 128, 512, 1024)
# Every step mixes what attention tells apart: sequences with one query, one with a few, and chunks of many.
_DECODE_SHARE = 8
_FEW_QUERIES = 8
# Kernels look at real ranks, of which there are none; this is the narrowest intermediate.
_RANK = 16


@torch.inference_mode()
def warm_up(
    decoder: Decoder,
    sampler: Sampler,
    kv_cache: torch.Tensor,
    *,
    max_tokens: int,
    max_model_len: int,
    step_tokens: tuple[int, ...] = STEP_TOKENS,
) -> None:
    """Run steps with and without LoRA, and the sampler; returns when the device has done them. One layer of each kind
    meets all kernels, so no more are run.

    Args:
        decoder, sampler: what to run.
        kv_cache: as for `Decoder.forward`, at least one block; it stays as it is.
        max_tokens: most tokens of a step.
        max_model_len: most tokens of a sequence.
        step_tokens: sizes of the steps, as far as `max_tokens` allows.
    """
    layers = decoder.one_of_each_layer()

    def launch_all() -> None:
        sampler.warm_up(kv_cache.dtype)
        for tokens in sorted({min(tokens, max_tokens) for tokens in step_tokens}):
            batch = _batch(_query_lens(tokens, max_model_len), kv_cache.device)
            layers.forward(batch, kv_cache)
            for ways in (1, MANY_WAYS) if tokens > MOST_DECODE_TOKENS else (1,):
                layers.forward(_with_lora(batch, ways), kv_cache)

    if kv_cache.is_cuda:
        compile_ahead(launch_all, kv_cache.device)
    launch_all()
    if kv_cache.is_cuda:
        torch.cuda.synchronize(kv_cache.device)


def _query_lens(tokens: int, max_model_len: int) -> list[int]:
    """Sequences that have `tokens` tokens together, all in this step."""
    lens = [1] * (tokens // _DECODE_SHARE)
    left = tokens - len(lens)
    chunk = min(_FEW_QUERIES, max_model_len)
    while left:
        lens.append(min(chunk, left))
        left -= lens[-1]
        chunk = max_model_len
    return lens


def _batch(query_lens: list[int], device: torch.device) -> Batch:
    lens = np.array(query_lens)
    ends = lens.cumsum()
    total = int(ends[-1])
    host = HostBatch(
        num_tokens=lens,
        kv_lens=lens,
        input_ids=np.full(total, ~0),  # as if the step before had sampled them all
        positions=np.arange(total) - np.repeat(ends - lens, lens),
        kv_slots=np.full(total, -1),
        block_tables=np.zeros((len(lens), -(-int(lens.max()) // BLOCK_SIZE)), dtype=np.int32),
        spans=(),
        sampled=(),
        sampled_rows=ends - 1,
        sampled_spans=(),
    )
    batch = move(host, 0, torch.zeros(1, dtype=torch.int64, device=device))
    # While kernels are only compiled, the ids that one of them should have filled in are anything.
    return replace(batch, input_ids=torch.zeros_like(batch.input_ids))


def _with_lora(batch: Batch, ways: int) -> Batch:
    """The same step on the LoRA path, every token with the base model."""
    assert batch.sampled_rows is not None

    def segments(rows: int) -> LoRASegments:
        slots = torch.full((rows,), -1, dtype=torch.int32, device=batch.input_ids.device)
        return LoRASegments((), slots, _RANK, ways)

    return replace(
        batch,
        segments=segments(len(batch.input_ids)),
        sampled_segments=segments(len(batch.sampled_rows)),
    )
