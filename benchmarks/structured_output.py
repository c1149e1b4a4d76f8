"""Decode throughput with structured output: what masks cost a step, and what compiling a grammar costs.

A model of a known shape with random weights, and a byte-level vocabulary of its size made on the spot: bytes, words
with and without a space in front, numbers of up to 3 digits, runs of blanks, and the punctuation that JSON is made of.
Timed is a steady step in which all sequences decode; each stands elsewhere in its grammar. Needs xgrammar.

    python benchmarks/structured_output.py --shape 8b --sequences 32
"""

import argparse
import itertools
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import tokenizers
import torch
from random_adapters import RandomAdapters
from results_file import record
from shapes import SHAPES, write_config
from throughput import decode_steps
from tokenizers import decoders, models, pre_tokenizers

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.engine.request import Request
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.structure import Structure

WARM_UP_STEPS, TIMED_STEPS = 40, 200
_SPECIAL = ("<s>", "</s>")
_LETTERS = "etaoinshrdlucmfwypvbgkqjxz"
_RECORD = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 0, "maximum": 99999},
        "name": {"type": "string", "maxLength": 40},
        "kind": {"enum": ["person", "company", "place", "product"]},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 8},
        "address": {
            "anyOf": [
                {"type": "object", "properties": {"street": {"type": "string", "maxLength": 60}}},
                {"type": "null"},
            ]
        },
        "since": {"type": "string", "format": "date"},
    },
    "required": ["id", "name", "kind", "tags", "address"],
}
_PLAIN = {
    "type": "object",
    "properties": {
        "id": {"type": "integer"},
        "name": {"type": "string"},
        "kind": {"enum": ["person", "company", "place", "product"]},
        "score": {"type": "number"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["id", "name", "kind", "tags"],
}
_ITEMS = 300
# None of them comes to its end while it is timed. Strings of bounded length are a case of their own: what is left of
# them must be counted for every token of the vocabulary.
STRUCTURES: dict[str, Structure | None] = {
    "none": None,
    "json_schema": Structure(
        "json_schema", json.dumps({"type": "array", "items": _PLAIN, "minItems": _ITEMS})
    ),
    "bounded_strings": Structure(
        "json_schema", json.dumps({"type": "array", "items": _RECORD, "minItems": _ITEMS})
    ),
    "any_json": Structure("json_schema", json.dumps({"type": "array", "minItems": _ITEMS})),
    "strings": Structure(
        "json_schema",
        json.dumps({"type": "array", "items": {"type": "string"}, "minItems": _ITEMS}),
    ),
    "regex": Structure("regex", r"(\w+[ ,.])*"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="8b", choices=list(SHAPES))
    parser.add_argument("--sequences", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--structures", nargs="+", default=list(STRUCTURES), choices=STRUCTURES)
    parser.add_argument("--prompt", type=int, default=320, help="tokens per prompt")
    parser.add_argument("--steps", type=int, default=TIMED_STEPS)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = write_config(Path(folder), args.shape, "bfloat16")
        model = ModelConfig.from_directory(path)
        write_tokenizer(path, model.vocab_size)
        device = resolve_device(args.device)
        dtype = resolve_dtype("auto", model, device)
        config = EngineConfig(
            model=path,
            device=args.device,
            load_format="dummy",
            max_model_len=args.prompt + WARM_UP_STEPS + args.steps + 16,
            enable_prefix_cache=False,
        )
        engine = Engine(config, RandomAdapters(model, (16,), dtype, pin=device.type == "cuda"))
        for sequences in args.sequences:
            free = None
            for name in dict.fromkeys(["none", *args.structures]):
                first, second = compile_seconds(engine, STRUCTURES[name])
                step = measure(engine, STRUCTURES[name], sequences, args.prompt, args.steps)
                free = step if name == "none" else free
                assert free is not None
                record(
                    "structured_output.jsonl",
                    {
                        "benchmark": "structured_output",
                        "shape": args.shape,
                        "dtype": str(dtype).removeprefix("torch."),
                        "sequences": sequences,
                        "structure": name,
                        "prompt": args.prompt,
                        "step_ms": round(1000 * step, 3),
                        "tokens_per_s": round(sequences / step),
                        "of_free": round(free / step, 3),
                        "first_ms": round(1000 * first, 1),
                        "cached_ms": round(1000 * second, 1),
                    },
                )


def compile_seconds(engine: Engine, structure: Structure | None) -> tuple[float, float]:
    """From asking for one token until it is there: for the first time, and when the grammar is known."""
    times = []
    for name in ("first", "second"):
        start = time.perf_counter()
        engine.add(Request(name, (1, 2, 3), SamplingParams(max_tokens=1, structure=structure)))
        while engine.has_work():
            engine.step()
        times.append(time.perf_counter() - start)
    return times[0], times[1]


def measure(
    engine: Engine, structure: Structure | None, sequences: int, prompt: int, steps: int
) -> float:
    """Median seconds of a decode step in which every sequence has the structure."""
    generator = torch.Generator().manual_seed(0)
    for number in range(sequences):
        ids = torch.randint(engine.model.vocab_size, (prompt,), generator=generator).tolist()
        params = SamplingParams(
            seed=number,
            max_tokens=WARM_UP_STEPS + steps + 8,
            ignore_eos=True,
            structure=structure,
        )
        engine.add(Request(str(number), tuple(ids), params))
    produced: set[str] = set()
    while len(produced) < sequences:
        produced.update(output.request_id for output in engine.step() if output.token_ids)
    for _ in range(WARM_UP_STEPS):
        engine.step()
    times = decode_steps(engine, sequences, steps)
    for number in range(sequences):
        engine.abort(str(number))
    while engine.has_work():
        engine.step()
    return statistics.median(times)


def write_tokenizer(folder: Path, size: int) -> None:
    """A `tokenizer.json` with `size` tokens."""
    rng = random.Random(0)
    vocab: dict[str, int] = {}
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # The ids of the first two are those of `shapes.write_config`.
    for name in itertools.chain(_SPECIAL, letters, _marks(), _words(rng)):
        if len(vocab) >= size:
            break
        vocab.setdefault(name, len(vocab))
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save(str(folder / "tokenizer.json"))


def _marks() -> list[str]:
    numbers = [str(number) for number in range(10, 1000)]
    signs = '{}[]":,.\\/-_()<>=+*#;!?'
    pairs = ["".join(pair) for length in (2, 3) for pair in itertools.product(signs, repeat=length)]
    spaced = [f"Ġ{pair}" for pair in pairs if len(pair) == 2]
    blanks = ["Ġ" * count for count in range(2, 65)]
    return [*numbers, *pairs, *spaced, *blanks, *(f"Ċ{blank}" for blank in blanks)]


def _words(rng: random.Random) -> "itertools.chain[str]":
    """Endlessly many, short ones more often, as frequent letters make them."""

    def word() -> str:
        letters = rng.choices(_LETTERS, weights=range(len(_LETTERS), 0, -1), k=rng.randint(2, 10))
        text = "".join(letters)
        return rng.choice(("", "Ġ", "Ġ")) + (text.capitalize() if rng.random() < 0.2 else text)

    return itertools.chain.from_iterable(iter(lambda: [word()], []))


if __name__ == "__main__":
    main()
