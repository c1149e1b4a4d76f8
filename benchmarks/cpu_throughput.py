"""Decode throughput on a CPU: a mixed batch of adapters in one engine against transformers + PEFT in the same process.

32 sequences over 8 adapters, equal prompts and output lengths. PEFT's side is `generate(adapter_names=...)`, its way to
mix adapters in a batch. Beside both stands the floor: the time of the base model's bare matrix products alone.

    python benchmarks/cpu_throughput.py [--output 64] [--repeat 3]
"""

import argparse
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from results_file import record
from shapes import write_config

from loraplex import LLM, SamplingParams
from loraplex.engine.model_config import ModelConfig
from loraplex.platform.demo.model_dir import demo_model_dir

SEQUENCES, ADAPTERS, PROMPT = 32, 8, 32
RANKS = (8, 16, 8, 16, 8, 16, 8, 16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=int, default=64, help="tokens generated per sequence")
    parser.add_argument(
        "--repeat", type=int, default=3, help="runs of each side; the median counts"
    )
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as folder:
        for name, model_dir in (
            ("demo", demo_model_dir()),
            ("random-100m", random_model(Path(folder) / "random-100m")),
        ):
            compare(name, model_dir, Path(folder) / f"{name}-adapters", args.output, args.repeat)


def random_model(path: Path) -> Path:
    write_config(path, "100m", "float32")
    config = transformers.AutoConfig.from_pretrained(path)
    torch.manual_seed(0)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


def make_adapters(model_dir: Path, folder: Path) -> list[Path]:
    """All-linear adapters with random weights, as PEFT saves them."""
    paths = []
    for index, rank in enumerate(RANKS):
        base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
        config = LoraConfig(
            r=rank,
            lora_alpha=2 * rank,
            target_modules="all-linear",
            init_lora_weights=False,
            task_type="CAUSAL_LM",
        )
        path = folder / str(index)
        get_peft_model(base, config).save_pretrained(str(path))
        paths.append(path)
    return paths


def compare(name: str, model_dir: Path, folder: Path, output: int, repeat: int) -> None:
    shape = ModelConfig.from_directory(model_dir)
    adapters = make_adapters(model_dir, folder)
    rng = random.Random(0)
    prompts = [[rng.randrange(shape.vocab_size) for _ in range(PROMPT)] for _ in range(SEQUENCES)]
    choices = [i % ADAPTERS for i in range(SEQUENCES)]

    ours = loraplex_run(model_dir, adapters, prompts, choices)
    theirs = peft_run(model_dir, adapters, prompts, choices)
    # A run of one token is prompt work alone; taking it off leaves the decode steps.
    our_rates, peft_rates = [], []
    for _ in range(repeat):  # alternate, so that a busy moment of the machine hits both
        our_rates.append(decode_rate(ours, output))
        peft_rates.append(decode_rate(theirs, output))
    floor = bare_gemms(shape)
    our_rate, peft_rate = statistics.median(our_rates), statistics.median(peft_rates)
    record(
        "cpu_throughput.jsonl",
        {
            "benchmark": "cpu_throughput",
            "model": name,
            "sequences": SEQUENCES,
            "adapters": ADAPTERS,
            "prompt": PROMPT,
            "output": output,
            "loraplex_tokens_per_s": round(our_rate),
            "peft_tokens_per_s": round(peft_rate),
            "ratio": round(our_rate / peft_rate, 2),
            "bare_gemm_tokens_per_s": round(SEQUENCES / floor),
            "loraplex_step_ms": round(1000 * SEQUENCES / our_rate, 2),
            "peft_step_ms": round(1000 * SEQUENCES / peft_rate, 2),
            "bare_gemm_step_ms": round(1000 * floor, 2),
        },
    )


def decode_rate(run: Callable[[int], None], output: int) -> float:
    """Decode tokens per second of all sequences together."""
    run(2)
    start = time.perf_counter()
    run(1)
    middle = time.perf_counter()
    run(output)
    end = time.perf_counter()
    return SEQUENCES * (output - 1) / ((end - middle) - (middle - start))


def loraplex_run(
    model_dir: Path, adapters: list[Path], prompts: list[list[int]], choices: list[int]
) -> Callable[[int], None]:
    llm = LLM(model=model_dir, device="cpu", dtype="float32", enable_prefix_cache=False)
    for index, path in enumerate(adapters):
        llm.add_adapter(str(index), path)

    def run(output: int) -> None:
        params = SamplingParams(temperature=0, max_tokens=output, ignore_eos=True)
        completions = llm.generate(prompts, params, adapters=[str(c) for c in choices])
        assert all(len(c.token_ids) == output for c in completions)

    return run


def peft_run(
    model_dir: Path, adapters: list[Path], prompts: list[list[int]], choices: list[int]
) -> Callable[[int], None]:
    base = transformers.AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(adapters[0]), adapter_name="0")
    for index, path in enumerate(adapters[1:], start=1):
        model.load_adapter(str(path), adapter_name=str(index))
    model.eval()
    ids = torch.tensor(prompts)

    def run(output: int) -> None:
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                adapter_names=[str(c) for c in choices],
                max_new_tokens=output,
                min_new_tokens=output,
                do_sample=False,
                eos_token_id=-1,
                pad_token_id=0,
            )
        assert out.shape[1] == PROMPT + output

    return run


def bare_gemms(shape: ModelConfig, repeat: int = 30) -> float:
    """Median seconds of the base model's matrix products of one step with 32 rows, nothing else."""
    layer = [(m.in_features, m.out_features) for m in shape.modules()[:7]]
    fused = [
        (layer[0][0], layer[0][1] + layer[1][1] + layer[2][1]),
        layer[3],
        (layer[4][0], 2 * layer[4][1]),
        layer[6],
    ]
    sizes = fused * shape.num_layers + [(shape.hidden_size, shape.vocab_size)]
    work = [(torch.randn(SEQUENCES, i), torch.randn(o, i)) for i, o in sizes]
    times = []
    with torch.inference_mode():
        for _ in range(repeat + 3):
            start = time.perf_counter()
            for x, weight in work:
                torch.nn.functional.linear(x, weight)
            times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


if __name__ == "__main__":
    main()
