"""Owns what each field of PEFT's `adapter_config.json` means for serving: read, without effect on served numbers, or
supported only at a harmless value (with the way out for the others)."""

from dataclasses import dataclass

# Fields `PeftConfig` reads.
READ = frozenset({
    "alpha_pattern", "base_model_name_or_path", "ensure_weight_tying", "exclude_modules",
    "fan_in_fan_out", "init_lora_weights", "layers_pattern", "layers_to_transform", "lora_alpha",
    "peft_type", "r", "rank_pattern", "revision", "target_modules", "task_type", "use_rslora",
})  # fmt: skip

# Training-time or bookkeeping fields; no value of theirs changes what a saved LoRA computes.
WITHOUT_EFFECT = frozenset({
    "eva_config", "inference_mode", "lora_dropout", "lora_ga_config", "peft_version",
    "qalora_group_size",
    # ms-swift
    "lora_dtype", "lorap_emb_lr", "lorap_lr_ratio",
})  # fmt: skip

# Bookkeeping that names Python modules. Never imported; other keys are refused.
AUTO_MAPPING_KEYS = frozenset({"base_model_class", "parent_library", "unsloth_fixed"})
RUNTIME_CONFIG_KEYS = frozenset({"ephemeral_gpu_offload"})


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A field served only at a harmless value: `values`, or anything empty (null, false, 0-length)."""

    name: str
    way_out: str
    values: tuple[object, ...] = ()


_MERGE = "Merge it into the base model and extract a plain LoRA, or train without it."
_TRAIN_WITHOUT = "Train without it."

UNSUPPORTED = {
    "alora_invocation_tokens": Unsupported("Activated LoRA (aLoRA)", _TRAIN_WITHOUT),
    "arrow_config": Unsupported("Arrow routing", "Push the routed adapters one by one."),
    "bias": Unsupported("a trained bias", 'Train with bias="none".', ("none",)),
    "corda_config": Unsupported(
        "CorDA initialisation",
        "Save with path_initial_model_for_weight_conversion to get a plain LoRA.",
    ),
    "kasa_config": Unsupported("KaSA", _TRAIN_WITHOUT),
    "layer_replication": Unsupported("layer replication", _TRAIN_WITHOUT),
    "loftq_config": Unsupported("LoftQ", _MERGE),
    "lora_bias": Unsupported("a bias on lora_B", "Train with lora_bias=False."),
    "megatron_config": Unsupported("Megatron layers", "Export the adapter from PEFT itself."),
    "megatron_core": Unsupported(
        "a Megatron core module", "Export the adapter from PEFT itself.", ("megatron.core",)
    ),
    "modules_to_save": Unsupported(
        "fully trained modules", "Target these modules with LoRA instead (target_modules)."
    ),
    "monteclora_config": Unsupported("Monte Carlo LoRA", _TRAIN_WITHOUT),
    "target_parameters": Unsupported(
        "LoRA on bare parameters", "Target linear modules (target_modules) instead."
    ),
    "trainable_token_indices": Unsupported(
        "trained token rows", "Target embed_tokens with LoRA instead (target_modules)."
    ),
    "use_bdlora": Unsupported("block-diagonal LoRA", _TRAIN_WITHOUT),
    "use_dora": Unsupported("DoRA", _MERGE),
    "use_qalora": Unsupported("QALoRA", _TRAIN_WITHOUT),
    "velora_config": Unsupported("VeLoRA", _TRAIN_WITHOUT),
}

# Initialisations that only choose the first values: a saved checkpoint is plain LoRA.
PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica"})
# Plain LoRA when PEFT reloads it, although training started from a changed base.
DOUBTFUL_INITS = frozenset({"lora_ga"})
# PEFT changes the base weights when it loads these, so the tensors alone are wrong on the plain base.
BASE_CHANGING_INITS = ("pissa", "olora", "corda", "loftq")


def is_empty(value: object) -> bool:
    """Null, false, and empty strings, lists and objects say that a feature is not used; 0 does not."""
    return value is None or value is False or value in ("", [], {})
