"""Owns what the rest of the platform may know about a base model without loading it: its shapes, read from
`config.json`, and its table of LoRA-capable modules. Imports no torch, so that API workers stay small."""

import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class UnsupportedModelError(ValueError):
    """The directory holds no model this engine can run; the message says why."""


class ModuleKind(StrEnum):
    LINEAR = "linear"
    EMBEDDING = "embedding"


@dataclass(frozen=True, slots=True)
class Module:
    """One place a LoRA can attach to.

    `index` numbers the modules of a model; `name` is the Hugging Face path. A has rows of `in_features` elements (the
    vocabulary for an embedding), B has `out_features` rows.
    """

    index: int
    name: str
    kind: ModuleKind
    in_features: int
    out_features: int


# Order of the seven linears of a decoder layer; q,k,v and gate,up are adjacent because each group is one fused GEMM.
LAYER_LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and variants of one decoder of the Llama family."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    rms_norm_eps: float
    tie_word_embeddings: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool
    sliding_windows: tuple[int, ...]  # per layer, 0 = full attention
    dtype: str  # the checkpoint's own: float32, float16 or bfloat16
    eos_token_ids: tuple[int, ...]
    bos_token_id: int | None
    fingerprint: str  # sha256 over the parts of config.json that decide shapes and numbers

    @classmethod
    def from_directory(cls, path: Path) -> "ModelConfig":
        """Read `config.json` (and `generation_config.json` for the end-of-sequence ids).

        Raises:
            UnsupportedModelError: no readable config, an architecture of another family, or a variant not served.
        """
        file = path / "config.json"
        try:
            raw: dict[str, Any] = json.loads(file.read_text())
        except OSError as error:
            raise UnsupportedModelError(f"{file} cannot be read: {error.strerror}.") from error
        except ValueError as error:
            raise UnsupportedModelError(f"{file} is not JSON: {error}.") from error
        return cls.from_dict(raw, _read_optional_json(path / "generation_config.json"))

    @classmethod
    def from_dict(cls, raw: dict[str, Any], generation: dict[str, Any]) -> "ModelConfig":
        """Build from the parsed files; see `from_directory`."""
        model_type = raw.get("model_type", "")
        if model_type not in MODEL_TYPES:
            raise UnsupportedModelError(
                f"model_type {model_type!r} is not supported; supported are {', '.join(MODEL_TYPES)}."
            )
        if raw.get("quantization_config"):
            raise UnsupportedModelError(
                "quantization_config: quantised checkpoints are not supported yet."
            )
        activation = raw.get("hidden_act", "silu")
        if activation != "silu":
            raise UnsupportedModelError(
                f"hidden_act {activation!r} is not supported; only silu is."
            )
        try:
            heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
            layers = int(raw["num_hidden_layers"])
            eos = generation.get("eos_token_id", raw.get("eos_token_id"))
            return cls(
                model_type=model_type,
                vocab_size=int(raw["vocab_size"]),
                hidden_size=hidden,
                intermediate_size=int(raw["intermediate_size"]),
                num_layers=layers,
                num_heads=heads,
                num_kv_heads=int(raw.get("num_key_value_heads") or heads),
                head_dim=int(raw.get("head_dim") or hidden // heads),
                max_position=int(raw.get("max_position_embeddings", 2048)),
                rms_norm_eps=float(raw.get("rms_norm_eps", 1e-6)),
                tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
                qkv_bias=model_type == "qwen2" or bool(raw.get("attention_bias", False)),
                o_bias=model_type != "qwen2" and bool(raw.get("attention_bias", False)),
                mlp_bias=bool(raw.get("mlp_bias", False)),
                qk_norm=model_type == "qwen3",
                sliding_windows=_sliding_windows(raw, model_type, layers),
                dtype=str(raw.get("dtype") or raw.get("torch_dtype") or "float32"),
                eos_token_ids=tuple(eos)
                if isinstance(eos, list)
                else (() if eos is None else (eos,)),
                bos_token_id=raw.get("bos_token_id"),
                fingerprint=_fingerprint(raw),
            )
        except KeyError as error:
            raise UnsupportedModelError(f"config.json lacks {error}.") from error

    def modules(self) -> tuple[Module, ...]:
        """Every place a LoRA can attach to, by index: seven linears per layer, then embedding and head."""
        hidden, inter = self.hidden_size, self.intermediate_size
        q, kv = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        shapes = {
            "q_proj": (hidden, q),
            "k_proj": (hidden, kv),
            "v_proj": (hidden, kv),
            "o_proj": (q, hidden),
            "gate_proj": (hidden, inter),
            "up_proj": (hidden, inter),
            "down_proj": (inter, hidden),
        }
        table: list[Module] = []
        for layer in range(self.num_layers):
            for linear in LAYER_LINEARS:
                block = "self_attn" if linear[0] in "qkvo" else "mlp"
                name = f"model.layers.{layer}.{block}.{linear}"
                # up_proj is an mlp module, o_proj is not: the first letters q, k, v, o are unique to attention.
                table.append(Module(len(table), name, ModuleKind.LINEAR, *shapes[linear]))
        table.append(
            Module(len(table), "model.embed_tokens", ModuleKind.EMBEDDING, self.vocab_size, hidden)
        )
        table.append(Module(len(table), "lm_head", ModuleKind.LINEAR, hidden, self.vocab_size))
        return tuple(table)

    @property
    def embedding_module(self) -> int:
        return self.num_layers * len(LAYER_LINEARS)

    @property
    def head_module(self) -> int:
        return self.embedding_module + 1


def _read_optional_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _sliding_windows(raw: dict[str, Any], model_type: str, layers: int) -> tuple[int, ...]:
    window = int(raw.get("sliding_window") or 0)
    if model_type == "llama" or not window:
        return (0,) * layers
    if model_type == "mistral":
        return (window,) * layers
    if not raw.get("use_sliding_window", False):
        return (0,) * layers
    kinds = raw.get("layer_types")
    if kinds:
        return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    full = int(raw.get("max_window_layers", layers))
    return tuple(0 if layer < full else window for layer in range(layers))


def _fingerprint(raw: dict[str, Any]) -> str:
    # These say how a checkpoint was written, not what it computes.
    ignored = {
        "transformers_version",
        "_name_or_path",
        "architectures",
        "use_cache",
        "torch_dtype",
        "dtype",
    }
    kept = {k: v for k, v in raw.items() if k not in ignored}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
