"""The same decode runs as lora_tax.py through vLLM, where it is installed: one line per configuration.

Written for vLLM 0.26. A model folder with a config only (the engine makes the weights), random all-linear adapters as
PEFT saves them, prompts as token ids, greedy, CUDA graphs on, prefix cache off. One fresh process per number of adapter
slots; requests are spread evenly over as many distinct adapters as there are slots, or sequences if these are fewer.

    python benchmarks/peer_vllm.py --slots 0 32 128 --sequences 1 32 128 [--fastest]
"""

import argparse
import importlib.metadata
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results_file import record
from shapes import write_config

FILE = "peer_vllm.jsonl"
_SITES = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}
_LINEARS = [name for names in _SITES.values() for name in names]
# Files with contents of their own; further adapters are links to them. The engine copies each into its own slot.
_DISTINCT_FILES = 16
_MARK = "ROW "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=["8b", "100m"])
    parser.add_argument("--slots", type=int, nargs="+", default=[0, 32, 128], help="0: LoRA off")
    parser.add_argument("--sequences", type=int, nargs="+", default=[1, 32, 128])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--prompt", type=int, default=320)
    parser.add_argument("--output", type=int, default=44)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--kv-gib", type=float, default=24.0)
    parser.add_argument(
        "--fastest", action="store_true", help="its flags that measured fastest with adapters"
    )
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    try:
        version = importlib.metadata.version("vllm")
    except importlib.metadata.PackageNotFoundError:
        sys.exit("vLLM is not installed here.")
    if args.child is not None:
        run_slots(args, args.child, args.slots[0])
        return
    with tempfile.TemporaryDirectory() as scratch:
        prepare(Path(scratch), args.shape, args.rank, max(args.slots))
        for slots in args.slots:
            for row in in_child(slots, Path(scratch), args.fastest):
                report(row, args, version)


def prepare(folder: Path, shape: str, rank: int, adapters: int) -> None:
    """Write `model/config.json` and the adapters `adapter0`, `adapter1`, ..."""
    config = json.loads(
        (write_config(folder / "model", shape, "bfloat16") / "config.json").read_text()
    )
    for number in range(adapters):
        path = folder / f"adapter{number}"
        path.mkdir()
        (path / "adapter_config.json").write_text(
            json.dumps(
                {
                    "peft_type": "LORA",
                    "task_type": "CAUSAL_LM",
                    "base_model_name_or_path": "random",
                    "r": rank,
                    "lora_alpha": 2 * rank,
                    "target_modules": _LINEARS,
                    "bias": "none",
                }
            )
        )
        file = path / "adapter_model.safetensors"
        if number < _DISTINCT_FILES:
            _write_adapter(file, config, rank, seed=number)
        else:
            original = folder / f"adapter{number % _DISTINCT_FILES}" / file.name
            file.hardlink_to(original)


