"""Owns the oracle: greedy continuations of transformers + PEFT, one adapter at a time, in float32."""

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from support.checkpoints import load_peft

# Eight adapters: ranks, scales and targets all different, embedding and head among them.
MIXED_ADAPTERS: list[dict[str, Any]] = [
    {"rank": 1, "alpha": 2, "targets": "all-linear"},
    {"rank": 8, "alpha": 16, "targets": ["q_proj", "v_proj"]},
    {"rank": 16, "alpha": 8, "targets": ["gate_proj", "up_proj", "down_proj"]},
    {"rank": 32, "alpha": 32, "targets": ["o_proj", "down_proj"]},
    {"rank": 5, "alpha": 7, "targets": "all-linear", "options": {"use_rslora": True}},
    {
        "rank": 4,
        "alpha": 8,
        "targets": "all-linear",
        "options": {"rank_pattern": {"q_proj": 12}, "alpha_pattern": {"up_proj": 3}},
    },
    {"rank": 6, "alpha": 6, "targets": ["embed_tokens", "q_proj"]},
    {"rank": 3, "alpha": 9, "targets": ["lm_head", "k_proj", "o_proj"]},
]


def adapter_options(*, tied: bool) -> list[dict[str, Any]]:
    """`MIXED_ADAPTERS` for a model whose head may share its embedding; PEFT attaches to neither of such two."""
    shared = {"lm_head", "embed_tokens"} if tied else set()
    return [
        {**o, "targets": "all-linear"} if shared & set(o["targets"]) else o for o in MIXED_ADAPTERS
    ]


@dataclass(frozen=True, slots=True)
class Expected:
    """A greedy continuation and the log-probability of each of its tokens."""

    token_ids: list[int]
    logprobs: list[float]


class Oracle:
    """transformers + PEFT on one base model and some adapters. Remembers what it answered: the same questions are put
    to many settings of the engine."""

    def __init__(self, model_dir: Path, adapters: list[Path]) -> None:
        self._model: PeftModel = load_peft(model_dir, *adapters)
        self._known: dict[tuple[tuple[int, ...], int | None, int], Expected] = {}

    def greedy(self, prompt_ids: list[int], adapter: int | None, num_tokens: int) -> Expected:
        """Continue a prompt with one adapter (its index), or with the base model."""
        question = (tuple(prompt_ids), adapter, num_tokens)
        if question not in self._known:
            self._known[question] = self._ask(prompt_ids, adapter, num_tokens)
        return self._known[question]

    @torch.no_grad()
    def logprobs(self, token_ids: list[int], adapter: int | None) -> torch.Tensor:
        """[tokens, vocabulary], the log-probabilities of what follows each token, in one pass over all of them."""
        if adapter is not None:
            self._model.set_adapter(str(adapter))
        with self._model.disable_adapter() if adapter is None else nullcontext():
            logits: torch.Tensor = self._model(input_ids=torch.tensor([token_ids])).logits[0]
        return logits.float().log_softmax(-1)

    @torch.no_grad()
    def _ask(self, prompt_ids: list[int], adapter: int | None, num_tokens: int) -> Expected:
        if adapter is not None:
            self._model.set_adapter(str(adapter))
        with self._model.disable_adapter() if adapter is None else nullcontext():
            out = self._model.generate(  # type: ignore[no-untyped-call]  # transformers' own gap
                input_ids=torch.tensor([prompt_ids]),
                attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.int64),
                max_new_tokens=num_tokens,
                min_new_tokens=num_tokens,
                eos_token_id=-1,
                pad_token_id=0,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        tokens = out.sequences[0, len(prompt_ids) :].tolist()
        logprobs = [
            float(logits[0].float().log_softmax(-1)[token])
            for logits, token in zip(out.logits, tokens, strict=True)
        ]
        return Expected(tokens, logprobs)
