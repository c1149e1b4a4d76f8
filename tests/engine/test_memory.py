"""The two pools never take more than there is, whichever of them is given by hand."""

from pathlib import Path

import pytest
import torch

from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.memory import plan_memory
from loraplex.engine.model_config import ModelConfig
from support.checkpoints import tiny_model

GIB = 1024**3


@pytest.mark.parametrize(
    "given", [{}, {"adapter_memory": 40 * GIB}, {"adapter_memory": GIB}, {"kv_cache_tokens": 4096}]
)
def test_pools_fit_into_what_is_free(
    given: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (64 * GIB, 80 * GIB))
    path = tiny_model(tmp_path)
    model = ModelConfig.from_directory(path)
    config = EngineConfig(model=path, **given)  # type: ignore[arg-type]  # options by name
    plan = plan_memory(config, model, torch.bfloat16, torch.device("cuda"))
    kv = (
        plan.num_blocks
        * BLOCK_SIZE
        * 2
        * model.num_layers
        * model.num_kv_heads
        * model.head_dim
        * 2
    )
    adapters = plan.num_pages * plan.page_size * 2
    budget = 64 * GIB - 0.1 * 80 * GIB
    assert 0.8 * budget < kv + adapters <= budget


def test_adapter_memory_below_one_page_is_refused_by_name(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    config = EngineConfig(model=path, adapter_memory=1000)
    with pytest.raises(InvalidConfigError, match="adapter_memory"):
        plan_memory(config, ModelConfig.from_directory(path), torch.float32, torch.device("cpu"))
