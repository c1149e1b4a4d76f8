"""Owns the forward pass: one decoder for all families of the Llama kind, with LoRA at every linear, the embedding and
the head."""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch.nn import functional

from loraplex.engine.batch import Batch, Tokens
from loraplex.engine.model_config import LAYER_LINEARS, ModelConfig
from loraplex.engine.models.rope import RopeTables
from loraplex.engine.models.weights import LayerWeights, ModelWeights
from loraplex.kernels.activation import silu_mul
from loraplex.kernels.attention.backends import AttentionOp
from loraplex.kernels.attention.meta import AttentionMeta
from loraplex.kernels.linear import linear
from loraplex.kernels.lora.apply import LoRADelta, lora_linear, lora_linear_deferred
from loraplex.kernels.lora.embed import lora_embed_apply
from loraplex.kernels.lora.tables import LoRASegments, LoRATables
from loraplex.kernels.norm import add_rms_norm, rms_norm
from loraplex.kernels.qkv import HeadNorm, qkv_to_cache

# Most tokens for which the LoRA shrink runs on a side stream beside the base GEMM. On one NVIDIA H200 (8B shape, rank
# 16), microseconds that adapters add to a layer, with and without: 1 token 9.4 / 19.3, 32 tokens with 1 adapter
# 18.8 / 31.3, with 32 29.6 / 42.9, 128 with 128 155 / 167, 256 with 32 187 / 178.
_SIDE_STREAM_TOKENS = 128
# Index of a layer's linears within its seven modules.
_QKV, _O, _GATE_UP, _DOWN = 0, 3, 4, 6


class Hidden(NamedTuple):
    """What the last layer leaves, each [tokens, hidden size]: its output, and the residual that it is to be added to
    before the last norm."""

    output: torch.Tensor
    residual: torch.Tensor


