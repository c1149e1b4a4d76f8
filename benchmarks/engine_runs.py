"""Owns runs through the engine: requests in, every step's return stamped, what that says about speed."""

import statistics
import time
from collections.abc import Sequence

import torch
from stamps import Run, Stamps

from loraplex.engine.engine import Engine
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams


def load_adapters(engine: Engine, handles: Sequence[int]) -> None:
    """Bring adapters to the device, so that no clock sees it."""
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    for handle in handles:
        engine.add(Request(f"load{handle}", (1, 2, 3), params, handle))
    while engine.has_work():
        for output in engine.step():
            assert output.error is None, output.error


def run_batch(
    engine: Engine, adapters: Sequence[int | None], prompt: int, output: int, seed: int = 0
) -> Run:
    """Generate `output` tokens for one sequence per entry of `adapters`, prompts of `prompt` random tokens."""
    generator = torch.Generator().manual_seed(seed)
    params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
    requests = [
        Request(
            str(number),
            tuple(torch.randint(engine.model.vocab_size, (prompt,), generator=generator).tolist()),
            params,
            adapter,
        )
        for number, adapter in enumerate(adapters)
    ]
    stamps = Stamps(len(requests), prompt, time.perf_counter())
    for request in requests:
        engine.add(request)
    while engine.has_work():
        outputs = engine.step()
        assert all(o.error is None for o in outputs), [o.error for o in outputs if o.error]
        brought = {o.request_id: len(o.token_ids) for o in outputs if o.token_ids}
        stamps.add(time.perf_counter(), brought)
    return stamps.run(output)


def steady_prefill_s(
    engine: Engine, adapters: Sequence[int | None], prompt: int, per_step: int
) -> float:
    """Median seconds of a step that does nothing but `per_step` prompt tokens.

    Args:
        adapters: of the sequences, each with a prompt of `prompt` tokens of which nothing is cached.
        per_step: the engine's `max_num_batched_tokens`, a multiple of `prompt` or a divisor of it.
    """
    generator = torch.Generator().manual_seed(1)
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    for number, adapter in enumerate(adapters):
        ids = torch.randint(engine.model.vocab_size, (prompt,), generator=generator).tolist()
        engine.add(Request(f"p{number}", tuple(ids), params, adapter))
    finished_per_step = max(1, per_step // prompt)
    times: list[float] = []
    before = time.perf_counter()
    while engine.has_work():
        outputs = engine.step()
        now = time.perf_counter()
        if len(outputs) == finished_per_step or prompt > per_step:
            times.append(now - before)
        before = now
    assert len(times) > 2, "too few full steps"
    return statistics.median(times[1:-1])
