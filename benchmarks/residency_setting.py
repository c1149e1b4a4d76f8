"""Owns what the sections of residency.py share: sizes, a model shape on a device, engines with arenas of any size."""

import gc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from ceilings import measure_ceilings
from random_adapters import RandomAdapters
from results_file import record
from shapes import write_config

from loraplex.engine.config import EngineConfig
from loraplex.engine.engine import Engine
from loraplex.engine.model_config import ModelConfig
from loraplex.engine.model_runner import resolve_device, resolve_dtype
from loraplex.engine.pages import BLOCK_SIZE, block_elements, page_elements

RANK = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes.

    Attributes:
        batch: sequences, each with its own adapter, of `saturation`; `prompt` and `output` tokens each.
        streams: sequences that decode during `host`, in which `probes` requests come `pause` seconds apart.
        cliff_prompt, cliff_output: tokens per request of `cliff`; `cliff_requests` come at `cliff_rate`.
        starved: requests of `starvation`, of `length` tokens in and out; KV for `starved_sequences` fits.
    """

    batch: int = 256
    prompt: int = 320
    output: int = 44
    streams: int = 32
    probes: int = 20
    pause: float = 0.2
    cliff_prompt: int = 1024
    cliff_output: int = 256
    cliff_rate: float = 4.0
    cliff_requests: int = 160
    starved: int = 200
    length: int = 512
    starved_rate: float = 20.0
    starved_sequences: int = 32


QUICK = Plan(probes=10, cliff_requests=60, starved=120)
TINY = Plan(
    batch=8, prompt=12, output=8, streams=3, probes=3, pause=0.05, cliff_prompt=24, cliff_output=8,
    cliff_rate=40, cliff_requests=12, starved=12, length=16, starved_rate=100, starved_sequences=4,
)  # fmt: skip


class Setting:
    """One model shape on one device.

    Attributes:
        read: bytes per second of a large read.
        page_bytes: of a page of the arena. longest: prompt and output of the longest request, tokens.
    """

    def __init__(self, shape: str, device: str, plan: Plan, folder: Path) -> None:
        self.plan = plan
        self._shape, self._asked = shape, device
        self._path = write_config(folder, shape, "bfloat16")
        self._model = ModelConfig.from_directory(self._path)
        self._device = resolve_device(device)
        self._dtype = resolve_dtype("auto", self._model, self._device)
        self.page_bytes = page_elements(self._dtype, self._model.modules()) * self._dtype.itemsize
        self.longest = self._model.max_position
        with torch.inference_mode():
            low = torch.bfloat16 if self._device.type == "cuda" else torch.float32
            self.read = measure_ceilings(low, self._device).read
        self.release()

    def source(self, ranks: Sequence[int], targets: tuple[str, ...] = ("",)) -> RandomAdapters:
        """Adapters of these ranks, in host memory."""
        pin = self._device.type == "cuda"
        return RandomAdapters(self._model, ranks, self._dtype, pin=pin, targets=targets)

    def engine(self, source: RandomAdapters, arena: int | None, longest: int) -> Engine:
        """An engine with an arena of so many bytes, or of all there is, for requests of `longest` tokens."""
        start = time.perf_counter()
        engine = Engine(
            EngineConfig(
                model=self._path,
                device=self._asked,
                load_format="dummy",
                max_model_len=min(longest, self.longest),
                enable_prefix_cache=False,
                arena_bytes=arena,
            ),
            source,
        )
        print(f"engine ready in {time.perf_counter() - start:.1f} s", flush=True)
        return engine

    def pages(self, source: RandomAdapters) -> int:
        """Pages of the first adapter."""
        return -(-source.bytes(0) // self.page_bytes)

    def kv_pages(self, blocks: int) -> int:
        """Pages of so many KV blocks."""
        block_bytes = block_elements(self._model.modules()) * self._dtype.itemsize
        return -(-blocks * block_bytes // self.page_bytes)

    def tokens_pages(self, sequences: int, tokens: int) -> int:
        """Pages of the KV of so many sequences of so many tokens."""
        return self.kv_pages(sequences * -(-tokens // BLOCK_SIZE))

    def release(self) -> None:
        """Give back what the last engine had."""
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def record(self, line: str, **row: object) -> None:
        """One result; `met` says whether its goal is."""
        read = round(self.read / 1e12, 3)
        stamped = {"benchmark": "residency", "shape": self._shape, **row, "read_tb_per_s": read}
        record("residency.jsonl", stamped, line + (" met" if row["met"] else " NOT met"))
