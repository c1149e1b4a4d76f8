"""Owns how device memory is divided between KV blocks and adapters."""

from typing import NamedTuple

import torch

from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.lora import page_elements
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.step_memory import step_bytes

# On a CPU both pools are virtual memory until used, so these are ceilings rather than costs.
_CPU_KV_BYTES = 2 * 1024**3
_CPU_ADAPTER_BYTES = 1024**3


class MemoryPlan(NamedTuple):
    """Sizes of the two pools; `page_size` is in elements."""

    num_blocks: int
    num_pages: int
    page_size: int


def plan_memory(
    config: EngineConfig, model: ModelConfig, dtype: torch.dtype, device: torch.device
) -> MemoryPlan:
    """Divide what is left beside the loaded model.

    Raises:
        InvalidConfigError: not even one block and one page fit.
    """
    per_token = 2 * model.num_layers * model.num_kv_heads * model.head_dim * dtype.itemsize
    longest_row = max(max(m.in_features, m.out_features) for m in model.modules())
    page_size = page_elements(dtype, longest_row)
    kv_bytes, adapter_bytes = _CPU_KV_BYTES, _CPU_ADAPTER_BYTES
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        rest = int(free - (1 - config.gpu_memory_utilization) * total)
        rest -= step_bytes(config, model, dtype)
        adapter_bytes = int(rest * config.adapter_memory_fraction)
        if config.kv_cache_tokens is not None:
            adapter_bytes = rest - config.kv_cache_tokens * per_token
        if config.adapter_memory is not None:
            adapter_bytes = config.adapter_memory
        kv_bytes = rest - adapter_bytes
    elif config.adapter_memory is not None:
        adapter_bytes = config.adapter_memory
    num_blocks = kv_bytes // (per_token * BLOCK_SIZE)
    if config.kv_cache_tokens is not None:
        num_blocks = -(-config.kv_cache_tokens // BLOCK_SIZE)
    page_bytes = page_size * dtype.itemsize
    if config.adapter_memory is not None and config.adapter_memory < page_bytes:
        raise InvalidConfigError(
            f"adapter_memory of {config.adapter_memory} bytes holds no adapter; give at least {page_bytes}."
        )
    num_pages = adapter_bytes // page_bytes
    if num_blocks < 1 or num_pages < 1:
        raise InvalidConfigError(
            "No memory is left for the KV cache and adapters beside the model; raise gpu_memory_utilization, lower "
            "max_num_batched_tokens, or use a GPU with more memory."
        )
    return MemoryPlan(num_blocks, num_pages, page_size)
