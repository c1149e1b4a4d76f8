"""Steps in which a prompt is computed beside running sequences, as most steps of a busy server are.

So many sequences decode, and in every other step one prompt of a given length arrives. Steps with it are timed from one
return to the next, replayed piece by piece and launched kernel by kernel, in one engine. A step without a prompt is
given beside them: what the prompt adds to the gap between two tokens of everybody else is the difference.

    python benchmarks/mixed_step.py [--sequences 32] [--adapters 0 32] [--prompts 64 256 512 1024]
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
from throughput import start_decoding

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams

ROUNDS = 24
# Steps between two prompts. One step ahead a step's time shows in the return after it.
PAUSE = 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m"])
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--adapters", type=int, nargs="+", default=[0, 32])
    parser.add_argument("--prompts", type=int, nargs="+", default=[16, 64, 256, 320, 512, 1024])
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_config(Path(folder), args.shape, "bfloat16")
        model = ModelConfig.from_directory(path)
        device = resolve_device("cuda")
        source = RandomAdapters(model, (args.rank,), resolve_dtype("auto", model, device), pin=True)
        config = EngineConfig(
            model=path, load_format="dummy", max_model_len=4096, enable_prefix_cache=False
        )
        start = time.perf_counter()
        engine = Engine(config, source)
        print(f"engine ready in {time.perf_counter() - start:.1f} s", flush=True)
        pieces = engine._runner._pieces
        for adapters in args.adapters:
            for prompt in args.prompts:
                start_decoding(engine, args.sequences, adapters, 320, 3 * ROUNDS * (PAUSE + 2))
                times = {}
                for name, graphs in (("pieces", pieces), ("kernels", None)):
                    engine._runner._pieces = graphs
                    times[name] = rounds(engine, prompt, adapters)
                engine._runner._pieces = pieces
                for number in range(args.sequences):
                    engine.abort(str(number))
                plain = min(plain for _, plain in times.values())
                record(
                    "mixed_step.jsonl",
                    {
                        "benchmark": "mixed_step",
                        "shape": args.shape,
                        "sequences": args.sequences,
                        "adapters": adapters,
                        "rank": args.rank if adapters else 0,
                        "prompt": prompt,
                        "decode_ms": round(1000 * plain, 3),
                        "pieces_ms": round(1000 * times["pieces"][0], 3),
                        "kernels_ms": round(1000 * times["kernels"][0], 3),
                    },
                )


def rounds(engine: Engine, prompt: int, adapters: int) -> tuple[float, float]:
    """Median seconds of a step with a prompt of so many tokens, and of one without."""
    params = SamplingParams(temperature=0, max_tokens=1, ignore_eos=True)
    generator = torch.Generator().manual_seed(prompt)
    mixed, plain = [], []
    for number in range(ROUNDS):
        ids = torch.randint(engine.model.vocab_size, (prompt,), generator=generator).tolist()
        adapter = number % adapters if adapters else None
        times = []
        engine.add(Request(f"prompt{number}", tuple(ids), params, adapter))
        for _ in range(PAUSE):
            start = time.perf_counter()
            engine.step()
            times.append(time.perf_counter() - start)
        # The first call launches the prompt's step and waits for the one before it; the second waits for the prompt's.
        mixed.append(times[0] + times[1] - times[-1])
        plain.append(times[-1])
    return statistics.median(mixed[2:]), statistics.median(plain[2:])


if __name__ == "__main__":
    main()
