"""Owns decode steps captured as CUDA graphs: a step of a few hundred small kernels becomes one launch."""

from dataclasses import replace

import torch

from loraplex.engine.batch import Batch, HostBatch
from loraplex.engine.config import MAX_RANK
from loraplex.engine.models.decoder import Decoder
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.lora.tables import LoRASegments, token_slots
from loraplex.kernels.token_ids import resolve_token_ids

_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 448, 512)


class DecodeGraphs:
    """One forward pass per batch-size bucket, with and without LoRA.

    Everything that varies between steps (tokens, positions, block tables, which adapter each row has)
    is read from device buffers, so one graph serves every mix of adapters and ranks. Padding rows have no
    keys and write no KV.
    """

    def __init__(
        self,
        decoder: Decoder,
        kv_cache: torch.Tensor,
        last_ids: torch.Tensor,
        *,
        max_num_seqs: int,
        max_blocks: int,
    ) -> None:
        """Allocate the buffers.

        Args:
            decoder, kv_cache: what a step runs on.
            last_ids: [rows] int64, the tokens sampled by the step before; read by every replay.
            max_num_seqs: most rows of a step.
            max_blocks: most KV blocks of a sequence.
        """
        self._decoder = decoder
        self._last_ids = last_ids
        self._kv_cache = kv_cache
        self._device = kv_cache.device
        most = min(max_num_seqs, _BUCKETS[-1])
        self._buckets = [*(b for b in _BUCKETS if b < most), most]
        self._inputs = _Inputs(most, max_blocks, self._device)
        self._graphs: dict[tuple[int, bool], torch.cuda.CUDAGraph] = {}
        # One result for all graphs: with one each they would keep a gigabyte.
        self._logits = decoder.empty_logits(most)

    def capture(self) -> None:
        """Record every graph, the largest first so that the smaller ones fit into its memory."""
        # A capture must not compile a kernel or load one.
        compile_ahead(self._launch_all, self._device)
        self._launch_all()
        torch.cuda.synchronize(self._device)
        pool = torch.cuda.graph_pool_handle()
        for bucket, with_lora in self._kinds():
            batch = self._inputs.batch(bucket, with_lora=with_lora)
            graph = torch.cuda.CUDAGraph()
            # Another thread may be page-locking memory meanwhile, which must not break the capture.
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                self._logits[:bucket].copy_(self._run(batch))
            self._graphs[bucket, with_lora] = graph
        torch.cuda.synchronize(self._device)

    def _kinds(self) -> list[tuple[int, bool]]:
        """Bucket and whether with LoRA, of every graph."""
        return [(bucket, lora) for bucket in reversed(self._buckets) for lora in (True, False)]

    def _launch_all(self) -> None:
        """Launch what the graphs will hold, for one layer of each kind."""
        layers = self._decoder.one_of_each_layer()
        for bucket, with_lora in self._kinds():
            batch = self._inputs.batch(bucket, with_lora=with_lora)
            # Its result is not used: while kernels are only compiled it is anything.
            resolve_token_ids(batch.input_ids, self._last_ids)
            whole = replace(batch, attention=batch.attention.for_forward())
            layers.forward(whole, self._kv_cache)

    def fits(self, host: HostBatch) -> bool:
        """Whether a step is one that was captured."""
        return host.is_decode and len(host.sampled) <= self._buckets[-1]

    def forward(self, host: HostBatch) -> torch.Tensor:
        """Queue a step that fits; the result, [sequences, vocabulary], is valid until the next call in stream order."""
        count = len(host.sampled)
        bucket = next(b for b in self._buckets if b >= count)
        key = (bucket, bool(host.spans))
        self._inputs.fill(host, bucket)
        self._graphs[key].replay()
        return self._logits[:count]

    def _run(self, batch: Batch) -> torch.Tensor:
        """One forward pass; captured, everything in it happens again at every replay."""
        ids = resolve_token_ids(batch.input_ids, self._last_ids)
        whole = replace(batch, input_ids=ids, attention=batch.attention.for_forward())
        return self._decoder.forward(whole, self._kv_cache)


class _Inputs:
    """Device buffers that the graphs read.

    What a step needs arrives in one copy from a pinned buffer. That buffer is a new one each time, from torch's caching
    host allocator, which reuses it only after its copy: the copy waits behind the step before, the host does not.
    """

    def __init__(self, rows: int, max_blocks: int, device: torch.device) -> None:
        # Staging, in words of 4 bytes: ids, positions and KV slots of 8 bytes; lengths and adapter slots; then block
        # tables, only as wide as the step needs. These go on to where every graph finds them with the same stride: at
        # long contexts copying whole rows from the host would take longer.
        self._stride = -(-rows // 16) * 16
        self._tables_at = 8 * self._stride
        self._staging = torch.zeros(
            self._tables_at + rows * max_blocks, dtype=torch.int32, device=device
        )
        self._tables = torch.zeros(rows, max_blocks, dtype=torch.int32, device=device)
        self._starts = torch.arange(rows + 1, dtype=torch.int32, device=device)
        self._wide(self._staging)[2] = -1  # no KV is written while graphs are captured

    def batch(self, bucket: int, *, with_lora: bool) -> Batch:
        """Views of the device buffers for a bucket."""
        ids, positions, slots = (row[:bucket] for row in self._wide(self._staging))
        lengths, adapters = (row[:bucket] for row in self._narrow(self._staging))
        # Wide enough for every adapter; only real ranks are touched.
        segments = LoRASegments((), adapters, MAX_RANK) if with_lora else None
        return Batch(
            input_ids=ids,
            positions=positions,
            kv_slots=slots,
            attention=AttentionMeta(
                query_starts=self._starts[: bucket + 1],
                seq_lens=lengths,
                block_tables=self._tables[:bucket],
                query_lens=(1,) * bucket,
                kv_lens=(self._tables.shape[1],) * bucket,
            ),
            segments=segments,
            sampled_rows=None,
            sampled_segments=segments,
        )

    def fill(self, host: HostBatch, bucket: int) -> None:
        """Bring a step's values to the device, padded to the bucket; queued, not waited for."""
        count, width = host.block_tables.shape
        size = self._tables_at + count * width
        packed = torch.empty(size, dtype=torch.int32, pin_memory=True)
        wide = self._wide(packed).numpy()
        wide[0, :count] = host.input_ids
        wide[1, :count] = host.positions
        wide[2, :count] = host.kv_slots
        wide[:2, count:bucket] = 0
        wide[2, count:bucket] = -1
        narrow = self._narrow(packed).numpy()
        narrow[0, :count] = host.kv_lens
        narrow[0, count:bucket] = 0
        narrow[1, :bucket] = token_slots(host.spans, bucket)
        packed.numpy()[self._tables_at :] = host.block_tables.reshape(-1)
        self._staging[:size].copy_(packed, non_blocking=True)
        tables = self._staging[self._tables_at : size].view(count, width)
        self._tables[:count, :width].copy_(tables)

    def _wide(self, buffer: torch.Tensor) -> torch.Tensor:
        """[3, rows] int64: ids, positions, slots."""
        return buffer[: 6 * self._stride].view(torch.int64).view(3, self._stride)

    def _narrow(self, buffer: torch.Tensor) -> torch.Tensor:
        """[2, rows] int32: lengths, adapter slots."""
        return buffer[6 * self._stride : self._tables_at].view(2, self._stride)
