"""Vectors of prompts equal the hidden states of transformers + PEFT, whatever shares the batch and however a prompt is
cut."""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from loraplex import LLM, SamplingParams
from loraplex.engine.batch import Batch
from loraplex.engine.engine import Engine
from loraplex.engine.models.decoder import Hidden
from loraplex.engine.pooling import Method, Pooling
from loraplex.engine.request import FinishReason, Output, Request
from loraplex.engine.sampling_params import InvalidParamsError
from support.checkpoints import load_peft, peft_adapter, tiny_model
from support.oracle import MIXED_ADAPTERS

ADAPTERS = len(MIXED_ADAPTERS)
TOLERANCE = 1e-4


class Setup:
    """One base model, its adapters, and what transformers + PEFT say of them."""

    def __init__(self, path: Path) -> None:
        self.model_dir = tiny_model(path / "model", family="llama")
        self.adapters = [
            peft_adapter(self.model_dir, path / f"adapter{i}", seed=i, **options)
            for i, options in enumerate(MIXED_ADAPTERS)
        ]
        self._peft = load_peft(self.model_dir, *self.adapters)

    def llm(self, **settings: int) -> LLM:
        small = {"arena_bytes": 2**26, "max_num_seqs": 16}
        llm = LLM(self.model_dir, dtype="float32", **(small | settings))  # type: ignore[arg-type]  # all are numbers
        for i, path in enumerate(self.adapters):
            llm.add_adapter(str(i), path)
        return llm

    @torch.no_grad()
    def expected(self, prompt: list[int], adapter: str | None, method: Method) -> np.ndarray:
        if adapter is not None:
            self._peft.set_adapter(adapter)
        with self._peft.disable_adapter() if adapter is None else nullcontext():
            out = self._peft(torch.tensor([prompt]), output_hidden_states=True)
        states = out.hidden_states[-1][0]  # behind the last norm
        vector: np.ndarray = (states.mean(0) if method == "mean" else states[-1]).numpy()
        return vector


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    return Setup(tmp_path_factory.mktemp("pooling"))


def prompts_of(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(250) for _ in range(length)] for length in lengths]


@pytest.mark.usefixtures("ahead")
@pytest.mark.parametrize("tokens", [8192, 17], ids=["at once", "in chunks"])
def test_vectors_equal_the_oracle_beside_generations(setup: Setup, tokens: int) -> None:
    engine = setup.llm(max_num_batched_tokens=tokens)._engine
    # 1 token; one more than a chunk, and than a block; two chunks to the token.
    prompts = prompts_of([1, 18, 17, 34, 5, 60, 40, 33, 16, 2])
    methods: list[Method] = ["last", "mean"]
    wanted: dict[str, tuple[list[int], str | None, Method]] = {}
    for i, prompt in enumerate(prompts):
        for method in methods:
            adapter = None if i >= ADAPTERS else i
            params = SamplingParams(max_tokens=0, pooling=Pooling(method))
            engine.add(Request(f"{method} {i}", tuple(prompt), params, adapter))
            wanted[f"{method} {i}"] = prompt, None if adapter is None else str(adapter), method
        text = SamplingParams(max_tokens=5, temperature=0, ignore_eos=True)
        engine.add(Request(f"text {i}", tuple(prompt), text, adapter))
    outputs = run(engine)
    for name, (prompt, own, method) in wanted.items():
        (output,) = outputs[name]
        assert output.finish_reason is FinishReason.STOP
        assert (output.token_ids, output.text, output.output_tokens) == ((), "", 0)
        assert output.prompt_tokens == len(prompt)
        assert output.timings is not None
        got = vector_of(output)
        np.testing.assert_allclose(got, setup.expected(prompt, own, method), atol=TOLERANCE)
    assert all(sum(len(o.token_ids) for o in outputs[f"text {i}"]) == 5 for i in range(10))
    assert engine.stats().output_tokens == 50
    engine.check_integrity()


def test_embed_gives_unit_vectors_of_texts_and_token_ids(setup: Setup) -> None:
    llm = setup.llm()
    prompts = prompts_of([12, 30])
    unit = llm.embed(prompts, adapters=["3", None], pooling="mean")
    plain = llm.embed(prompts, adapters=["3", None], pooling="mean", normalize=False)
    for one, other in zip(unit, plain, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(one), 1, rtol=1e-5)
        np.testing.assert_allclose(one * np.linalg.norm(other), other, rtol=1e-4, atol=1e-6)


