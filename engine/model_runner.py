"""Owns the device: the loaded model, the KV cache, and running steps on them."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from loraplex.engine.arena import Arena
from loraplex.engine.batch import lay_out, move
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.cuda_graphs import DecodeGraphs
from loraplex.engine.lora import AdapterSource
from loraplex.engine.lora_pool import LoRAPool
from loraplex.engine.memory import plan_memory
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.models.decoder import Decoder
from loraplex.engine.models.rope import rope_tables
from loraplex.engine.models.weights import allocate, fill_random, load
from loraplex.engine.page_pool import PagePool
from loraplex.engine.pages import BLOCK_SIZE
from loraplex.engine.piece_graphs import PieceGraphs
from loraplex.engine.pooler import Vectors, pool
from loraplex.engine.prompt_scores import PromptScores, score
from loraplex.engine.sampler import Sampled, SampledTokens, Sampler
from loraplex.engine.scheduler import Scheduled
from loraplex.engine.sequence import Sequence
from loraplex.engine.warm_up import warm_up
from loraplex.kernels.attention.backends import AttentionShape, choose_backend


@dataclass(frozen=True, slots=True)
class Launched:
    """A step whose forward pass is queued.

    Attributes:
        num_adapters: distinct adapters in it.
        sequences: those whose next token it gives: all their tokens are computed now.
        logits: [sequences, vocabulary], valid in stream order until the next launch.
        scores: log-probabilities of prompts, if any are asked for.
        vectors: of prompts, if any are ready.
    """

    num_adapters: int
    sequences: tuple[Sequence, ...]
    logits: torch.Tensor
    scores: PromptScores | None = None
    vectors: Vectors | None = None


class Flight:
    """A step on its way, with its sampling."""

    def __init__(
        self,
        sequences: tuple[Sequence, ...],
        tokens: SampledTokens | None,
        done: "torch.cuda.Event | None",
        scores: PromptScores | None,
        vectors: Vectors | None = None,
    ) -> None:
        self.sequences = sequences
        self._scores = scores
        self.vectors = vectors
        self._tokens = tokens
        self._done = done

    def read(self) -> list[tuple[Sequence, Sampled]]:
        """Wait for this step, not for later ones; returns each sequence with its new token. Those that ask get the
        log-probabilities of their prompts."""
        if self._scores is not None:
            self._scores.hand_over()
        if self._tokens is not None:
            return list(zip(self.sequences, self._tokens.read(), strict=True))
        if self._done is not None:
            self._done.synchronize()
        return []


class ModelRunner:
    """A model on its device.

    Attributes:
        arena: memory of KV and adapters.
        adapters: the adapters in device memory.
        max_model_len: longest sequence, limited by the model, the settings and the arena.
    """

    def __init__(self, config: EngineConfig, model: ModelConfig, source: AdapterSource) -> None:
        limit = config.max_model_len or model.max_position
        if limit > model.max_position:
            raise InvalidConfigError(
                f"max_model_len is {limit}, but the model was made for at most {model.max_position} tokens."
            )
        self.device = resolve_device(config.device)
        self.dtype = resolve_dtype(config.dtype, model, self.device)
        weights = allocate(model, self.dtype, self.device)
        if config.load_format == "dummy":
            fill_random(weights)
        else:
            load(weights, model, config.model)
        plan = plan_memory(config, model, self.dtype, self.device)
        pages = PagePool(plan.num_pages, plan.blocks_per_page)
        num_blocks = plan.num_pages * plan.blocks_per_page
        self.max_model_len = min(limit, num_blocks * BLOCK_SIZE)
        self.arena = Arena(pages, plan.page_size, dtype=self.dtype, device=self.device)
        self._kv_cache = self.arena.memory.view(
            num_blocks, model.num_layers, 2, BLOCK_SIZE, model.num_kv_heads, model.head_dim
        )
        self.adapters = LoRAPool(model.modules(), source, self.arena)
        rope = rope_tables(config.model, model.head_dim, self.max_model_len, self.device)
        attend = choose_backend(_attention_shape(model, self.dtype), self.device).op
        self._decoder = Decoder(model, weights, rope, self.adapters.tables, attend)
        self._sampler = Sampler(
            model.eos_token_ids, model.vocab_size, config.max_num_seqs, self.device
        )
        # The newest step's sampled tokens, for the next step to find where the host does not know them yet.
        self._last_ids = torch.zeros(config.max_num_seqs, dtype=torch.int64, device=self.device)
        self._graphs: DecodeGraphs | None = None
        self._pieces: PieceGraphs | None = None
        if self.device.type == "cuda" and config.cuda_graphs:
            self._graphs, self._pieces = self._capture_graphs(config)
        if self.device.type == "cuda":
            warm_up(
                self._decoder,
                self._sampler,
                self._kv_cache,
                max_tokens=config.max_num_batched_tokens,
                max_model_len=self.max_model_len,
            )

    @torch.inference_mode()
    def launch(self, scheduled: list[Scheduled], tables: np.ndarray) -> Launched:
        """Queue the forward pass of a step; tokens that are pending come from the sampling launched last.

        Args:
            scheduled: the step.
            tables: `BlockManager.tables`.
        """
        host = lay_out(scheduled, tables)
        self.arena.overwrite()
        scores = vectors = None
        if self._graphs is not None and self._graphs.fits(host):
            logits = self._graphs.forward(host)
        else:
            handles = {item.sequence.request.adapter for item in scheduled}
            ranks = [self.adapters.max_rank(handle) for handle in handles if handle is not None]
            max_rank = max(ranks, default=0)
            if self._pieces is not None and self._pieces.fits(host):
                hidden, batch = self._pieces.hidden(host, max_rank)
            else:
                batch = move(host, max_rank, self._last_ids)
                hidden = self._decoder.hidden(batch, self._kv_cache)
            if host.scored:
                head = partial(self._decoder.logits_of, hidden)
                scores = score(host.scored, head, max_rank, self.device)
            if host.pooled:
                vectors = pool(host.pooled, partial(self._decoder.states, hidden), self.device)
            logits = self._decoder.logits(hidden, batch)
        self.arena.launched()
        return Launched(len(host.spans), host.sampled, logits, scores, vectors)

    @torch.inference_mode()
    def sample(self, step: Launched) -> Flight:
        """Queue the sampling of a step. Every earlier token of its sequences must be known on the host."""
        if not step.sequences:
            done = torch.cuda.Event() if self.device.type == "cuda" else None
            if done is not None:
                done.record()
            return Flight((), None, done, step.scores, step.vectors)
        tokens = self._sampler.launch(step.logits, step.sequences)
        self._last_ids[: len(step.sequences)].copy_(tokens.token_ids)
        return Flight(step.sequences, tokens, None, step.scores, step.vectors)

    @torch.inference_mode()
    def _capture_graphs(self, config: EngineConfig) -> tuple[DecodeGraphs, PieceGraphs]:
        graphs = DecodeGraphs(
            self._decoder,
            self._kv_cache,
            self._last_ids,
            max_num_seqs=config.max_num_seqs,
            max_blocks=-(-self.max_model_len // BLOCK_SIZE),
        )
        graphs.capture()
        pieces = PieceGraphs(
            self._decoder,
            self._kv_cache,
            self._last_ids,
            max_tokens=config.max_num_batched_tokens,
        )
        pieces.prepare()
        return graphs, pieces


def _attention_shape(model: ModelConfig, dtype: torch.dtype) -> AttentionShape:
    return AttentionShape(
        model.num_heads,
        model.num_kv_heads,
        model.head_dim,
        BLOCK_SIZE,
        dtype,
        frozenset(model.sliding_windows),
    )


def resolve_device(name: str) -> torch.device:
    """The torch device of a setting.

    Raises:
        InvalidConfigError: CUDA is asked for and absent.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InvalidConfigError(
            "device is cuda, but torch finds no CUDA GPU; use --device cpu or install a CUDA build of torch."
        )
    return torch.device("cuda", torch.cuda.current_device())


def resolve_dtype(name: str, model: ModelConfig, device: torch.device) -> torch.dtype:
    """The dtype of a setting; "auto" is float32 on a CPU, where 16-bit matrix products are slower, not faster."""
    dtypes = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if name == "auto":
        return torch.float32 if device.type == "cpu" else dtypes.get(model.dtype, torch.bfloat16)
    return dtypes[name]
