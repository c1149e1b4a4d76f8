"""Decode throughput of the engine with many adapters: base only, and with D distinct adapters in the batch.

Builds a model of a known shape with random weights, and adapters from random numbers, so that it needs no download.
Every adapter has its own memory on the device. Timed is a steady step in which all sequences decode, without prompts.

    python benchmarks/throughput.py --shape 8b --sequences 32 128 --adapters 0 1 32 128 --rank 16
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from random_adapters import RandomAdapters
from results_file import record
from shapes import write_config

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams

WARM_UP_STEPS, TIMED_STEPS = 8, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m"])
    parser.add_argument("--sequences", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--adapters", type=int, nargs="+", default=[0, 1, 32, 128])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=320, help="tokens per prompt")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_config(Path(folder), args.shape, "bfloat16")
        model = ModelConfig.from_directory(path)
        device = resolve_device(args.device)
        dtype = resolve_dtype("auto", model, device)
        source = RandomAdapters(model, (args.rank,), dtype, pin=device.type == "cuda")
        config = EngineConfig(
            model=path,
            device=args.device,
            load_format="dummy",
            max_model_len=args.prompt + WARM_UP_STEPS + TIMED_STEPS + 16,
            enable_prefix_cache=False,
        )
        start = time.perf_counter()
        engine = Engine(config, source)
        print(f"engine ready in {time.perf_counter() - start:.1f} s", flush=True)
        for sequences in args.sequences:
            base = None
            for adapters in args.adapters:
                if adapters > sequences:
                    continue
                step, prefill = measure(engine, sequences, adapters, args.prompt)
                base = step if adapters == 0 else base
                record(
                    "throughput.jsonl",
                    {
                        "benchmark": "throughput",
                        "shape": args.shape,
                        "dtype": str(dtype).removeprefix("torch."),
                        "sequences": sequences,
                        "adapters": adapters,
                        "rank": args.rank if adapters else 0,
                        "prompt": args.prompt,
                        "step_ms": round(1000 * step, 2),
                        "tokens_per_s": round(sequences / step),
                        "over_base": round(step / base, 3) if base else None,
                        "prefill_tokens_per_s": round(prefill),
                        "adapter_mib": round(adapters * source.bytes(0) / 2**20),
                    },
                )


def measure(engine: Engine, sequences: int, adapters: int, prompt: int) -> tuple[float, float]:
    """Median seconds of a decode step, and prompt tokens per second before it."""
    prefill = start_decoding(engine, sequences, adapters, prompt, WARM_UP_STEPS + TIMED_STEPS + 8)
    times = decode_steps(engine, sequences, TIMED_STEPS)
    for number in range(sequences):
        engine.abort(str(number))
    return statistics.median(times), prefill


def start_decoding(
    engine: Engine, sequences: int, adapters: int, prompt: int, output: int
) -> float:
    """Bring sequences, named 0, 1, ..., into steady decoding; returns prompt tokens per second until then.

    Args:
        sequences, adapters: how many; each sequence uses adapter number modulo adapters, or none.
        prompt, output: tokens per sequence.
    """
    generator = torch.Generator().manual_seed(0)
    params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
    if adapters:  # have them all on the device before the clock starts
        for handle in range(adapters):
            engine.add(Request(f"warm{handle}", (1, 2, 3), SamplingParams(max_tokens=1), handle))
        while engine.has_work():
            engine.step()
    for number in range(sequences):
        ids = torch.randint(engine.model.vocab_size, (prompt,), generator=generator).tolist()
        handle = number % adapters if adapters else None
        engine.add(Request(str(number), tuple(ids), params, handle))
    start = time.perf_counter()
    produced: set[str] = set()
    while len(produced) < sequences:
        produced.update(output.request_id for output in engine.step() if output.token_ids)
    prefill = sequences * prompt / (time.perf_counter() - start)
    for _ in range(WARM_UP_STEPS // 2):
        engine.step()
    return prefill


def decode_steps(engine: Engine, sequences: int, most: int) -> list[float]:
    """Seconds of each of at most `most` steps in which all sequences get a token.

    A step returns when the tokens of one forward pass have been read, so in a row they last as long as their passes,
    whether or not the next pass is under way by then.
    """
    times: list[float] = []
    while engine.has_work() and len(times) < most:
        start = time.perf_counter()
        outputs = engine.step()
        if len(outputs) < sequences:
            break
        times.append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
