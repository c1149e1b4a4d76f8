"""Owns decode steps captured as CUDA graphs: a step of a few hundred small kernels becomes one launch."""

import numpy as np
import torch

from loraplex.engine.batch import Batch, HostBatch
from loraplex.engine.models.decoder import Decoder
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.lora.tables import LoRASegments, cut_tiles

_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)
# Columns of the LoRA intermediate in a graph: the largest rank that admission accepts. Only real ranks are touched.
_MAX_RANK = 512


class DecodeGraphs:
    """One forward pass per batch-size bucket, with and without LoRA.

    Everything that varies between steps (tokens, positions, block tables, which adapter each row has, how many tiles
    that makes) is read from device buffers, so one graph serves every mix of adapters and ranks. Padding rows have no
    keys and write no KV.
    """

    def __init__(
        self, decoder: Decoder, kv_cache: torch.Tensor, *, max_num_seqs: int, max_blocks: int
    ) -> None:
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._device = kv_cache.device
        most = min(max_num_seqs, _BUCKETS[-1])
        self._buckets = [*(b for b in _BUCKETS if b < most), most]
        self._inputs = _Inputs(most, max_blocks, self._device)
        self._graphs: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        # One result for all graphs: with one each they would keep a gigabyte.
        self._logits: torch.Tensor | None = None

    def capture(self) -> None:
        """Record every graph, the largest first so that the smaller ones fit into its memory."""
        pool = torch.cuda.graph_pool_handle()
        for bucket in reversed(self._buckets):
            for with_lora in (True, False):
                batch = self._inputs.batch(bucket, with_lora=with_lora)
                # Compiles kernels, which a capture must not. The largest batch comes first.
                logits = self._decoder.forward(batch, self._kv_cache)
                result = self._logits = (
                    torch.empty_like(logits) if self._logits is None else self._logits
                )
                del logits
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph, pool=pool):
                    result[:bucket].copy_(self._decoder.forward(batch, self._kv_cache))
                self._graphs[bucket, with_lora] = graph
        torch.cuda.synchronize(self._device)

    def fits(self, host: HostBatch) -> bool:
        """Whether a step is one that was captured."""
        return host.is_decode and len(host.sequences) <= self._buckets[-1]

    def forward(self, host: HostBatch) -> torch.Tensor:
        """Run a step that fits; the result, [sequences, vocabulary], is valid until the next call."""
        count = len(host.sequences)
        bucket = next(b for b in self._buckets if b >= count)
        key = (bucket, bool(host.spans))
        self._inputs.fill(host, bucket)
        self._graphs[key].replay()
        assert self._logits is not None
        return self._logits[:count]


class _Inputs:
    """Device buffers that the graphs read, and pinned host buffers they are filled from."""

    def __init__(self, rows: int, max_blocks: int, device: torch.device) -> None:
        # One int64 and one int32 buffer, so that a step costs two copies: ids, positions, slots; then lengths, tile
        # lists, tile count, block tables.
        self._rows = rows
        self._blocks = max_blocks
        self._host64 = torch.zeros(3, rows, dtype=torch.int64, pin_memory=True)
        self._host32 = torch.zeros(5 * rows + rows * max_blocks, dtype=torch.int32, pin_memory=True)
        self._device64 = torch.zeros_like(self._host64, device=device)
        self._device32 = torch.zeros_like(self._host32, device=device)
        self._starts = torch.arange(rows + 1, dtype=torch.int32, device=device)
        self._all_rows = torch.arange(rows, dtype=torch.int64, device=device)
        self._device64[2] = -1
        # The previous step's copies must have left the pinned buffers before the next step writes them.
        self._copied = torch.cuda.Event()

    def batch(self, bucket: int, *, with_lora: bool) -> Batch:
        """Views of the device buffers for a bucket."""
        ids, positions, slots = (row[:bucket] for row in self._device64)
        lengths, tile_slot, tile_start, tile_end, count, tables = self._parts(self._device32)
        segments = None
        if with_lora:
            segments = LoRASegments(
                spans=(),
                tile_slot=tile_slot[:bucket],
                tile_start=tile_start[:bucket],
                tile_end=tile_end[:bucket],
                num_tiles=count[:1],
                max_rank=_MAX_RANK,
            )
        return Batch(
            input_ids=ids,
            positions=positions,
            kv_slots=slots,
            attention=AttentionMeta(
                query_starts=self._starts[: bucket + 1],
                seq_lens=lengths[:bucket],
                block_tables=tables[:bucket],
                query_lens=(1,) * bucket,
                kv_lens=(self._blocks,) * bucket,
            ),
            segments=segments,
            sampled_rows=self._all_rows[:bucket],
            sampled_segments=segments,
        )

    def fill(self, host: HostBatch, bucket: int) -> None:
        """Bring a step's values to the device, padded to the bucket."""
        self._copied.synchronize()
        count = len(host.sequences)
        wide = self._host64.numpy()
        wide[0, :count], wide[1, :count], wide[2, :count] = (
            host.input_ids,
            host.positions,
            host.kv_slots,
        )
        wide[:2, count:bucket] = 0
        wide[2, count:bucket] = -1
        lengths, tile_slot, tile_start, tile_end, tiles, tables = (
            part.numpy() for part in self._parts(self._host32)
        )
        lengths[:count] = host.kv_lens
        lengths[count:bucket] = 0
        cut = cut_tiles(host.spans)
        tiles[0] = len(cut)
        if cut:
            tile_slot[: len(cut)], tile_start[: len(cut)], tile_end[: len(cut)] = np.asarray(cut).T
        tables[:count, : host.block_tables.shape[1]] = host.block_tables
        self._device64.copy_(self._host64, non_blocking=True)
        used = 5 * self._rows + bucket * self._blocks
        self._device32[:used].copy_(self._host32[:used], non_blocking=True)
        self._copied.record()

    def _parts(self, buffer: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rows = self._rows
        lists = buffer[: 5 * rows].view(5, rows)
        return (*lists, buffer[5 * rows :].view(rows, self._blocks))
