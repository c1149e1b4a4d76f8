"""The whole engine on its Triton path: under the interpreter on a CPU, so that CI runs what a GPU runs."""

from pathlib import Path

import pytest
import torch

from loraplex import LLM, SamplingParams
from loraplex.kernels import dispatch
from support.checkpoints import peft_adapter, tiny_model
from support.oracle import Oracle


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="every other engine test takes this path on a GPU"
)
def test_mixed_batch_through_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_dir = tiny_model(
        tmp_path / "model", "qwen3", layers=1, hidden=32, intermediate=48, vocab_size=260
    )
    adapters = [
        peft_adapter(model_dir, tmp_path / "a", rank=3, targets="all-linear", seed=1),
        peft_adapter(
            model_dir,
            tmp_path / "b",
            rank=17,
            targets=["q_proj", "embed_tokens", "lm_head"],
            seed=2,
        ),
    ]
    oracle = Oracle(model_dir, adapters)
    monkeypatch.setattr(dispatch, "use_triton", lambda _: True)
    llm = LLM(model=model_dir, device="cpu", max_num_batched_tokens=8, max_num_seqs=8)
    for index, path in enumerate(adapters):
        llm.add_adapter(str(index), path)
    prompts = [[5, 9, 200, 31], [7, 8, 250, 4, 1, 99, 100, 101, 77, 6], [40, 41], [42, 43, 44]]
    choices = [0, 1, None, 1]
    params = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True, logprobs=0)
    names = [None if c is None else str(c) for c in choices]
    for completion, prompt, choice in zip(
        llm.generate(prompts, params, adapters=names), prompts, choices, strict=True
    ):
        expected = oracle.greedy(prompt, choice, 3)
        assert completion.token_ids == expected.token_ids
        assert completion.logprobs is not None
        for got, want in zip(completion.logprobs, expected.logprobs, strict=True):
            assert got.logprob == pytest.approx(want, abs=1e-4)