def _write_adapter(file: Path, config: dict[str, int], rank: int, seed: int) -> None:
    import torch
    from safetensors.torch import save_file

    hidden, inter = config["hidden_size"], config["intermediate_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    widths = {"k_proj": kv, "v_proj": kv, "gate_proj": inter, "up_proj": inter}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator(device).manual_seed(seed)

    def draw(rows: int, columns: int) -> torch.Tensor:
        values = torch.empty(rows, columns, dtype=torch.bfloat16, device=device)
        return values.normal_(0, 0.01, generator=generator).cpu()

    tensors = {}
    for layer in range(config["num_hidden_layers"]):
        for block, names in _SITES.items():
            for name in names:
                prefix = f"base_model.model.model.layers.{layer}.{block}.{name}"
                wide = inter if name == "down_proj" else hidden
                tensors[f"{prefix}.lora_A.weight"] = draw(rank, wide)
                tensors[f"{prefix}.lora_B.weight"] = draw(widths.get(name, hidden), rank)
    save_file(tensors, file)


def in_child(slots: int, folder: Path, fastest: bool) -> list[dict[str, object]]:
    """Run one engine in a process of its own."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # greedy choice does not use it, but it would have to be installed
        "VLLM_WORKER_MULTIPROCESSING_METHOD": "spawn",
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # to send `randomise` to its worker
        "VLLM_LORA_ENABLE_DUAL_STREAM": "1" if fastest else "0",
    }
    # Of an option that is given twice the last counts.
    chosen = ["--slots", str(slots), "--child", str(folder)]
    command = [sys.executable, __file__, *sys.argv[1:], *chosen]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    rows = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode:
        print(f"vLLM with {slots} slots ended with code {done.returncode}", flush=True)
    return [json.loads(line.removeprefix(_MARK)) for line in rows]


def report(row: dict[str, object], args: argparse.Namespace, version: str) -> None:
    record(
        FILE,
        {
            "benchmark": "peer_vllm",
            "vllm": version,
            "shape": args.shape,
            "rank": args.rank if row["slots"] else "",
            "prompt": args.prompt,
            "flags": "fastest" if args.fastest else "defaults",
            **row,
        },
    )


def randomise(model) -> None:
    """Weights of a usual size; the engine's own dummies make all logits about equal. Runs inside vLLM's worker."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0.0, 0.02)


def run_slots(args: argparse.Namespace, folder: Path, slots: int) -> None:
    """Build one engine and run every batch size on it."""
    begin = time.perf_counter()
    from vllm import LLM
    from vllm.lora.request import LoRARequest

    lora = {}
    if slots:
        lora = {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": slots,
            "max_lora_rank": args.rank,
        }
        if args.fastest:
            lora |= {"specialize_active_lora": True, "lora_target_modules": _LINEARS}
    llm = LLM(
        model=str(folder / "model"),
        load_format="dummy",
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=args.prompt + args.output + 16,
        max_num_seqs=max(args.sequences),
        enable_prefix_caching=False,
        kv_cache_memory_bytes=int(args.kv_gib * 2**30),
        compilation_config={"cudagraph_capture_sizes": sorted(set(args.sequences))},
        **lora,
    )
    llm.apply_model(randomise)
    started = time.perf_counter() - begin
    adapters = [
        LoRARequest(f"adapter{number}", number + 1, str(folder / f"adapter{number}"))
        for number in range(slots)
    ]
    begin = time.perf_counter()
    for adapter in adapters:
        llm.llm_engine.add_lora(adapter)
    loaded = time.perf_counter() - begin
    for sequences in args.sequences:
        run_batch(llm.llm_engine, args, adapters, sequences, seed=0)  # warms up
        runs = [
            run_batch(llm.llm_engine, args, adapters, sequences, seed)
            for seed in range(1, args.repeat + 1)
        ]
        median = {
            name: round(statistics.median(getattr(run, name) for run in runs), 3)
            for name in ("step_ms", "tpot_ms", "ttft_ms", "last_ttft_ms")
        }
        row = {
            "slots": slots,
            "sequences": sequences,
            "adapters": min(slots, sequences),
            **median,
            "tokens_per_s": round(1000 * sequences / median["step_ms"]),
            "start_s": round(started, 1),
            "load_adapters_s": round(loaded, 1),
        }
        print(_MARK + json.dumps(row), flush=True)


def run_batch(engine, args: argparse.Namespace, adapters: list, sequences: int, seed: int):
    """All requests at once, every step stamped; returns a `stamps.Run`."""
    from stamps import Stamps
    from vllm import SamplingParams
    from vllm.inputs.engine import tokens_input
    from vllm.sampling_params import RequestOutputKind

    params = SamplingParams(
        temperature=0.0,
        max_tokens=args.output,
        ignore_eos=True,
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
    )
    rng = random.Random(seed)
    prompts = [[rng.randrange(2, 8192) for _ in range(args.prompt)] for _ in range(sequences)]
    used = adapters[:sequences]
    stamps = Stamps(sequences, args.prompt, time.perf_counter())
    for number, prompt in enumerate(prompts):
        adapter = used[number % len(used)] if used else None
        name = f"{sequences}-{seed}-{number}"
        engine.add_request(name, tokens_input(prompt), params, lora_request=adapter)
    while engine.has_unfinished_requests():
        outputs = engine.step()
        brought = {o.request_id: len(o.outputs[0].token_ids) for o in outputs}
        stamps.add(time.perf_counter(), {name: count for name, count in brought.items() if count})
    return stamps.run(args.output)


if __name__ == "__main__":
    main()
