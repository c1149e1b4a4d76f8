"""Arenas so small that sequences and adapters of the smallest models compete for them."""

from pathlib import Path

import pytest
import torch

from loraplex.engine import pages
from loraplex.engine.model_config import ModelConfig


def small_pages(patch: pytest.MonkeyPatch) -> None:
    """Make every page as small as the model allows; for packing and engines made while the patch lasts."""
    patch.setattr(pages, "PAGE_BYTES", 1)


def bytes_of(num_pages: int, model_dir: Path, dtype: torch.dtype = torch.float32) -> int:
    """`EngineConfig.arena_bytes` for so many pages."""
    modules = ModelConfig.from_directory(model_dir).modules()
    return num_pages * pages.page_elements(dtype, modules) * dtype.itemsize
