"""The engine's answers equal those of transformers + PEFT, one adapter at a time, whatever shares the batch."""

import random
from pathlib import Path
from typing import Any

import pytest

from loraplex import LLM, Completion, SamplingParams
from loraplex.platform.demo.model_dir import demo_model_dir
from support.checkpoints import peft_adapter, tiny_model
from support.oracle import MIXED_ADAPTERS, Expected, Oracle, adapter_options
from support.small_arena import bytes_of, small_pages

pytestmark = pytest.mark.usefixtures("ahead")

OUTPUT = 12
# Every model here knows the token ids below.
SMALLEST_VOCAB = 258
MODELS: dict[str, dict[str, Any]] = {
    "llama": {"family": "llama"},
    "llama tied, llama3 rope": {"family": "llama", "tie": True, "rope": "llama3"},
    "llama attention and mlp bias, linear rope, head_dim 24": {
        "family": "llama",
        "rope": "linear",
        "head_dim": 24,
        "options": {"attention_bias": True, "mlp_bias": True},
    },
    "mistral, window 20": {"family": "mistral", "options": {"sliding_window": 20}},
    "qwen2, yarn": {"family": "qwen2", "rope": "yarn"},
    "qwen2, window in the upper layer": {
        "family": "qwen2",
        "options": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    },
    "qwen3 tied, 1 kv head": {"family": "qwen3", "tie": True, "kv_heads": 1, "head_dim": 32},
}


class Setup:
    """One base model, its adapters, its oracle."""

    def __init__(self, model_dir: Path, path: Path, *, tied: bool = False) -> None:
        self.model_dir = model_dir
        self.adapter_dirs = [
            peft_adapter(model_dir, path / f"adapter{i}", seed=i, **options)
            for i, options in enumerate(adapter_options(tied=tied))
        ]
        self.oracle = Oracle(self.model_dir, self.adapter_dirs)

    def llm(self, **settings: Any) -> LLM:
        # On a GPU the same tests exercise the Triton kernels and the captured graphs.
        # Small pools, as a GPU has to hold several of these engines at a time.
        small = {"max_num_seqs": 32, "arena_bytes": 128 * 2**20}
        llm = LLM(model=self.model_dir, dtype="float32", **{**small, **settings})
        for i, path in enumerate(self.adapter_dirs):
            llm.add_adapter(str(i), path)
        return llm


@pytest.fixture(scope="module", params=[*MODELS, "the demo model"], ids=lambda name: name)
def setup(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    path = tmp_path_factory.mktemp("oracle")
    if request.param not in MODELS:
        return Setup(demo_model_dir(), path, tied=True)
    options = MODELS[request.param]
    return Setup(tiny_model(path / "model", **options), path, tied=bool(options.get("tie")))


def prompts_of(count: int, seed: int, longest: int = 60) -> list[list[int]]:
    rng = random.Random(seed)
    return [
        [rng.randrange(SMALLEST_VOCAB) for _ in range(rng.randint(3, longest))]
        for _ in range(count)
    ]


def params() -> SamplingParams:
    return SamplingParams(temperature=0, max_tokens=OUTPUT, ignore_eos=True, logprobs=0)


def check(completion: Completion, expected: Expected) -> None:
    assert completion.token_ids == expected.token_ids
    assert completion.logprobs is not None
    for got, want in zip(completion.logprobs, expected.logprobs, strict=True):
        assert got.logprob == pytest.approx(want, abs=1e-4)


def test_mixed_batch_equals_one_adapter_at_a_time(setup: Setup) -> None:
    choices = [None, *range(len(setup.adapter_dirs)), None, 1, 1]
    random.Random(3).shuffle(choices)
    prompts = prompts_of(len(choices), seed=1)
    names = [None if c is None else str(c) for c in choices]
    completions = setup.llm().generate(prompts, params(), adapters=names)
    answers = []
    for prompt, choice, completion in zip(prompts, choices, completions, strict=True):
        check(completion, setup.oracle.greedy(prompt, choice, OUTPUT))
        answers.append(tuple(completion.token_ids))
    # Otherwise the comparison would prove little.
    assert len(set(answers)) > len(choices) // 2


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    path = tmp_path_factory.mktemp("llama")
    return Setup(tiny_model(path / "model"), path)


@pytest.mark.parametrize(
    "settings",
    [
        {"max_num_batched_tokens": 16, "max_num_seqs": 16},
        {"pages": 58, "max_model_len": 128},
        {"max_num_seqs": 1},
        {"pages": 44, "max_model_len": 128},
        {"enable_prefix_cache": False},
        {"cuda_graphs": False},
    ],
    ids=[
        "chunked prefill",
        "little memory",
        "one at a time",
        "very little memory",
        "no prefix cache",
        "no graphs",
    ],
)
def test_how_the_engine_schedules_changes_nothing(
    llama: Setup, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if num_pages := settings.get("pages"):
        small_pages(monkeypatch)
        memory = {"arena_bytes": bytes_of(num_pages, llama.model_dir)}
        settings = {name: value for name, value in settings.items() if name != "pages"} | memory
    choices = [*range(len(MIXED_ADAPTERS)), None, 2, 0, None]
    prompts = prompts_of(len(choices), seed=2)
    names = [None if c is None else str(c) for c in choices]
    llm = llama.llm(**settings)
    completions = llm.generate(prompts, params(), adapters=names)
    for prompt, choice, completion in zip(prompts, choices, completions, strict=True):
        check(completion, llama.oracle.greedy(prompt, choice, OUTPUT))
    stats = llm.stats()
    # The adapters take 35 pages, the longest sequences 5 each.
    if num_pages:
        assert stats.adapter_evictions > 0


def test_preempted_sequences_answer_like_others(
    llama: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompts take 29 pages and the adapter one; the longest answers take 7 more."""
    small_pages(monkeypatch)
    llm = llama.llm(arena_bytes=bytes_of(33, llama.model_dir))
    llm.generate([[1]], params(), adapters=["0"])
    prompts = prompts_of(12, seed=2)
    choices = [0, None] * 6
    names = [None if c is None else str(c) for c in choices]
    completions = llm.generate(prompts, params(), adapters=names)
    for prompt, choice, completion in zip(prompts, choices, completions, strict=True):
        check(completion, llama.oracle.greedy(prompt, choice, OUTPUT))
    assert llm.stats().preemptions > 0


def test_prefix_cache_hits_change_nothing_and_never_cross_adapters(llama: Setup) -> None:
    llm = llama.llm()
    prompt = prompts_of(1, seed=4)[0] * 3
    for choice in (None, 0, 1, 0, None, 1):
        name = None if choice is None else str(choice)
        check(
            llm.generate([prompt], params(), adapters=[name])[0],
            llama.oracle.greedy(prompt, choice, OUTPUT),
        )
    stats = llm.stats()
    assert 0 < stats.cached_tokens <= 3 * len(prompt)


def test_seeded_sampling_does_not_depend_on_neighbours(llama: Setup) -> None:
    llm = llama.llm()
    prompts = prompts_of(6, seed=5)
    seeded = SamplingParams(temperature=1.0, top_p=0.9, seed=11, max_tokens=OUTPUT)
    alone = llm.generate([prompts[0]], seeded, adapters=["3"])[0]
    crowd = llm.generate(prompts, seeded, adapters=["3", "0", None, "5", "6", "7"])
    assert crowd[0].token_ids == alone.token_ids
