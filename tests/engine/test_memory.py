"""The arena takes what there is and leaves what steps need."""

import gc
from pathlib import Path

import pytest
import torch
import transformers

from loraplex.engine import step_memory
from loraplex.engine.adapter_slots import table_bytes
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult
from loraplex.engine.memory import plan_memory
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pages import BLOCK_SIZE, block_elements, page_elements
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.step_memory import step_bytes
from loraplex.kernels.attention.plan import decode_split, most_parts
from loraplex.kernels.lora.tuning import MOST_DECODE_TOKENS, PREFILL_SHRINK, decode_constants
from support.checkpoints import tiny_model

GIB = 1024**3


def shape_of_8b(path: Path, layers: int) -> Path:
    transformers.LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=32768,
        dtype="bfloat16",
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(path)
    return path


def block_bytes(model: ModelConfig, dtype: torch.dtype) -> int:
    per_token = 2 * model.num_layers * model.num_kv_heads * model.head_dim
    return BLOCK_SIZE * per_token * dtype.itemsize


def test_the_arena_takes_what_is_free_and_holds_whole_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (64 * GIB, 80 * GIB))
    path = tiny_model(tmp_path)
    model = ModelConfig.from_directory(path)
    config = EngineConfig(model=path)
    plan = plan_memory(config, model, torch.bfloat16, torch.device("cuda"))
    page_bytes = plan.page_size * 2
    budget = 64 * GIB - 0.1 * 80 * GIB
    assert 0.95 * budget < plan.num_pages * page_bytes <= budget
    assert page_bytes == plan.blocks_per_page * block_bytes(model, torch.bfloat16)
    assert 2**21 <= page_bytes < 2**21 + block_bytes(model, torch.bfloat16)


def test_a_page_of_an_8b_model_is_one_block_and_the_tables_stay_small(tmp_path: Path) -> None:
    model = ModelConfig.from_directory(shape_of_8b(tmp_path, 32))
    modules = model.modules()
    assert block_elements(modules) == page_elements(torch.bfloat16, modules) == 2**20
    pages = 110 * 10**9 // 2**21
    assert 100e6 < table_bytes(modules, 2**20, pages) < 150e6


def test_a_page_holds_the_longest_row(tmp_path: Path) -> None:
    """One row of the head is longer than 2 MiB in a model whose blocks are small."""
    path = tiny_model(tmp_path, vocab_size=2**19 + 1, hidden=16, intermediate=16, heads=2)
    modules = ModelConfig.from_directory(path).modules()
    page, block = page_elements(torch.float32, modules), block_elements(modules)
    assert page % block == 0
    assert 2**19 + 1 <= page < 2**19 + 1 + block


def test_less_than_one_page_is_refused_by_name(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    config = EngineConfig(model=path, arena_bytes=1000)
    with pytest.raises(InvalidConfigError, match="arena_bytes"):
        plan_memory(config, ModelConfig.from_directory(path), torch.float32, torch.device("cpu"))


@pytest.mark.parametrize(
    ("sequences", "tokens", "least", "most"), [(256, 8192, 2.5, 3.1), (32, 2048, 1.3, 1.7)]
)
def test_steps_of_a_large_model_are_given_little_more_than_they_need(
    sequences: int, tokens: int, least: float, most: float, tmp_path: Path
) -> None:
    """The bounds come from adding up by hand, and 0.5 GB for what is no tensor."""
    path = shape_of_8b(tmp_path, 32)
    config = EngineConfig(model=path, max_num_seqs=sequences, max_num_batched_tokens=tokens)
    needed = step_bytes(config, ModelConfig.from_directory(path), torch.bfloat16)
    assert least * 1e9 < needed < most * 1e9


def test_the_estimate_knows_how_kernels_split_their_sums() -> None:
    assert PREFILL_SHRINK.splits <= step_memory.SPLITS
    assert MOST_DECODE_TOKENS <= step_memory.FEW_TOKENS
    for tokens in range(1, MOST_DECODE_TOKENS + 1):
        assert decode_constants(tokens).shrink.splits <= step_memory.SPLITS_OF_FEW
    for sequences in (1, 2, 63, 64, 65, 256, 511, 512, 513, 2000):
        parts = [n * decode_split(n, kv_heads=8).most for n in range(1, sequences + 1)]
        assert max(parts) <= most_parts(sequences) <= 1.02 * max(parts)


class NoAdapters:
    """An `AdapterSource` nobody asks."""

    def request(self, handle: int) -> None:
        raise AssertionError(handle)

    def collect(self) -> list[LoadResult]:
        return []

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        pass


@pytest.mark.gpu
def test_what_steps_take_stays_below_the_estimate(tmp_path: Path) -> None:
    """The largest prompts, penalties, cuts and log-probabilities in every row."""
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved()
    config = EngineConfig(
        model=shape_of_8b(tmp_path, 2),
        device="cuda",
        load_format="dummy",
        max_num_seqs=64,
        arena_bytes=2**29 + 2**28,
    )
    engine = Engine(config, NoAdapters())
    torch.cuda.empty_cache()  # of what making random weights took
    torch.cuda.reset_peak_memory_stats()
    params = SamplingParams(
        temperature=1.5,
        top_p=0.99,
        repetition_penalty=1.1,
        logprobs=5,
        max_tokens=6,
        ignore_eos=True,
    )
    for number in range(64):
        prompt = tuple((number * 500 + i) % 128000 for i in range(256))
        engine.add(Request(str(number), prompt, params))
    engine.add(Request("long", tuple(i % 128000 for i in range(24000)), params))
    while engine.has_work():
        engine.step()
    torch.cuda.synchronize()
    taken = torch.cuda.max_memory_reserved() - before - _kept_bytes(engine)
    assert taken <= step_bytes(config, engine.model, torch.bfloat16)


def _kept_bytes(engine: Engine) -> int:
    runner, tables = engine._runner, engine._runner.adapters.tables
    kept = (tables.arena, tables.a_rows, tables.b_rows, tables.index)
    return runner._decoder._weights.num_bytes() + sum(t.numel() * t.element_size() for t in kept)
