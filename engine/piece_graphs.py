"""Owns steps with prompts in them captured as CUDA graphs, one graph per piece between two attentions.

Attention depends on how many sequences a step has and how long they are, so it is launched anew in every step; all else
depends on the number of tokens alone. Launched kernel by kernel, a step of few prompt tokens takes the host about three
times as long as the GPU (docs/performance.md).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from loraplex.engine.batch import Batch, HostBatch, Tokens, move
from loraplex.engine.config import MAX_RANK
from loraplex.engine.models.decoder import Decoder, Hidden
from loraplex.kernels.compile_ahead import compile_ahead
from loraplex.kernels.lora.tables import MANY_WAYS, LoRASegments
from loraplex.kernels.lora.tuning import MOST_DECODE_TOKENS

# Tokens of a step, padded to the next of these: by at most an eighth above 256. Above the last a step's kernels outlast
# their launches on any host.
_BUCKETS = (
    *(16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448, 480, 512),
    *(576, 640, 704, 768, 832, 896, 960, 1024, 1152, 1280, 1408, 1536, 1664, 1792, 1920, 2048),
)
MOST_TOKENS = _BUCKETS[-1]

Pair = tuple[torch.Tensor, torch.Tensor]
# Captures what is launched; returns the graph and what the launch returned.
Record = Callable[[Callable[[], Pair]], tuple[torch.cuda.CUDAGraph, Pair]]


@dataclass(frozen=True, slots=True)
class _Pass:
    """A captured forward pass: replay piece i, attend layer i with its queries, and so on; then the last piece."""

    pieces: list[torch.cuda.CUDAGraph]
    queries: list[torch.Tensor]
    last: torch.cuda.CUDAGraph
    hidden: Hidden


class PieceGraphs:
    """One captured pass per number of tokens, without LoRA, with it, and with it for tokens of many adapters close to
    each other. What varies between steps is read from device buffers, as in `DecodeGraphs`.

    A pass is captured when it is first needed, which takes about as long as launching its kernels; all of them at the
    start would take 3 s.
    """

    def __init__(
        self,
        decoder: Decoder,
        kv_cache: torch.Tensor,
        last_ids: torch.Tensor,
        *,
        max_tokens: int,
        record: Record | None = None,
    ) -> None:
        """Allocate the buffers.

        Args:
            decoder, kv_cache: what a step runs on.
            last_ids: [rows] int64, the tokens sampled by the step before.
            max_tokens: most tokens of a step.
            record: captures a piece; by default as a CUDA graph.
        """
        self._decoder = decoder
        self._kv_cache = kv_cache
        self._last_ids = last_ids
        self._device = kv_cache.device
        most = min(max_tokens, MOST_TOKENS)
        self._buckets = [*(b for b in _BUCKETS if b < most), most]
        self._tokens = Tokens(
            input_ids=torch.zeros(most, dtype=torch.int64, device=self._device),
            positions=torch.zeros(most, dtype=torch.int64, device=self._device),
            # No KV is written while graphs are captured.
            kv_slots=torch.full((most,), -1, dtype=torch.int64, device=self._device),
            segments=LoRASegments(
                (), torch.full((most,), -1, dtype=torch.int32, device=self._device), MAX_RANK
            ),
        )
        self._attended = decoder.zero_attended(most)
        self._record = record or _Recorder(self._device).record
        self._passes: dict[tuple[int, int], _Pass] = {}

    def prepare(self) -> None:
        """Compile what the passes launch, and capture the largest of them: the others fit into its memory."""
        compile_ahead(self._launch_all, self._device)
        self._launch_all()
        torch.cuda.synchronize(self._device)
        largest = self._buckets[-1]
        for bucket, ways in self._kinds():
            if bucket == largest:
                self._pass(bucket, ways)

    def fits(self, host: HostBatch) -> bool:
        """Whether a step was captured."""
        return len(host.input_ids) <= self._buckets[-1]

    def hidden(self, host: HostBatch, max_rank: int) -> tuple[Hidden, Batch]:
        """Queue a step that fits, up to its last layer.

        Args:
            host: the step.
            max_rank: largest rank of any adapter present.

        Returns:
            What `Decoder.hidden` returns, valid until the next call in stream order, padding behind it; and the step on
            the device.
        """
        bucket = next(b for b in self._buckets if b >= len(host.input_ids))
        batch = move(host.padded(bucket), max_rank, self._last_ids)
        recorded = self._pass(bucket, _ways(batch.segments, bucket))
        self._fill(batch, bucket)
        attended = self._attended[:bucket]
        for number, (piece, queries) in enumerate(
            zip(recorded.pieces, recorded.queries, strict=True)
        ):
            piece.replay()
            self._decoder.attend(number, queries, batch.attention, self._kv_cache, attended)
        recorded.last.replay()
        return recorded.hidden, batch

    def _fill(self, batch: Batch, bucket: int) -> None:
        tokens = self._of_bucket(bucket, 1)
        tokens.input_ids.copy_(batch.input_ids)
        tokens.positions.copy_(batch.positions)
        tokens.kv_slots.copy_(batch.kv_slots)
        if batch.segments is not None and tokens.segments is not None:
            tokens.segments.token_slots.copy_(batch.segments.token_slots)

    def _pass(self, bucket: int, ways: int) -> _Pass:
        recorded = self._passes.get((bucket, ways))
        if recorded is None:
            recorded = self._passes[bucket, ways] = self._capture(bucket, ways)
        return recorded

    def _capture(self, bucket: int, ways: int) -> _Pass:
        record = self._record
        decoder, kv_cache, attended = self._decoder, self._kv_cache, self._attended[:bucket]
        tokens = self._of_bucket(bucket, ways)
        # What a piece hands to the next is alive until that is recorded; then later pieces may use its memory.
        piece, (queries, residual) = record(partial(decoder.begin, tokens, kv_cache))
        pieces, all_queries = [piece], [unowned(queries)]
        for number in range(decoder.num_layers - 1):
            proceed = partial(decoder.proceed, number, attended, residual, tokens, kv_cache)
            piece, (queries, residual) = record(proceed)
            pieces.append(piece)
            all_queries.append(unowned(queries))
        last, (output, residual) = record(partial(decoder.finish, attended, residual, tokens))
        return _Pass(pieces, all_queries, last, Hidden(unowned(output), unowned(residual)))

    def _kinds(self) -> list[tuple[int, int]]:
        """Number of tokens and `LoRASegments.ways` of every pass, 0 for one without LoRA."""
        return [
            (bucket, ways)
            for bucket in reversed(self._buckets)
            for ways in ((MANY_WAYS, 1, 0) if bucket > MOST_DECODE_TOKENS else (1, 0))
        ]

    def _launch_all(self) -> None:
        """Launch what the graphs will hold, for one layer of each kind."""
        layers = self._decoder.one_of_each_layer()
        for bucket, ways in self._kinds():
            tokens = self._of_bucket(bucket, ways)
            _, residual = layers.begin(tokens, self._kv_cache)
            layers.finish(self._attended[:bucket], residual, tokens)

    def _of_bucket(self, bucket: int, ways: int) -> Tokens:
        """Views of the device buffers."""
        tokens, segments = self._tokens, None
        if ways and tokens.segments is not None:
            # Wide enough for every adapter; only real ranks are touched.
            segments = LoRASegments((), tokens.segments.token_slots[:bucket], MAX_RANK, ways)
        return Tokens(
            input_ids=tokens.input_ids[:bucket],
            positions=tokens.positions[:bucket],
            kv_slots=tokens.kv_slots[:bucket],
            segments=segments,
        )


def _ways(segments: LoRASegments | None, bucket: int) -> int:
    if segments is None:
        return 0
    return segments.ways if bucket > MOST_DECODE_TOKENS else 1


class _Recorder:
    """Captures graphs that share memory and are replayed in the order of their capture.

    `torch.cuda.graph` does the same, but collects garbage and empties the allocator's cache every time: seconds for a
    pass instead of 0.03.
    """

    def __init__(self, device: torch.device) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)

    def record(self, launch: Callable[[], Pair]) -> tuple[torch.cuda.CUDAGraph, Pair]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):
            # Another thread may be page-locking memory meanwhile, which must not break the capture.
            graph.capture_begin(pool=self._pool, capture_error_mode="thread_local")
            try:
                results = launch()
            finally:
                graph.capture_end()
        return graph, results


class _Memory:
    """Device memory described to torch, which takes it as it is and does not own it."""

    def __init__(self, tensor: torch.Tensor) -> None:
        size = tensor.element_size()
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "strides": tuple(stride * size for stride in tensor.stride()),
            "typestr": f"<i{size}",  # there is no name for bfloat16
            "data": (tensor.data_ptr(), False),
            "version": 3,
        }


def unowned(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor in the same memory that does not keep it: the memory of a graph stays as long as the graph does, and
    later pieces may use it once this one's result has been read. On a CPU the tensor itself."""
    if not tensor.is_cuda:
        return tensor
    return torch.as_tensor(_Memory(tensor), device=tensor.device).view(tensor.dtype)
