"""Adapters that are copied to the device while steps run answer as if they had always been there."""

import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import transformers

from loraplex.adapters.layout import plan
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult, LoRAWeights
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pages import page_elements
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from support.small_arena import bytes_of

pytestmark = pytest.mark.gpu

RANK = 64
ADAPTERS = 12
# A sequence needs a fifth of a page. At 36 pages four adapters and their sequences have room.
ADAPTER_PAGES, ROOMY, TIGHT = 8, 400, 36
PARAMS = SamplingParams(temperature=0, max_tokens=24, ignore_eos=True)
FILLED = 20  # handle of an adapter all of whose elements are `VALUE`
VALUE = 0.0625


class Source:
    """Random adapters in pinned memory, which is filled with NaN when the engine says it has no more use of it."""

    def __init__(self, model: ModelConfig) -> None:
        modules = model.modules()
        self._page = page_elements(torch.float32, modules)
        self._ranks = {m.index: RANK for m in modules if m.index < model.embedding_module}
        self._layout = plan(self._ranks, modules, self._page)
        self._wanted: list[int] = []
        self.out: dict[int, list[LoRAWeights]] = {}

    def request(self, handle: int) -> None:
        self._wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        wanted, self._wanted = self._wanted, []
        return [LoadResult(handle, self._make(handle), None) for handle in wanted]

    def release(self, handle: int) -> None:
        self.out[handle].pop(0).buffer.fill_(float("nan"))

    def wait(self, timeout: float) -> None:
        pass

    def _make(self, handle: int) -> LoRAWeights:
        buffer = torch.empty(self._layout.elements, pin_memory=True)
        if handle == FILLED:
            buffer.fill_(VALUE)
        else:
            generator = torch.Generator().manual_seed(handle)
            buffer.normal_(0, 0.1, generator=generator)
        weights = self._layout.weights(buffer)
        self.out.setdefault(handle, []).append(weights)
        return weights


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("copies")
    transformers.LlamaConfig(
        hidden_size=1024,
        intermediate_size=2048,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
        vocab_size=4096,
        max_position_embeddings=2048,
        dtype="float32",
        architectures=["LlamaForCausalLM"],
    ).save_pretrained(path)
    return path


def engine_of(model_dir: Path, pages: int) -> tuple[Engine, Source]:
    source = Source(ModelConfig.from_directory(model_dir))
    config = EngineConfig(
        model=model_dir,
        device="cuda",
        dtype="float32",
        load_format="dummy",
        max_num_seqs=32,
        max_num_batched_tokens=512,
        max_model_len=256,
        arena_bytes=bytes_of(pages, model_dir),
        enable_prefix_cache=False,
    )
    return Engine(config, source), source


def requests(count: int) -> list[Request]:
    return [
        Request(str(n), tuple((n * 31 + i * 7) % 4096 for i in range(3 + n % 14)), PARAMS, n % 12)
        for n in range(count)
    ]


def run(engine: Engine, arriving: Iterator[Request], per_step: int) -> dict[str, list[int]]:
    tokens: dict[str, list[int]] = {}
    more = True
    while more or engine.has_work():
        for _ in range(per_step):
            request = next(arriving, None)
            more = request is not None
            if request is not None:
                engine.add(request)
        for output in engine.step():
            assert output.error is None, output.error
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    engine.check_integrity()
    return tokens


@pytest.fixture(scope="module")
def expected(model_dir: Path) -> dict[str, list[int]]:
    """With every adapter on the device before."""
    engine, _ = engine_of(model_dir, ROOMY)
    for handle in range(ADAPTERS):
        engine.add(Request(f"load{handle}", (1, 2), SamplingParams(max_tokens=1), handle))
    while engine.has_work():
        engine.step()
    loads = engine.stats().adapter_loads
    answers = run(engine, iter(requests(72)), 72)
    assert engine.stats().adapter_loads == loads == ADAPTERS
    assert len({tuple(tokens) for tokens in answers.values()}) > 60
    return answers


def test_adapters_that_arrive_while_steps_run(
    model_dir: Path, expected: dict[str, list[int]]
) -> None:
    engine, source = engine_of(model_dir, ROOMY)
    for number in range(4):  # something that always runs
        params = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
        engine.add(Request(f"base{number}", (5, 6, number), params))
    answers = run(engine, iter(requests(72)), 2)
    assert {name: answers[name] for name in expected} == expected
    assert engine.stats().adapter_loads == ADAPTERS
    assert not any(source.out.values()), "a host copy was not given back"


@pytest.mark.parametrize("per_step", [1, 72])
def test_eviction_and_reload_under_a_running_batch(
    model_dir: Path, expected: dict[str, list[int]], per_step: int
) -> None:
    engine, source = engine_of(model_dir, TIGHT)
    assert run(engine, iter(requests(72)), per_step) == expected
    assert engine.stats().adapter_evictions >= ADAPTERS - 4
    assert not any(source.out.values())


def test_bringing_an_adapter_never_waits_for_the_device(model_dir: Path) -> None:
    """Nor does overwriting what an adapter has left."""
    engine, _ = engine_of(model_dir, TIGHT)
    pool, arena = engine._runner.adapters, engine._runner.arena
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls the mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        for handle in range(6):  # the last ones evict the first
            pool.prefetch(handle)
            torch.cuda.set_sync_debug_mode("default")
            pool.poll()
            torch.cuda.set_sync_debug_mode("error")
            pool.keep_waiting({handle})
            while not pool.is_ready(handle):
                pool.poll()
        pool.unload(5)
        arena.pages.contents.pending += range(0, 100, 2)  # more than are filled one by one
        arena.overwrite()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pool.evictions == 2


def test_unload_in_every_phase_leaves_no_byte(model_dir: Path) -> None:
    engine, source = engine_of(model_dir, TIGHT)
    arena = engine._runner.arena.memory
    arena.zero_()
    for steps in range(6):
        engine.add(Request("user", (1, 2, 3), PARAMS, FILLED))
        for _ in range(steps):
            engine.step()
        engine.unload(FILLED)
        while engine.has_work():
            engine.step()
        torch.cuda.synchronize()
        assert not arena.any(), f"after {steps} steps"
        engine.check_integrity()
        assert engine.stats().pages_free == engine.stats().pages_total
        assert not any(source.out.values())
    purged = engine.purged()
    assert {report.pages for report in purged} == {0, ADAPTER_PAGES}
    assert any(report.host for report in purged)
    assert purged[-1].blocks == 1
