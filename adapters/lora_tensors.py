"""Owns the mapping of tensor names onto the base model's modules. Names decide what an adapter targets, and every
tensor must find its place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.safetensors_header import Header, TensorInfo
from loraplex.adapters.strict_json import quote
from loraplex.engine.model_config import Module, ModuleKind

_PREFIX = "base_model.model."
# PEFT writes `lora_A.weight` for linears and `lora_embedding_A` for embeddings; checkpoints of a training in progress
# keep the adapter name `default`, and some tools add `.weight` to both.
_LORA = re.compile(r"(?P<embedding>embedding_)?(?P<side>[AB])(?:\.default)?(?P<weight>\.weight)?")
# Where an embedding has a LoRA, PEFT saves a copy of the embedding itself too.
_BASE_COPY = ".base_layer.weight"
_KNOWN_ENDS = {
    "lora_magnitude_vector": ("use_dora", "belongs to DoRA, which is not supported"),
    "lora_B.bias": ("lora_bias", "is a bias on lora_B, which is not supported"),
    "lora_diag": ("kasa_config", "belongs to KaSA, which is not supported"),
    "trainable_tokens_delta": ("trainable_token_indices", "holds trained token rows"),
    ".bias": ("bias", 'is a trained bias; train with bias="none"'),
}


@dataclass(frozen=True, slots=True)
class LoRAPair:
    """A and B of one module: A is [rank, in_features], B is [out_features, rank]."""

    module: Module
    a: TensorInfo
    b: TensorInfo

    @property
    def rank(self) -> int:
        return self.a.shape[0]


@dataclass(frozen=True, slots=True)
class LoRATensors:
    """The pairs of a file, ascending by module index, and copies of base weights that are not needed."""

    pairs: tuple[LoRAPair, ...]
    base_copies: tuple[TensorInfo, ...]


def match_tensors(header: Header, modules: tuple[Module, ...]) -> LoRATensors:
    """Find the module of every tensor and check shapes and pairs.

    Raises:
        AdapterRejected: a tensor that is no LoRA of this base model, has another shape, or lacks its partner.
    """
    by_name = {module.name: module for module in modules}
    found: dict[Module, dict[str, TensorInfo]] = {}
    copies = []
    for tensor in header.tensors:
        if tensor.name.endswith(_BASE_COPY):
            copies.append(_base_copy(tensor, by_name))
            continue
        module, side = _place(tensor, by_name)
        sides = found.setdefault(module, {})
        if side in sides:
            raise AdapterRejected(
                "weights",
                f"tensors {quote(sides[side].name)} and {quote(tensor.name)} are the same matrix; "
                "keep one.",
            )
        sides[side] = tensor
    pairs = tuple(
        _pair(module, found[module]) for module in sorted(found, key=lambda module: module.index)
    )
    lora_modules = {pair.module.name for pair in pairs}
    for copy in copies:
        if copy.name.removeprefix(_PREFIX).removesuffix(_BASE_COPY) not in lora_modules:
            raise AdapterRejected(
                "weights", f"tensor {quote(copy.name)} replaces a base weight; save LoRA only."
            )
    if not pairs:
        raise AdapterRejected("weights", "the weights file holds no LoRA tensors.")
    return LoRATensors(pairs, tuple(copies))


def _place(tensor: TensorInfo, by_name: Mapping[str, Module]) -> tuple[Module, str]:
    name = tensor.name
    for end, (config_field, meaning) in _KNOWN_ENDS.items():
        if name.endswith(end) or f".{end}." in name:
            raise AdapterRejected(config_field, f"tensor {quote(name)} {meaning}.")
    module_name, _, end = name.removeprefix(_PREFIX).rpartition(".lora_")
    match = _LORA.fullmatch(end)
    if not name.startswith(_PREFIX) or not module_name or match is None:
        inner = name.removeprefix(_PREFIX).removesuffix(".weight")
        if inner in by_name:
            raise AdapterRejected(
                "modules_to_save",
                f"tensor {quote(name)} is a whole base weight, not a LoRA. If it was not trained, save "
                "with save_embedding_layers=False; if it was, target the module with LoRA instead.",
            )
        raise AdapterRejected(
            "weights",
            f"tensor {quote(name)} is not a LoRA tensor as PEFT names them "
            "(base_model.model.<module>.lora_A.weight).",
        )
    module = by_name.get(module_name)
    if module is None:
        raise AdapterRejected(
            "weights",
            f"tensor {quote(name)} targets {quote(module_name)}, which this base model does not "
            "have or cannot adapt; push it to the base model it was trained on.",
        )
    if (module.kind is ModuleKind.EMBEDDING) != bool(match["embedding"]):
        raise AdapterRejected(
            "weights",
            f"tensor {quote(name)} does not fit {module.name}, which is not that kind of module.",
        )
    if module.kind is ModuleKind.LINEAR and not match["weight"]:
        raise AdapterRejected("weights", f"tensor name {quote(name)} must end in .weight.")
    return module, match["side"]


def _pair(module: Module, sides: Mapping[str, TensorInfo]) -> LoRAPair:
    for side, other in (("A", "B"), ("B", "A")):
        if side not in sides:
            raise AdapterRejected(
                "weights",
                f"module {module.name} has lora_{other} but no lora_{side}; save the adapter again.",
            )
    a, b = sides["A"], sides["B"]
    for tensor, expected in ((a, (None, module.in_features)), (b, (module.out_features, None))):
        fits = len(tensor.shape) == 2 and all(
            want is None or want == have for want, have in zip(expected, tensor.shape, strict=True)
        )
        if not fits:
            shape = ", ".join("rank" if n is None else str(n) for n in expected)
            raise AdapterRejected(
                "weights",
                f"tensor {quote(tensor.name)} has shape {list(tensor.shape)}, and this base model "
                f"needs [{shape}]; push it to the base model it was trained on.",
            )
    if a.shape[0] != b.shape[1]:
        raise AdapterRejected(
            "weights",
            f"lora_A and lora_B of module {module.name} have different ranks, {a.shape[0]} and "
            f"{b.shape[1]}.",
        )
    return LoRAPair(module, a, b)


def _base_copy(tensor: TensorInfo, by_name: Mapping[str, Module]) -> TensorInfo:
    module = by_name.get(tensor.name.removeprefix(_PREFIX).removesuffix(_BASE_COPY))
    if module is None:
        raise AdapterRejected(
            "weights", f"tensor {quote(tensor.name)} belongs to no module of this base model."
        )
    # Stored as [vocabulary, hidden] for the embedding and the head alike.
    shape = (module.in_features, module.out_features)
    if module.kind is ModuleKind.LINEAR:
        shape = shape[::-1]
    if tensor.shape != shape:
        raise AdapterRejected(
            "weights",
            f"tensor {quote(tensor.name)} has shape {list(tensor.shape)} and the base model's is "
            f"{list(shape)}; adapters that resize the vocabulary are not supported.",
        )
    return tensor