def test_a_mean_reads_every_token_and_a_last_token_takes_what_is_cached(setup: Setup) -> None:
    engine = setup.llm()._engine
    (prompt,) = prompts_of([50])
    cached = {}
    methods: list[Method] = ["last", "mean"]
    for name in methods:
        for again in range(2):
            params = SamplingParams(max_tokens=0, pooling=Pooling(name))
            engine.add(Request(f"{name}{again}", tuple(prompt), params))
            (output,) = run(engine)[f"{name}{again}"]
            cached[f"{name}{again}"] = output.cached_tokens
            got = vector_of(output)
            np.testing.assert_allclose(got, setup.expected(prompt, None, name), atol=TOLERANCE)
    assert cached == {"last0": 0, "last1": 48, "mean0": 0, "mean1": 0}


def test_a_preempted_mean_starts_its_sum_again(setup: Setup) -> None:
    engine = setup.llm(max_num_batched_tokens=16)._engine
    (prompt,) = prompts_of([40])
    engine.add(Request("m", tuple(prompt), SamplingParams(max_tokens=0, pooling=Pooling("mean"))))
    outputs = engine.step()
    assert not outputs
    (sequence,) = engine._scheduler.running
    engine._scheduler._stop(sequence)
    engine._scheduler.waiting.take_back(sequence, 0.0)
    (output,) = run(engine)["m"]
    got = vector_of(output)
    np.testing.assert_allclose(got, setup.expected(prompt, None, "mean"), atol=TOLERANCE)


def test_a_prompt_may_fill_the_context(setup: Setup) -> None:
    llm = setup.llm(max_model_len=32)
    (prompt,) = prompts_of([32])
    (got,) = llm.embed([prompt], normalize=False)
    np.testing.assert_allclose(got, setup.expected(prompt, None, "last"), atol=TOLERANCE)


def test_unusable_numbers_fail_that_request_alone(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = setup.llm()._engine
    prompts = prompts_of([20, 20, 20])
    handles = [0, 1, None]
    # The states of one adapter's tokens are broken, as a value out of range would do.
    for i, (prompt, handle) in enumerate(zip(prompts, handles, strict=True)):
        params = SamplingParams(max_tokens=0, pooling=Pooling("mean", normalize=True))
        engine.add(Request(str(i), tuple(prompt), params, handle))
    engine._runner._pieces = None  # captured steps would not come by here
    decoder = engine._runner._decoder
    hidden = decoder.hidden

    def broken(batch: Batch, kv_cache: torch.Tensor) -> Hidden:
        states = hidden(batch, kv_cache)
        slot = next((s.slot for s in engine._scheduler.running if s.request.adapter == 0), None)
        for span in () if batch.segments is None else batch.segments.spans:
            if span[0] == slot:
                states.output[span[1]] = float("nan")
        return states

    monkeypatch.setattr(decoder, "hidden", broken)
    (failed,), *fine = (outputs[str(i)] for outputs in [run(engine)] for i in range(3))
    assert failed.finish_reason is FinishReason.ERROR
    assert failed.embedding is None
    assert "not a finite number" in str(failed.error)
    for i, (output,) in enumerate(fine, start=1):
        expected = setup.expected(prompts[i], None if i == 2 else str(i), "mean")
        np.testing.assert_allclose(
            vector_of(output), expected / np.linalg.norm(expected), atol=TOLERANCE
        )


def test_a_vector_and_tokens_together_are_refused() -> None:
    with pytest.raises(InvalidParamsError, match="max_tokens must be 0"):
        SamplingParams(max_tokens=1, pooling=Pooling())


def vector_of(output: Output) -> np.ndarray:
    assert output.embedding is not None
    return np.frombuffer(output.embedding, "<f4")


def run(engine: Engine) -> dict[str, list[Output]]:
    """Everything that comes, by request."""
    outputs: dict[str, list[Output]] = {}
    while engine.has_work():
        for output in engine.step():
            outputs.setdefault(output.request_id, []).append(output)
    return outputs
