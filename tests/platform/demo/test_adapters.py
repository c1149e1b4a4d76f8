"""Live training: in seconds an adapter learns its task, and what PEFT saved answers held-out words right."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from loraplex.platform.demo.adapters import MAX_STEPS, RECIPES, train_adapter
from loraplex.platform.demo.model_dir import demo_model_dir
from loraplex.platform.demo.tasks import held_out_words
from support.demo_answers import greedy_answers


@pytest.mark.parametrize("name", ["spell", "cipher"])
def test_an_adapter_learns_its_task(name: str, tmp_path: Path) -> None:
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    told: list[tuple[int, float]] = []
    trained = train_adapter(
        demo_model_dir(), recipe, tmp_path, lambda step, right: told.append((step, right))
    )
    assert told[-1] == (trained.steps, trained.accuracy)
    assert trained.steps < MAX_STEPS
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["use_rslora"]) == (recipe.rank, recipe.rslora)

    base = AutoModelForCausalLM.from_pretrained(demo_model_dir(), dtype=torch.float32)
    words = held_out_words(30)
    answers = greedy_answers(PeftModel.from_pretrained(base, tmp_path), words)
    wanted = [recipe.task.answer(word) for word in words]
    assert sum(map(str.__eq__, answers, wanted)) >= 27
