"""Log-probabilities of prompts equal those of transformers + PEFT, however the prompt is computed; and answers to one
prompt share its blocks."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from loraplex import LLM, Completion, SamplingParams
from loraplex.engine import prompt_scores
from loraplex.engine.block_manager import BLOCK_SIZE
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.request import FinishReason, InvalidRequestError, Output, Request
from support.checkpoints import peft_adapter, tiny_model
from support.delayed_source import DelayedSource
from support.oracle import MIXED_ADAPTERS, Oracle
from support.small_arena import bytes_of, small_pages

pytestmark = pytest.mark.usefixtures("ahead")

# One on every linear, one with the embedding, one with the head.
ADAPTERS = [MIXED_ADAPTERS[0], MIXED_ADAPTERS[6], MIXED_ADAPTERS[7]]
VOCAB = 258
OUTPUT = 6


class Setup:
    """One base model, its adapters, its oracle."""

    def __init__(self, path: Path) -> None:
        self.model_dir = tiny_model(path / "model")
        self.adapter_dirs = [
            peft_adapter(self.model_dir, path / f"adapter{i}", seed=i, **options)
            for i, options in enumerate(ADAPTERS)
        ]
        self.oracle = Oracle(self.model_dir, self.adapter_dirs)

    def llm(self, **settings: Any) -> LLM:
        small = {"max_num_seqs": 16, "arena_bytes": 128 * 2**20}
        llm = LLM(model=self.model_dir, dtype="float32", **{**small, **settings})
        for i, path in enumerate(self.adapter_dirs):
            llm.add_adapter(str(i), path)
        return llm

    def check(self, completion: Completion, adapter: int | None, most: int = 0) -> None:
        """Prompt and answer, against one pass of the oracle over both."""
        prompt = completion.prompt_token_ids
        expected = self.oracle.logprobs([*prompt, *completion.token_ids], adapter)
        assert completion.prompt_logprobs is not None
        assert completion.logprobs is not None
        assert completion.prompt_logprobs[0] is None
        got = [*completion.prompt_logprobs[1:], *completion.logprobs]
        assert len(completion.prompt_logprobs) == len(prompt)
        assert len(got) == len(prompt) + len(completion.token_ids) - 1
        wanted = [*prompt[1:], *completion.token_ids]
        for row, entry, token in zip(expected, got, wanted, strict=False):
            assert entry is not None
            assert entry.token_id == token
            assert entry.logprob == pytest.approx(float(row[token]), abs=1e-4)
            top = torch.tensor([logprob for _, logprob in entry.top])
            torch.testing.assert_close(top, row.topk(most).values, atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("prompts"))


def prompts_of(count: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(VOCAB) for _ in range(rng.randint(1, 60))] for _ in range(count)]


def asking(max_tokens: int = OUTPUT, most: int = 0) -> SamplingParams:
    return SamplingParams(
        temperature=0, max_tokens=max_tokens, ignore_eos=True, logprobs=most, prompt_logprobs=most
    )


@pytest.mark.parametrize("budget", [8192, 16], ids=["whole prompts", "chunks"])
def test_prompts_of_several_adapters_in_one_batch(
    setup: Setup, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompt_scores, "SLICE_ROWS", 7)
    choices = [0, 1, 2, None, 1, None, 0, 2, 2]
    prompts = prompts_of(len(choices), seed=1)
    prompts[2] = prompts[2][:1]  # nothing to tell of it
    names = [None if choice is None else str(choice) for choice in choices]
    llm = setup.llm(max_num_batched_tokens=budget)
    for completion, choice in zip(
        llm.generate(prompts, asking(most=3), adapters=names), choices, strict=True
    ):
        setup.check(completion, choice, most=3)


def test_preempted_prompts_are_not_told_twice(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch)
    prompts = [prompt[:24] for prompt in prompts_of(8, seed=2)]
    pages = sum(-(-len(prompt) // BLOCK_SIZE) for prompt in prompts)
    llm = setup.llm(arena_bytes=bytes_of(pages + 4, setup.model_dir), max_num_batched_tokens=20)
    names = ["0", None] * 4
    completions = llm.generate(prompts, asking(40), adapters=names)
    assert llm.stats().preemptions > 0
    for completion, name in zip(completions, names, strict=True):
        setup.check(completion, None if name is None else int(name))


def test_a_cached_prefix_is_computed_again_for_those_who_ask(setup: Setup) -> None:
    llm = setup.llm()
    prompt = prompts_of(1, seed=4)[0] * 3
    plain = SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True, logprobs=0)
    first = llm.generate([prompt], plain, adapters=["1"])[0]
    cached = llm.stats().cached_tokens
    second = llm.generate([prompt], asking(), adapters=["1"])[0]
    assert llm.stats().cached_tokens == cached
    setup.check(second, 1)
    # And the answer does not depend on it; nor on whether the cache is used.
    third = llm.generate([prompt], plain, adapters=["1"])[0]
    assert llm.stats().cached_tokens > cached
    assert first.token_ids == second.token_ids == third.token_ids
    assert third.prompt_logprobs is None
    assert third.logprobs is not None
    assert second.logprobs is not None
    for left, right in zip(second.logprobs, third.logprobs, strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=1e-4)


def test_no_answer_at_all_is_scoring(setup: Setup) -> None:
    llm = setup.llm(max_model_len=64, max_num_batched_tokens=16)
    prompt = [token % VOCAB for token in range(64)]  # all the room there is
    for completion in llm.generate([prompt, prompt[:1]], asking(0), adapters=["2", None]):
        assert (completion.text, completion.token_ids, completion.logprobs) == ("", [], [])
        assert completion.finish_reason == "length"
        setup.check(completion, 2 if len(completion.prompt_token_ids) > 1 else None)
    assert llm.stats().output_tokens == 0
    with pytest.raises(InvalidRequestError) as error:
        llm.generate([[*prompt, 1]], asking(0))
    assert (error.value.code, error.value.param) == ("context_length_exceeded", "prompt")


def engine_of(setup: Setup, **settings: int) -> Engine:
    memory = bytes_of(400, setup.model_dir)
    config = EngineConfig(model=setup.model_dir, device="cpu", arena_bytes=memory, **settings)  # type: ignore[arg-type]  # options by name
    return Engine(config, DelayedSource())


@pytest.mark.parametrize("budget", [8192, 50], ids=["one step", "chunks"])
def test_answers_to_one_prompt_compute_it_once_and_share_its_blocks(
    setup: Setup, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pages(monkeypatch)
    engine = engine_of(setup, max_num_batched_tokens=budget, max_num_seqs=8)
    blocks, n, tokens = 5, 4, 3
    prompt = tuple(range(blocks * BLOCK_SIZE + 4))
    free = engine.stats().kv_blocks_free
    params = SamplingParams(temperature=0, max_tokens=tokens, ignore_eos=True)
    for choice in range(n):
        engine.add(Request(str(choice), prompt, params))
    engine.add(Request("other", prompt[1:], params))
    ends: dict[str, Output] = {}
    used = 0
    while engine.has_work():
        for output in engine.step():
            if output.finish_reason is not None:
                ends[output.request_id] = output
        used = max(used, free - engine.stats().kv_blocks_free)
        engine.check_integrity()
    # The prompt's full blocks once, one block of its own for each answer, and those of the request beside them.
    assert used == blocks + n + blocks + 1
    assert [ends[str(choice)].cached_tokens for choice in range(n)] == [
        0,
        *[blocks * BLOCK_SIZE] * (n - 1),
    ]
    assert ends["other"].cached_tokens == 0
    assert engine.stats().kv_blocks_free == free


def test_what_joins_a_step_reads_what_the_step_itself_writes(setup: Setup) -> None:
    """The same step computes a prompt for one request, and attends to it for others."""
    llm = setup.llm()
    prompt = prompts_of(1, seed=9)[0] * 2
    tail = [[5], [6, 7], [8] * 20]
    choices: list[int | None] = [1, 1, 1, None, None, 0]
    prompts = [prompt + end for end in (*tail, *tail)]
    plain = SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True, logprobs=0)
    names = [None if choice is None else str(choice) for choice in choices]
    completions = llm.generate(prompts, plain, adapters=names)
    assert llm.stats().cached_tokens == 3 * (len(prompt) // BLOCK_SIZE) * BLOCK_SIZE
    for completion, choice in zip(completions, choices, strict=True):
        want = setup.oracle.greedy(completion.prompt_token_ids, choice, OUTPUT)
        assert completion.token_ids == want.token_ids


def test_aborting_in_the_middle_of_a_scored_prompt(setup: Setup) -> None:
    engine = engine_of(setup, max_num_batched_tokens=16, max_num_seqs=8)
    prompt = tuple(range(100))
    engine.add(Request("a", prompt, asking()))
    engine.add(Request("b", prompt, asking()))
    engine.step()
    engine.step()
    used = engine.stats().kv_blocks_free
    engine.abort("a")
    assert engine.stats().kv_blocks_free > used  # at once, before the next step
    outputs: list[Output] = []
    while engine.has_work():
        outputs += engine.step()
        engine.check_integrity()
    assert {output.request_id for output in outputs} == {"b"}
    told = [output.prompt_logprobs for output in outputs if output.prompt_logprobs is not None]
    assert [len(scores) for scores in told] == [len(prompt) - 1]
    assert outputs[0].prompt_logprobs is told[0]
    assert outputs[-1].finish_reason is FinishReason.LENGTH