class Decoder:
    """Llama, Mistral, Qwen2 and Qwen3; the differences are in the config."""

    def __init__(
        self,
        config: ModelConfig,
        weights: ModelWeights,
        rope: RopeTables,
        tables: LoRATables,
        attend: AttentionOp,
    ) -> None:
        self._config = config
        self._weights = weights
        self._rope = rope
        self._tables = tables
        self._attend = attend
        self._q_width = config.num_heads * config.head_dim
        self._kv_width = config.num_kv_heads * config.head_dim
        self._scale = config.head_dim**-0.5
        # LoRA shrinks run here, beside the base GEMMs.
        on_gpu = weights.embed.is_cuda
        self._side = torch.cuda.Stream(weights.embed.device) if on_gpu else None

    def one_of_each_layer(self) -> "Decoder":
        """The same model cut to one layer per kind of attention: it runs every kernel that the whole model does."""
        windows = tuple(dict.fromkeys(self._config.sliding_windows))
        config = replace(self._config, num_layers=len(windows), sliding_windows=windows)
        weights = replace(self._weights, layers=self._weights.layers[: len(windows)])
        return Decoder(config, weights, self._rope, self._tables, self._attend)

    def empty_logits(self, rows: int) -> torch.Tensor:
        """[rows, vocabulary] for what `forward` returns; values are anything."""
        return self._weights.lm_head.new_empty((rows, self._config.vocab_size))

    def zero_attended(self, tokens: int) -> torch.Tensor:
        """[tokens, query heads, head dim] for the result of `attend`, which leaves rows of padding as they are."""
        shape = (tokens, self._config.num_heads, self._config.head_dim)
        return self._weights.embed.new_zeros(shape)

    def forward(self, batch: Batch, kv_cache: torch.Tensor) -> torch.Tensor:
        """Run one step.

        Args:
            batch: the step.
            kv_cache: [blocks, layers, 2, block size, kv heads, head dim]; the step's K and V are written to it.

        Returns:
            Logits of the sampled rows, [sampled, vocabulary] in the model's dtype.
        """
        return self.logits(self.hidden(batch, kv_cache), batch)

    def hidden(self, batch: Batch, kv_cache: torch.Tensor) -> Hidden:
        """A step up to its last layer."""
        queries, residual = self.begin(batch, kv_cache)
        last = self.num_layers - 1
        for number in range(last):
            attended = self.attend(number, queries, batch.attention, kv_cache)
            queries, residual = self.proceed(number, attended, residual, batch, kv_cache)
        attended = self.attend(last, queries, batch.attention, kv_cache)
        return self.finish(attended, residual, batch)

    @property
    def num_layers(self) -> int:
        return len(self._weights.layers)

    def begin(self, tokens: Tokens, kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Everything before the first attention.

        Returns:
            queries: [tokens, query heads, head dim].
            residual: [tokens, hidden size].
        """
        weights, config = self._weights, self._config
        hidden = functional.embedding(tokens.input_ids, weights.embed)
        if tokens.segments is not None:
            lora_embed_apply(
                hidden, tokens.input_ids, self._tables, tokens.segments, config.embedding_module
            )
        normed = rms_norm(hidden, weights.layers[0].input_norm, config.rms_norm_eps)
        return self._queries(0, normed, tokens, kv_cache), hidden

    def attend(
        self,
        number: int,
        queries: torch.Tensor,
        meta: AttentionMeta,
        kv_cache: torch.Tensor,
        out: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Attention of a layer, [tokens, query heads, head dim], in `out` if that is given."""
        k_cache, v_cache = kv_cache[:, number, 0], kv_cache[:, number, 1]
        window = self._config.sliding_windows[number]
        return self._attend(queries, k_cache, v_cache, meta, self._scale, window, out=out)

    def proceed(
        self,
        number: int,
        attended: torch.Tensor,
        residual: torch.Tensor,
        tokens: Tokens,
        kv_cache: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What lies between the attention of a layer and that of the next; returns the next one's queries and the
        residual, as `begin` does."""
        output, residual = self._after_attention(number, attended, residual, tokens.segments)
        norm, eps = self._weights.layers[number + 1].input_norm, self._config.rms_norm_eps
        normed, residual = add_rms_norm(output, residual, norm, eps)
        return self._queries(number + 1, normed, tokens, kv_cache), residual

    def finish(self, attended: torch.Tensor, residual: torch.Tensor, tokens: Tokens) -> Hidden:
        """What follows the last attention."""
        return Hidden(
            *self._after_attention(self.num_layers - 1, attended, residual, tokens.segments)
        )

    def logits(self, hidden: Hidden, batch: Batch) -> torch.Tensor:
        """Logits of the sampled rows, [sampled, vocabulary]."""
        return self.logits_of(hidden, batch.sampled_rows, batch.sampled_segments)

    def logits_of(
        self, hidden: Hidden, rows: torch.Tensor | None, segments: LoRASegments | None
    ) -> torch.Tensor:
        """Logits of some rows, [rows, vocabulary].

        Args:
            hidden: what the last layer left; overwritten if `rows` is None.
            rows: [rows] int64, their numbers; None for all.
            segments: which of them use which adapter.
        """
        config = self._config
        return self._linear(
            self.states(hidden, rows),
            self._weights.lm_head,
            None,
            segments,
            config.head_module,
            (config.vocab_size,),
        )

    def states(self, hidden: Hidden, rows: torch.Tensor | None) -> torch.Tensor:
        """Hidden states behind the last norm, [rows, hidden size]; the arguments are those of `logits_of`."""
        output, residual = hidden
        if rows is not None:
            # Most tokens of a prompt need no logits.
            output, residual = output[rows], residual[rows]
        return add_rms_norm(output, residual, self._weights.norm, self._config.rms_norm_eps)[0]

    def _queries(
        self, number: int, x: torch.Tensor, tokens: Tokens, kv_cache: torch.Tensor
    ) -> torch.Tensor:
        """The queries of a layer; its keys and values are written to the cache."""
        config, layer = self._config, self._weights.layers[number]
        qkv, delta = self._deferred(
            x,
            layer.qkv,
            layer.qkv_bias,
            tokens.segments,
            number * len(LAYER_LINEARS) + _QKV,
            (self._q_width, self._kv_width, self._kv_width),
        )
        norm = None
        if layer.q_norm is not None and layer.k_norm is not None:
            norm = HeadNorm(layer.q_norm, layer.k_norm, config.rms_norm_eps)
        return qkv_to_cache(
            qkv,
            kv_cache[:, number, 0],
            kv_cache[:, number, 1],
            self._rope.cos,
            self._rope.sin,
            tokens.positions,
            tokens.kv_slots,
            norm,
            delta,
        )

    def _after_attention(
        self,
        number: int,
        attended: torch.Tensor,
        residual: torch.Tensor,
        segments: LoRASegments | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        config, layer = self._config, self._weights.layers[number]
        output = self._linear(
            attended.view(len(attended), self._q_width),
            layer.o,
            layer.o_bias,
            segments,
            number * len(LAYER_LINEARS) + _O,
            (config.hidden_size,),
        )
        normed, residual = add_rms_norm(output, residual, layer.post_norm, config.rms_norm_eps)
        return self._mlp(number, layer, normed, segments), residual

    def _mlp(
        self, number: int, layer: LayerWeights, x: torch.Tensor, segments: LoRASegments | None
    ) -> torch.Tensor:
        config, first = self._config, number * len(LAYER_LINEARS)
        inter = config.intermediate_size
        gate_up, delta = self._deferred(
            x, layer.gate_up, layer.gate_up_bias, segments, first + _GATE_UP, (inter, inter)
        )
        return self._linear(
            silu_mul(gate_up, delta),
            layer.down,
            layer.down_bias,
            segments,
            first + _DOWN,
            (config.hidden_size,),
        )

    def _linear(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        segments: LoRASegments | None,
        first_module: int,
        widths: tuple[int, ...],
    ) -> torch.Tensor:
        if segments is None:
            return linear(x, weight, bias)
        side = self._side if len(x) <= _SIDE_STREAM_TOKENS else None
        return lora_linear(x, weight, bias, self._tables, segments, first_module, widths, side)

    def _deferred(
        self,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        segments: LoRASegments | None,
        first_module: int,
        widths: tuple[int, ...],
    ) -> tuple[torch.Tensor, LoRADelta | None]:
        """A projection whose adapters' part is added by the kernel that reads it next."""
        if segments is None:
            return linear(x, weight, bias), None
        side = self._side if len(x) <= _SIDE_STREAM_TOKENS else None
        return lora_linear_deferred(
            x, weight, bias, self._tables, segments, first_module, widths, side
        )
