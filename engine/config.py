"""Owns the engine's settings. Imports no torch, so that the service can check them before it starts a process."""

from dataclasses import dataclass
from pathlib import Path

DTYPES = ("auto", "bfloat16", "float16", "float32")
DEVICES = ("auto", "cpu", "cuda")
LOAD_FORMATS = ("auto", "dummy")
# Largest rank of an adapter. Admission refuses more, and memory is planned for it.
MAX_RANK = 512


class InvalidConfigError(ValueError):
    """A setting is out of range; the message says which and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """How to run one base model.

    Attributes:
        model: a local Hugging Face directory.
        device: "auto" takes a CUDA GPU if there is one.
        dtype: "auto" takes the checkpoint's own on a GPU and float32 on a CPU.
        max_model_len: longest prompt plus output in tokens; None takes the model's own limit.
        max_num_seqs: most sequences in one step.
        max_num_batched_tokens: most tokens in one step, prompts included.
        gpu_memory_utilization: share of the GPU's memory to use in all.
        arena_bytes: memory on the device for KV and adapters together; None takes what is left beside the model, and
            3 GiB of virtual memory on a CPU.
        load_format: "dummy" fills the model with random weights and reads `config.json` only.
        cuda_graphs: on a GPU, capture decode steps at the start and replay them.
        enable_prefix_cache: share KV blocks between requests of one adapter with equal prefixes.
        user_grammars: take structures of the kind "grammar".
    """

    model: Path
    device: str = "auto"
    dtype: str = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    gpu_memory_utilization: float = 0.9
    arena_bytes: int | None = None
    load_format: str = "auto"
    cuda_graphs: bool = True
    enable_prefix_cache: bool = True
    user_grammars: bool = True

    def __post_init__(self) -> None:
        _one_of("device", self.device, DEVICES)
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("load_format", self.load_format, LOAD_FORMATS)
        for name in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "arena_bytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InvalidConfigError(f"{name} must be at least 1, not {value}.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise InvalidConfigError("gpu_memory_utilization must be above 0 and at most 1.")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise InvalidConfigError(
                "max_num_batched_tokens must be at least max_num_seqs, so that every sequence can take a step."
            )


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
