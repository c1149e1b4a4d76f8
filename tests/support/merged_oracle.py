"""Owns greedy answers of many small adapters, by an independent way: transformers with each adapter merged into the
weights, in float32."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from support.adapter_files import PREFIX

# Below this distance between the two best tokens rounding may decide.
_CLEAR = 1e-3


class MergedOracle:
    """One base model; adapters are tensors by PEFT's names."""

    def __init__(self, model_dir: Path) -> None:
        self._model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            model_dir, dtype=torch.float32
        )

    @torch.no_grad()
    def greedy(
        self,
        prompts: Sequence[Sequence[int]],
        tensors: Mapping[str, np.ndarray[Any, Any]],
        scale: float,
        num_tokens: int,
    ) -> list[list[int] | None]:
        """Continue prompts of equal length; None where rounding might decide a token.

        Args:
            tensors: A [rank, in] and B [out, rank] of linear modules.
            scale: alpha over rank.
        """
        kept: dict[str, torch.Tensor] = {}
        for name in tensors:
            module = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
            if not name.endswith(".lora_A.weight"):
                continue
            weight = self._model.get_submodule(module).weight
            kept[module] = weight.clone()
            a = torch.from_numpy(tensors[name])
            b = torch.from_numpy(tensors[name.replace("lora_A", "lora_B")])
            weight.add_(b.double().mul(scale).matmul(a.double()).float())
        ids, margins = torch.tensor(prompts), []
        try:
            for _ in range(num_tokens):
                best = self._model(input_ids=ids).logits[:, -1].topk(2, dim=-1)
                margins.append(best.values[:, 0] - best.values[:, 1])
                ids = torch.cat([ids, best.indices[:, :1]], dim=1)
        finally:
            for module, weight in kept.items():
                self._model.get_submodule(module).weight.copy_(weight)
        clear = torch.stack(margins).amin(0) > _CLEAR
        answers = ids[:, len(prompts[0]) :].tolist()
        return [
            answer if sure else None for answer, sure in zip(answers, clear.tolist(), strict=True)
        ]
