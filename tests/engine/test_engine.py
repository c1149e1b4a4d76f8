"""What a caller of the engine relies on: ends, stops, refusals, aborts, and that one bad adapter harms nobody else."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loraplex import LLM, SamplingParams
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.offline import GenerationError
from loraplex.engine.adapter_report import Purged
from loraplex.engine.config import EngineConfig, InvalidConfigError
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.engine.request import FinishReason, InvalidRequestError, Output, Request
from support.checkpoints import EOS_ID, VOCAB_SIZE, peft_adapter, tiny_model
from support.delayed_source import DelayedSource
from support.rank_one import rank_one
from support.small_arena import bytes_of, small_pages

pytestmark = pytest.mark.usefixtures("ahead")

GREEDY = SamplingParams(temperature=0, max_tokens=20, ignore_eos=True)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("engine") / "model")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    small_pages(monkeypatch)


def make_engine(
    model_dir: Path, source: DelayedSource | None = None, *, pages: int = 400, **settings: int
) -> Engine:
    memory = bytes_of(pages, model_dir)
    config = EngineConfig(model=model_dir, device="cpu", arena_bytes=memory, **settings)  # type: ignore[arg-type]  # options by name
    return Engine(config, source or DelayedSource())


def drain(engine: Engine) -> dict[str, list[Output]]:
    outputs: dict[str, list[Output]] = {}
    for _ in range(1000):
        if not engine.has_work():
            engine.check_integrity()
            return outputs
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    raise AssertionError("the engine did not come to an end")


def test_stop_string_cuts_the_text_and_counts_the_tokens(model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu")
    free = llm.generate("hello", GREEDY)[0]
    stop = free.text[3:5]
    stopped = llm.generate(
        "hello", SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, stop=(stop,))
    )[0]
    assert stopped.text == free.text[: free.text.find(stop)]
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: len(stopped.token_ids)]


def test_stop_token_and_end_of_sequence_token(model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu")
    free = llm.generate("hello", GREEDY)[0]
    third = free.token_ids[2]
    first_at = free.token_ids.index(third)
    stopped = llm.generate(
        "hello",
        SamplingParams(temperature=0, max_tokens=20, ignore_eos=True, stop_token_ids=(third,)),
    )[0]
    assert stopped.token_ids == free.token_ids[: first_at + 1]
    assert stopped.finish_reason == "stop"
    forced = SamplingParams(temperature=0, max_tokens=5, logit_bias={EOS_ID: 100.0})
    ended = llm.generate("hello", forced)[0]
    assert ended.token_ids == [EOS_ID]
    assert ended.text == ""


def test_min_tokens_holds_off_the_end(model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu")
    forced = SamplingParams(temperature=0, max_tokens=9, min_tokens=4, logit_bias={EOS_ID: 100.0})
    assert len(llm.generate("hello", forced)[0].token_ids) == 5


def test_context_length_ends_a_sequence(model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu", max_model_len=32)
    endless = SamplingParams(temperature=0, max_tokens=None, ignore_eos=True)
    completion = llm.generate([list(range(20))], endless)[0]
    assert len(completion.token_ids) == 12
    assert completion.finish_reason == "length"


@pytest.mark.parametrize(
    ("prompt", "params", "code"),
    [
        ((), SamplingParams(), None),
        ((VOCAB_SIZE,), SamplingParams(), None),
        ((-1,), SamplingParams(), None),
        (tuple(range(30)), SamplingParams(max_tokens=10), "context_length_exceeded"),
        ((1,), SamplingParams(logit_bias={VOCAB_SIZE: 1.0}), None),
        ((1,), SamplingParams(stop_token_ids=(VOCAB_SIZE,)), None),
    ],
    ids=["empty", "id too large", "negative id", "too long", "bias id", "stop id"],
)
def test_impossible_request_is_refused_at_once(
    model_dir: Path, prompt: tuple[int, ...], params: SamplingParams, code: str | None
) -> None:
    engine = make_engine(model_dir, max_model_len=32)
    with pytest.raises(InvalidRequestError) as error:
        engine.add(Request("r", prompt, params))
    assert error.value.code == code
    assert not engine.has_work()


def test_abort_frees_everything_at_once(model_dir: Path) -> None:
    engine = make_engine(model_dir)
    free = engine.stats().kv_blocks_free
    for number in range(3):
        engine.add(Request(str(number), tuple(range(40)), GREEDY))
    engine.step()
    assert engine.stats().kv_blocks_free < free
    for number in range(4):  # the fourth is unknown, which is no error
        engine.abort(str(number))
    assert not engine.has_work()
    assert engine.stats().kv_blocks_free == free
    engine.check_integrity()


def test_failed_load_fails_its_requests_alone(model_dir: Path) -> None:
    engine = make_engine(model_dir)
    engine.add(Request("bad", (1, 2), GREEDY, adapter=5))
    engine.add(Request("good", (1, 2), GREEDY))
    outputs = drain(engine)
    assert [o.finish_reason for o in outputs["bad"]] == [FinishReason.ERROR]
    assert outputs["bad"][0].error == "The adapter vanished."
    assert outputs["good"][-1].finish_reason is FinishReason.LENGTH


def test_nan_adapter_fails_alone(tmp_path: Path, model_dir: Path) -> None:
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource({0: rank_one(float("nan"), model), 1: rank_one(0.01, model)})
    alone = make_engine(model_dir, source)
    alone.add(Request("good", (3, 4), GREEDY, adapter=1))
    expected = [o.token_ids for o in drain(alone)["good"]]
    engine = make_engine(model_dir, source)
    engine.add(Request("bad", (1, 2), GREEDY, adapter=0))
    engine.add(Request("good", (3, 4), GREEDY, adapter=1))
    engine.add(Request("base", (1, 2), GREEDY))
    outputs = drain(engine)
    assert outputs["bad"][0].finish_reason is FinishReason.ERROR
    assert [o.token_ids for o in outputs["good"]] == expected
    assert outputs["base"][-1].finish_reason is FinishReason.LENGTH
    # The blocks the NaN was written to are used again without harm.
    engine.add(Request("later", (1, 2), GREEDY))
    assert drain(engine)["later"][-1].finish_reason is FinishReason.LENGTH


def test_requests_overtake_one_whose_adapter_is_loading(model_dir: Path) -> None:
    model = ModelConfig.from_directory(model_dir)
    engine = make_engine(model_dir, DelayedSource({0: rank_one(0.01, model)}, delay=3))
    engine.add(Request("waits", (1, 2), GREEDY, adapter=0))
    engine.add(Request("goes", (1, 2), GREEDY))
    first = engine.step() or engine.step()
    assert [o.request_id for o in first] == ["goes"]
    outputs = drain(engine)
    assert outputs["waits"][-1].finish_reason is FinishReason.LENGTH


def test_adapter_larger_than_the_arena_is_refused_clearly(model_dir: Path) -> None:
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource({0: rank_one(0.01, model, pages=3)})
    engine = make_engine(model_dir, source, pages=2)
    engine.add(Request("big", (1, 2), GREEDY, adapter=0))
    error = drain(engine)["big"][0].error
    assert error is not None
    assert "larger than all memory for adapters" in error


@pytest.mark.usefixtures("small")
def test_cold_adapter_is_not_starved_by_busy_ones(model_dir: Path) -> None:
    """Room for one adapter and two sequences, a stream of requests for one adapter that never pauses, one request for
    another."""
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource({0: rank_one(0.01, model), 1: rank_one(0.02, model)})
    engine = make_engine(model_dir, source, pages=3)
    short = SamplingParams(temperature=0, max_tokens=3, ignore_eos=True)
    engine.add(Request("hot", (1, 2), short, adapter=0))
    engine.step()
    engine.add(Request("cold", (1, 2), short, adapter=1))
    for number in range(200):
        engine.add(Request(f"hot{number}", (1, 2), short, adapter=0))
        if any(output.request_id == "cold" for output in engine.step()):
            break
    else:
        pytest.fail("the cold adapter was passed over for 200 steps")


@pytest.mark.usefixtures("small")
def test_large_adapter_that_waits_evicts_nobody_in_vain(model_dir: Path) -> None:
    """Three pages: an adapter in use, its KV, an idle adapter. A two-page adapter must not throw the idle one out."""
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource(
        {
            0: rank_one(0.01, model),
            1: rank_one(0.02, model),
            2: rank_one(0.03, model, pages=2),
        }
    )
    engine = make_engine(model_dir, source, pages=3)
    short = SamplingParams(temperature=0, max_tokens=2, ignore_eos=True)
    engine.add(Request("idle", (1, 2), short, adapter=1))
    drain(engine)
    engine.add(Request("long", (1, 2), GREEDY, adapter=0))
    engine.step()
    engine.add(Request("large", (1, 2), short, adapter=2))
    for _ in range(5):
        engine.step()
    assert engine.stats().adapters_resident == 2
    assert engine.stats().adapter_evictions == 0
    outputs = drain(engine)
    assert outputs["large"][-1].finish_reason is FinishReason.LENGTH


@pytest.mark.usefixtures("small")
def test_waiting_requests_do_not_pile_adapters_up_on_the_host(model_dir: Path) -> None:
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource({handle: rank_one(0.01, model) for handle in range(40)})
    engine = make_engine(model_dir, source, pages=4)
    for handle in range(40):
        params = SamplingParams(max_tokens=1, ignore_eos=True)
        engine.add(Request(str(handle), (1, 2), params, adapter=handle))
    assert len(source.asked) <= 16
    outputs = drain(engine)
    assert len(outputs) == 40
    assert all(o[-1].finish_reason is FinishReason.LENGTH for o in outputs.values())


@pytest.mark.usefixtures("small")
def test_prompts_are_counted_once_whatever_is_preempted(model_dir: Path) -> None:
    engine = make_engine(model_dir, pages=10, max_model_len=128, max_num_batched_tokens=300)
    for number in range(4):
        prompt = tuple(range(10 * number, 10 * number + 30))
        engine.add(
            Request(
                str(number), prompt, SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
            )
        )
    drain(engine)
    assert engine.stats().preemptions > 0
    assert engine.stats().prompt_tokens == 120


def test_more_logprobs_than_tokens_and_a_huge_top_k_are_no_trouble(tmp_path: Path) -> None:
    path = tiny_model(tmp_path, vocab_size=16)
    engine = make_engine(path)
    engine.add(Request("r", (1,), SamplingParams(max_tokens=2, logprobs=20, top_k=10**400)))
    assert drain(engine)["r"][-1].finish_reason is not None


def test_context_beyond_the_model_is_refused(model_dir: Path) -> None:
    with pytest.raises(InvalidConfigError, match="at most 512"):
        make_engine(model_dir, max_model_len=513)


@pytest.mark.usefixtures("small")
def test_evicted_then_unloaded_adapter_leaves_no_byte(model_dir: Path) -> None:
    model = ModelConfig.from_directory(model_dir)
    source = DelayedSource({0: rank_one(0.5, model), 1: rank_one(0.25, model)})
    engine = make_engine(model_dir, source, pages=3)
    for handle in (0, 1):
        engine.add(Request(str(handle), (1, 2), SamplingParams(max_tokens=1), adapter=handle))
    drain(engine)
    pool = engine._runner.adapters
    pool._places.give_up(1, sparing=False)
    assert not pool.is_ready(0)
    assert bool((pool.tables.arena == 0.5).any())
    engine.unload(0)
    drain(engine)
    assert not bool((pool.tables.arena == 0.5).any())
    assert bool((pool.tables.arena == 0.25).any())
    assert not any(bool((view == 0.5).any()) for view in pool.tables._views.values())


@pytest.mark.usefixtures("small")
def test_unload_ends_users_and_wipes_the_memory(model_dir: Path) -> None:
    """Weights, blocks of the running sequence, blocks of one that has ended, cached or not."""
    model = ModelConfig.from_directory(model_dir)
    engine = make_engine(model_dir, DelayedSource({0: rank_one(0.5, model)}), pages=12)
    engine._runner.arena.memory.zero_()
    engine.add(Request("ended", tuple(range(50, 80)), SamplingParams(max_tokens=1), adapter=0))
    drain(engine)
    engine.add(Request("user", tuple(range(40)), GREEDY, adapter=0))
    for _ in range(3):
        engine.step()
    arena = engine._runner.adapters.tables.arena
    page = engine._runner.arena.page_size
    assert int((arena.view(-1, page) == 0.5).all(dim=1).sum()) == 1
    assert int(arena.view(-1, page).any(dim=1).sum()) == 5
    engine.unload(0)
    outputs = drain(engine)
    assert outputs["user"][0].finish_reason is FinishReason.ERROR
    assert not arena.any()
    assert engine.purged() == [Purged(0, pages=1, blocks=4, host=False)]
    assert engine.purged() == []
    assert engine.stats().adapters_resident == 0
    # A later request loads it again, and finds nothing in the prefix cache.
    engine.add(Request("again", tuple(range(40)), GREEDY, adapter=0))
    assert drain(engine)["again"][-1].cached_tokens == 0


def test_offline_errors_are_clear(tmp_path: Path, model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu")
    with pytest.raises(KeyError):
        llm.generate("x", GREEDY, adapters=["unknown"])
    with pytest.raises(ValueError, match="one of each per prompt"):
        llm.generate(["x", "y"], GREEDY, adapters=[None])
    adapter = peft_adapter(model_dir, tmp_path / "adapter", targets=["q_proj", "v_proj"], rank=2)
    file = adapter / "adapter_model.safetensors"
    llm.add_adapter("gone", adapter)
    tensors = load_file(file)
    file.unlink()
    with pytest.raises(GenerationError):
        llm.generate("x", GREEDY, adapters=["gone"])
    save_file({name: t * float("nan") for name, t in tensors.items()}, file)
    with pytest.raises(AdapterRejected, match="NaN"):
        llm.add_adapter("nan", adapter)
    assert llm.generate("x", GREEDY)[0].finish_reason == "length"


def test_replaced_adapter_answers_with_its_new_weights(tmp_path: Path, model_dir: Path) -> None:
    llm = LLM(model=model_dir, device="cpu")
    answers = []
    for seed in (1, 2):
        path = peft_adapter(model_dir, tmp_path / str(seed), seed=seed, strength=2.0)
        llm.add_adapter("a", path)
        answers.append(llm.generate([list(range(40))], GREEDY, adapters=["a"])[0].token_ids)
    fresh = LLM(model=model_dir, device="cpu")
    fresh.add_adapter("a", tmp_path / "2")
    assert answers[0] != answers[1]
    assert answers[1] == fresh.generate([list(range(40))], GREEDY, adapters=["a"])[0].token_ids


def test_bad_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="cannot be read"):
        ModelConfig.from_directory(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    with pytest.raises(UnsupportedModelError, match="mamba"):
        ModelConfig.from_directory(tmp_path)


def test_checkpoint_lacking_a_tensor_is_refused(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    tensors = load_file(path / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, path / "model.safetensors")
    with pytest.raises(UnsupportedModelError, match="up_proj"):
        make_engine(path)


@pytest.mark.parametrize(
    "settings",
    [{"max_num_seqs": 0}, {"max_num_batched_tokens": 4, "max_num_seqs": 8}, {"device": "tpu"}],
)
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidConfigError):
        EngineConfig(model=Path("x"), **settings)  # type: ignore[arg-type]  # wrong ones too


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_cuda_without_a_gpu_is_refused(model_dir: Path) -> None:
    with pytest.raises(InvalidConfigError, match="no CUDA GPU"):
        Engine(EngineConfig(model=model_dir, device="cuda"), DelayedSource())
