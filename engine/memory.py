"""Owns how large the arena is, and how it is divided into pages and blocks."""

from typing import NamedTuple

import torch

from loraplex.engine.adapter_slots import table_bytes
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pages import block_elements, page_elements
from loraplex.engine.step_memory import step_bytes

# On a CPU the arena is virtual memory until used, so this is a ceiling rather than a cost.
_CPU_BYTES = 3 * 1024**3


class MemoryPlan(NamedTuple):
    """The arena; `page_size` is in elements."""

    num_pages: int
    page_size: int
    blocks_per_page: int


def plan_memory(
    config: EngineConfig, model: ModelConfig, dtype: torch.dtype, device: torch.device
) -> MemoryPlan:
    """Give the arena what is left beside the loaded model, or what the settings say.

    Raises:
        InvalidConfigError: not even one page fits.
    """
    modules = model.modules()
    page_size = page_elements(dtype, modules)
    page_bytes = page_size * dtype.itemsize
    arena_bytes = config.arena_bytes
    if arena_bytes is None:
        arena_bytes = _CPU_BYTES
        if device.type == "cuda":
            free, total = torch.cuda.mem_get_info(device)
            arena_bytes = int(free - (1 - config.gpu_memory_utilization) * total)
            arena_bytes -= step_bytes(config, model, dtype)
            arena_bytes -= table_bytes(modules, page_size, max(0, arena_bytes // page_bytes))
    elif arena_bytes < page_bytes:
        raise InvalidConfigError(
            f"arena_bytes of {arena_bytes} bytes holds no KV cache and no adapter; give at least {page_bytes}, and "
            f"better a hundred times that."
        )
    if arena_bytes < page_bytes:
        raise InvalidConfigError(
            "No memory is left for the KV cache and adapters beside the model; raise gpu_memory_utilization, lower "
            "max_num_batched_tokens, or use a GPU with more memory."
        )
    return MemoryPlan(arena_bytes // page_bytes, page_size, page_size // block_elements(modules))
