"""Owns the base model's weights on the device: fused as the decoder wants them, read from safetensors shards."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.engine.models.checkpoint import read_headers, read_into


@dataclass(slots=True)
class LayerWeights:
    """One decoder layer; linears are [out, in], fused ones hold their parts one below the other."""

    input_norm: torch.Tensor
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: torch.Tensor
    o_bias: torch.Tensor | None
    post_norm: torch.Tensor
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    down: torch.Tensor
    down_bias: torch.Tensor | None


@dataclass(slots=True)
class ModelWeights:
    """All weights of a model; `lm_head` is `embed` itself where the two are tied."""

    embed: torch.Tensor
    layers: list[LayerWeights]
    norm: torch.Tensor
    lm_head: torch.Tensor

    def num_bytes(self) -> int:
        tied = self.lm_head.data_ptr() == self.embed.data_ptr()
        return sum(
            t.numel() * t.element_size()
            for t in (
                *_layer_tensors(self.layers),
                self.embed,
                self.norm,
                *([] if tied else [self.lm_head]),
            )
        )


def _layer_tensors(layers: list[LayerWeights]) -> Iterator[torch.Tensor]:
    for layer in layers:
        for name in LayerWeights.__slots__:
            tensor = getattr(layer, name)
            if tensor is not None:
                yield tensor


def allocate(config: ModelConfig, dtype: torch.dtype, device: torch.device) -> ModelWeights:
    """Empty weights of the right shapes."""

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=dtype, device=device)

    def bias(present: bool, size: int) -> torch.Tensor | None:
        return empty(size) if present else None

    hidden, inter, dim = config.hidden_size, config.intermediate_size, config.head_dim
    q, kv = config.num_heads * dim, config.num_kv_heads * dim
    layers = [
        LayerWeights(
            input_norm=empty(hidden),
            qkv=empty(q + 2 * kv, hidden),
            qkv_bias=bias(config.qkv_bias, q + 2 * kv),
            q_norm=bias(config.qk_norm, dim),
            k_norm=bias(config.qk_norm, dim),
            o=empty(hidden, q),
            o_bias=bias(config.o_bias, hidden),
            post_norm=empty(hidden),
            gate_up=empty(2 * inter, hidden),
            gate_up_bias=bias(config.mlp_bias, 2 * inter),
            down=empty(hidden, inter),
            down_bias=bias(config.mlp_bias, hidden),
        )
        for _ in range(config.num_layers)
    ]
    embed = empty(config.vocab_size, hidden)
    head = embed if config.tie_word_embeddings else empty(config.vocab_size, hidden)
    return ModelWeights(embed, layers, empty(hidden), head)


def fill_random(weights: ModelWeights) -> None:
    """Random values in the range of an untrained model, for measuring without a checkpoint."""
    generator = torch.Generator(weights.embed.device).manual_seed(0)
    for tensor in (weights.embed, weights.lm_head, *_layer_tensors(weights.layers)):
        tensor.normal_(0.0, 0.02, generator=generator)
    for layer in weights.layers:
        for norm in (layer.input_norm, layer.post_norm, layer.q_norm, layer.k_norm):
            if norm is not None:
                norm.fill_(1.0)
    weights.norm.fill_(1.0)


def load(weights: ModelWeights, config: ModelConfig, path: Path) -> None:
    """Read every tensor of a checkpoint into place, casting on the way.

    Raises:
        UnsupportedModelError: no safetensors files, one that is damaged or cut short, a tensor missing, of the wrong
            shape or of a dtype that is no plain float.
    """
    targets = dict(checkpoint_names(weights, config))
    stored = read_headers(_shards(path))
    missing = sorted(targets.keys() - stored.keys())
    if missing:
        raise UnsupportedModelError(
            f"{path} lacks {len(missing)} tensors, among them {', '.join(missing[:3])}."
        )
    for name, target in targets.items():
        if stored[name].shape != target.shape:
            raise UnsupportedModelError(
                f"{name} has shape {list(stored[name].shape)}, config.json implies {list(target.shape)}."
            )
    read_into([(stored[name], target) for name, target in targets.items()])


def _shards(path: Path) -> list[Path]:
    index = path / "model.safetensors.index.json"
    if index.exists():
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        return [path / name for name in names]
    single = path / "model.safetensors"
    if single.exists():
        return [single]
    raise UnsupportedModelError(
        f"{path} holds no model.safetensors; loraplex reads safetensors checkpoints only."
    )


def checkpoint_names(
    weights: ModelWeights, config: ModelConfig
) -> Iterator[tuple[str, torch.Tensor]]:
    """Where each tensor of a Hugging Face checkpoint goes; parts of fused weights are views."""
    q, kv = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    yield "model.embed_tokens.weight", weights.embed
    yield "model.norm.weight", weights.norm
    if weights.lm_head is not weights.embed:
        yield "lm_head.weight", weights.lm_head
    for number, layer in enumerate(weights.layers):
        prefix = f"model.layers.{number}."
        parts: list[tuple[str, torch.Tensor | None]] = [
            ("input_layernorm.weight", layer.input_norm),
            ("post_attention_layernorm.weight", layer.post_norm),
            ("self_attn.q_norm.weight", layer.q_norm),
            ("self_attn.k_norm.weight", layer.k_norm),
            ("self_attn.o_proj.weight", layer.o),
            ("self_attn.o_proj.bias", layer.o_bias),
            ("mlp.down_proj.weight", layer.down),
            ("mlp.down_proj.bias", layer.down_bias),
        ]
        for suffix, fused in (("weight", layer.qkv), ("bias", layer.qkv_bias)):
            if fused is not None:
                for name, part in zip("qkv", fused.split((q, kv, kv)), strict=True):
                    parts.append((f"self_attn.{name}_proj.{suffix}", part))
        for suffix, fused in (("weight", layer.gate_up), ("bias", layer.gate_up_bias)):
            if fused is not None:
                for name, part in zip(("gate", "up"), fused.chunk(2), strict=True):
                    parts.append((f"mlp.{name}_proj.{suffix}", part))
        for name, tensor in parts:
            if tensor is not None:
                yield prefix + name, tensor
