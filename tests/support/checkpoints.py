"""Owns small random checkpoints for tests: models of every served family as transformers writes
them (with a byte-level tokenizer), and LoRA adapters as PEFT writes them."""

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
CONFIG_CLASSES = {
    "llama": "LlamaConfig",
    "mistral": "MistralConfig",
    "qwen2": "Qwen2Config",
    "qwen3": "Qwen3Config",
}

# Fields of another library's config class, each of its own type.
Options = Mapping[str, Any]

# Tokens 0..255 are the bytes; then these.
BOS, EOS, IM_START, IM_END = "<s>", "</s>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (BOS, EOS, IM_START, IM_END)
BOS_ID, EOS_ID = 256, 257
VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# Rope variants by name; contexts of 64 are stretched so that short tests pass the original length.
ROPES: dict[str, dict[str, object]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "yarn": {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64},
}


def tiny_model(
    path: Path,
    family: str = "llama",
    *,
    tie: bool = False,
    rope: str | Mapping[str, object] | None = None,
    layers: int = 2,
    hidden: int = 64,
    intermediate: int = 96,
    heads: int = 4,
    kv_heads: int = 2,
    head_dim: int | None = None,
    vocab_size: int = VOCAB_SIZE,
    max_position: int = 512,
    options: Options | None = None,
    legacy_rope: bool = False,
    dtype: str = "float32",
    seed: int = 0,
) -> Path:
    """Write a random model and its tokenizer to `path` (created) and return it.

    Norms and biases are random too, so that a forgotten one shows. `rope` is a name of `ROPES` or
    the parameters themselves; `options` are further fields of the family's config class, such as
    `sliding_window` or `attention_bias`; `legacy_rope` writes `rope_theta` and `rope_scaling` as
    transformers 4 did.
    """
    variant = ROPES[rope or "default"] if rope is None or isinstance(rope, str) else rope
    parameters = {"rope_theta": 10_000.0, **variant}
    config = getattr(transformers, CONFIG_CLASSES[family])(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim or hidden // heads,
        max_position_embeddings=max_position,
        rope_parameters=parameters,
        tie_word_embeddings=tie,
        bos_token_id=BOS_ID,
        eos_token_id=EOS_ID,
        pad_token_id=None,
        dtype=dtype,
        **(options or {}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # The factory is unannotated in transformers.
        build = transformers.AutoModelForCausalLM.from_config
        model = build(config, dtype=torch.float32)  # type: ignore[no-untyped-call]  # transformers' own gap
        _randomise(model, hidden)
    model.to(getattr(torch, dtype)).save_pretrained(path)
    if legacy_rope:
        _write_legacy_rope(path / "config.json", parameters)
    write_tokenizer(path, add_bos=family in ("llama", "mistral"))
    return path


def write_tokenizer(
    path: Path, *, add_bos: bool = True, chat_template: str = CHAT_TEMPLATE
) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json`: one token per byte, then the special ones.

    Ids never change: `BOS_ID`, `EOS_ID`.
    """
    path.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    if add_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, BOS_ID)]
        )
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
        "chat_template": chat_template,
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))


def peft_adapter(
    model_dir: Path,
    out: Path,
    *,
    rank: int = 8,
    alpha: int = 16,
    targets: str | Sequence[str] = "all-linear",
    seed: int = 0,
    strength: float = 0.3,
    dtype: str = "float32",
    options: Options | None = None,
) -> Path:
    """Write a LoRA of random non-zero A and B to `out`, through PEFT's own `save_pretrained`.

    `strength` is about how much the unscaled B·A·x moves an output of size one; `options` are
    further fields of `LoraConfig`. Returns `out`.
    """
    model = peft_model(
        model_dir,
        rank=rank,
        alpha=alpha,
        targets=targets,
        seed=seed,
        strength=strength,
        dtype=dtype,
        options=options,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PEFT warns when it saves embedding layers, which we want
        model.save_pretrained(str(out))
    return out


def peft_model(
    model_dir: Path,
    *,
    rank: int = 8,
    alpha: int = 16,
    targets: str | Sequence[str] = "all-linear",
    seed: int = 0,
    strength: float = 0.3,
    dtype: str = "float32",
    options: Options | None = None,
) -> PeftModel:
    """The model `peft_adapter` saves, in memory (base in float32, LoRA tensors in `dtype`)."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=rank,
        lora_alpha=alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        **(options or {}),
    )
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter(
            "ignore"
        )  # PEFT warns about tied embeddings and corrected fan_in_fan_out
        torch.manual_seed(seed)
        model = get_peft_model(base, config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                _randomise_lora(name, parameter, strength, getattr(torch, dtype))
    return model.eval()


def load_peft(model_dir: Path, *adapters: Path) -> PeftModel:
    """The base in float32 with adapters loaded from disk as "0", "1", ..., as an oracle."""
    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(base, adapters[0], adapter_name="0")
        for index, adapter in enumerate(adapters[1:], start=1):
            model.load_adapter(adapter, adapter_name=str(index))
    return model.eval()


@torch.no_grad()
def _randomise(model: torch.nn.Module, hidden: int) -> None:
    for name, parameter in model.named_parameters():
        if parameter.ndim == 1 and name.endswith("bias"):
            parameter.normal_(0.0, 0.1)
        elif parameter.ndim == 1:
            parameter.normal_(1.0, 0.1)
        else:
            # Activations keep size one, and the logits spread widely enough for a clear arg-max.
            parameter.normal_(
                0.0, 1.0 / math.sqrt(hidden if "embed" in name else parameter.shape[1])
            )


@torch.no_grad()
def _randomise_lora(
    name: str, parameter: torch.nn.Parameter, strength: float, dtype: torch.dtype
) -> None:
    # Linear: A [r, in], B [out, r]. An embedding's A [r, vocab] picks a column: elements of size 1.
    is_a = "lora_A" in name or "lora_embedding_A" in name
    if is_a:
        std = 1.0 if "embedding" in name else 1.0 / math.sqrt(parameter.shape[1])
    else:
        std = strength / math.sqrt(parameter.shape[-1])
    values = torch.randn(parameter.shape).mul_(std)
    if dtype == parameter.dtype:
        parameter.copy_(
            values
        )  # in place: with ensure_weight_tying the head's tensors are views of the embedding's
    else:
        parameter.data = values.to(dtype)


def _write_legacy_rope(file: Path, parameters: Mapping[str, object]) -> None:
    config = json.loads(file.read_text())
    config.pop("rope_parameters", None)
    config["rope_theta"] = parameters["rope_theta"]
    scaling = {k: v for k, v in parameters.items() if k != "rope_theta"}
    config["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    config["torch_dtype"] = config.pop("dtype", "float32")
    file.write_text(json.dumps(config, indent=2))
