"""Warming up runs every kind of step there is and leaves nothing behind."""

from pathlib import Path

import pytest
import torch

from loraplex.engine import model_runner
from loraplex.engine.batch import Batch
from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.lora import LoadResult
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import ModelRunner
from loraplex.engine.models.decoder import Decoder
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.warm_up import STEP_TOKENS, warm_up
from loraplex.kernels import dispatch
from loraplex.kernels.language import triton
from support.checkpoints import tiny_model
from support.rank_one import rank_one


class NoAdapters:
    """An `AdapterSource` nobody may ask."""

    def request(self, handle: int) -> None:
        raise AssertionError(handle)

    def collect(self) -> list[LoadResult]:
        return []

    def release(self, handle: int) -> None:
        pass

    def wait(self, timeout: float) -> None:
        raise AssertionError(timeout)


class RankOnes(NoAdapters):
    """Makes adapters of rank one for the engine it belongs to."""

    def __init__(self) -> None:
        self.engine: Engine | None = None
        self._wanted: list[int] = []

    def request(self, handle: int) -> None:
        self._wanted.append(handle)

    def collect(self) -> list[LoadResult]:
        assert self.engine is not None
        wanted, self._wanted = self._wanted, []
        return [LoadResult(handle, rank_one(0.5, self.engine.model), None) for handle in wanted]

    def wait(self, timeout: float) -> None:
        pass


def runner_of(path: Path) -> ModelRunner:
    config = EngineConfig(model=path, device="cpu", arena_bytes=2**23, max_num_seqs=4)
    return ModelRunner(config, ModelConfig.from_directory(path), NoAdapters())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[Batch]:
    """The steps that decoders run from now on."""
    seen: list[Batch] = []
    forward = Decoder.forward

    def spy(self: Decoder, batch: Batch, kv_cache: torch.Tensor) -> torch.Tensor:
        seen.append(batch)
        return forward(self, batch, kv_cache)

    monkeypatch.setattr(Decoder, "forward", spy)
    return seen


@pytest.mark.parametrize(
    ("max_tokens", "max_model_len"), [(8192, 512), (300, 64), (40, 24), (1, 1)]
)
def test_steps_of_every_kind_within_the_limits(
    max_tokens: int, max_model_len: int, tmp_path: Path, steps: list[Batch]
) -> None:
    runner = runner_of(tiny_model(tmp_path))
    warm_up(
        runner._decoder,
        runner._sampler,
        runner._kv_cache,
        max_tokens=max_tokens,
        max_model_len=max_model_len,
    )
    kinds = set()
    for step in steps:
        total, queries = len(step.input_ids), step.attention.query_lens
        assert total == sum(queries) <= max_tokens
        assert max(queries) <= max_model_len
        assert int(step.positions.max()) == max(queries) - 1
        assert (step.kv_slots == -1).all()
        if step.segments is not None:
            assert step.sampled_segments is not None
            slots = torch.cat((step.segments.token_slots, step.sampled_segments.token_slots))
            assert (slots == -1).all()
            assert len(slots) == total + len(queries)
        kinds.add((total, step.segments is not None))
        if total >= 128 and max_model_len >= 104:
            assert min(queries) == 1
            assert any(1 < count < 64 for count in queries)
            assert max(queries) >= 64
    sizes = {min(tokens, max_tokens) for tokens in STEP_TOKENS}
    assert kinds == {(tokens, lora) for tokens in sizes for lora in (False, True)}


# The interpreter takes seconds per step, so it gets a small one. Where there is a GPU, kernels do not run on a CPU.
@pytest.mark.parametrize(
    ("on_triton", "step_tokens"),
    [
        (False, STEP_TOKENS),
        pytest.param(
            True, (10,), marks=pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
        ),
    ],
)
def test_nothing_is_left_behind(
    on_triton: bool, step_tokens: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_model(
        tmp_path, "qwen3", layers=1, hidden=32, intermediate=48, heads=2, kv_heads=1, vocab_size=260
    )
    runner = runner_of(path)
    cache, tables = runner._kv_cache, runner.adapters.tables
    cache.copy_(torch.randn(cache.shape))
    kept = [cache, tables.arena, tables.a_rows, tables.b_rows, tables.index, runner._last_ids]
    before = [tensor.clone() for tensor in kept]
    monkeypatch.setattr(dispatch, "use_triton", lambda _: on_triton)
    warm_up(
        runner._decoder,
        runner._sampler,
        cache,
        max_tokens=1024,
        max_model_len=512,
        step_tokens=step_tokens,
    )
    for tensor, old in zip(kept, before, strict=True):
        assert torch.equal(tensor.view(torch.uint8), old.view(torch.uint8))
    assert runner.adapters.resident == 0


@pytest.mark.gpu
def test_no_request_waits_for_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = RankOnes()
    config = EngineConfig(
        model=tiny_model(tmp_path),
        device="cuda",
        dtype="float32",
        max_num_seqs=8,
        max_num_batched_tokens=300,
        arena_bytes=2**26,
        enable_prefix_cache=False,
    )
    source.engine = engine = Engine(config, source)
    compiled: list[object] = []
    monkeypatch.setattr(
        triton.knobs.runtime, "jit_cache_hook", lambda **asked: compiled.append(asked["fn"].name)
    )
    for number, length in enumerate((1, 2, 3, 17, 40, 64, 90, 200)):
        params = SamplingParams(
            temperature=number % 2,
            top_p=1 - 0.1 * (number % 3),
            max_tokens=4 + number,
            ignore_eos=True,
        )
        prompt = tuple(range(3, 3 + length))
        engine.add(Request(str(number), prompt, params, None if number % 3 else 0))
    while engine.has_work():
        engine.step()
    assert compiled == []


def test_a_cpu_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(model_runner, "warm_up")
    runner_of(tiny_model(tmp_path))
