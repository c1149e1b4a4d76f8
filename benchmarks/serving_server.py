"""Owns the server that serving benchmarks measure: one that runs already, or `loraplex serve` with random weights; and
adapters for it, made on the spot and pushed through the management API."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import tokenizers
from shapes import SHAPES, write_config
from tokenizers import decoders, models, pre_tokenizers

from loraplex.engine.model_config import ModelConfig
from loraplex.platform.cli.client import ApiClient
from loraplex.platform.cli.push import Push, push_adapter

BASE = "base"
TENANT = "bench"
_NUMBER = re.compile(r'^loraplex_engine_(\w+)\{base_model="[^"]*"\} (\S+)$', re.MULTILINE)
_OPERATOR = "lpx-benchmark-operator-key"
_LONGEST_START = 300.0
# An engine renews its numbers once a second.
_RENEWED_SECONDS = 1.5
# The word that S-LoRA's prompts repeat; one token with the space before it, as in real vocabularies.
_MERGES = (("H", "e"), ("He", "l"), ("Hel", "l"), ("Hell", "o"), ("Ġ", "Hello"))
_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
_ATTENTION_ONLY = ("q_proj", "v_proj")


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send load.

    Attributes:
        models: names of the adapters, by number; empty when only the base model is measured.
        pids: processes of the server by role, if it was started here.
        operator: the operator's key, and `data` the folder of its databases, likewise.
    """

    url: str
    key: str
    base: str
    vocab_size: int
    models: tuple[str, ...] = ()
    pids: dict[str, int] | None = None
    operator: str = ""
    data: Path | None = None


def write_model(folder: Path, shape: str, *, with_tokenizer: bool) -> Path:
    """A model directory without weights, to be served with --load-format dummy."""
    write_config(folder, shape, "bfloat16")
    if with_tokenizer:
        size = SHAPES[shape]["vocab_size"]
        assert isinstance(size, int)
        _tokenizer(size).save(str(folder / "tokenizer.json"))
        config = {"chat_template": _TEMPLATE}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _tokenizer(size: int) -> tokenizers.Tokenizer:
    """Byte-level BPE with `size` tokens: every byte, then words of frequent letters, each merged from a shorter one."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {letter: number for number, letter in enumerate(letters[:size])}
    merges: list[tuple[str, str]] = []
    if size >= len(letters) + len(_MERGES):
        merges += _MERGES
        vocab |= {left + right: len(vocab) + at for at, (left, right) in enumerate(_MERGES)}
    words = [letter for letter in "Ġetaoinshrdlu" if letter in vocab]
    frequent, at = tuple(words), 0
    while len(vocab) < size:
        for letter in frequent:
            word = words[at] + letter
            if len(vocab) < size and word not in vocab:
                vocab[word] = len(vocab)
                merges.append((words[at], letter))
                words.append(word)
        at += 1
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


@contextmanager
def started(
    model: Path, options: Sequence[str], *, load_format: str = "dummy", data: Path | None = None
) -> Iterator[Target]:
    """`loraplex serve` on a free port with a tenant, ended with the block.

    Args:
        load_format: "dummy" gives the model random weights.
        data: the folder of its databases, to start it again on; a temporary one if None.
    """
    with ExitStack() as stack:
        folder = data or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lpx-")))
        log = folder / "serve.log"
        command = [sys.executable, "-m", "loraplex", "serve", "--model", str(model)]
        command += ["--served-model-name", BASE, "--port", "0", "--data-dir", str(folder)]
        command += ["--load-format", load_format, *options]
        environment = os.environ | {"LORAPLEX_BOOTSTRAP_KEY": _OPERATOR}
        with log.open("wb") as out:
            server = subprocess.Popen(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment
            )
        try:
            url = _wait(server, log)
            with ApiClient(url, _OPERATOR) as api:
                if not any(t["name"] == TENANT for t in api.pages("/api/v1/tenants")):
                    api.call("POST", "/api/v1/tenants", body={"name": TENANT})
                made = api.call("POST", f"/api/v1/tenants/{TENANT}/keys", body={"name": "load"})
            vocab = ModelConfig.from_directory(model).vocab_size
            pids = _children(server.pid)
            yield Target(
                url, str(made["key"]), BASE, vocab, pids=pids, operator=_OPERATOR, data=folder
            )
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(60)
            except subprocess.TimeoutExpired:
                server.kill()


def counters(target: Target) -> dict[str, float]:
    """The numbers of the engine as `/metrics` has them, by name, once they have been renewed."""
    time.sleep(_RENEWED_SECONDS)
    answer = httpx.get(
        f"{target.url}/metrics",
        headers={"authorization": f"Bearer {target.operator}"},
        timeout=30,
        trust_env=False,
    )
    answer.raise_for_status()
    found = _NUMBER.findall(answer.text)
    return {name: float(value) for name, value in found}


def _wait(server: "subprocess.Popen[bytes]", log: Path) -> str:
    end = time.monotonic() + _LONGEST_START
    while time.monotonic() < end:
        text = log.read_text(errors="replace")
        if server.poll() is not None:
            break
        for line in text.splitlines():
            if line.startswith("Ready after"):
                return line.split()[-1]
        time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")


def _children(parent: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            stat = (process / "stat").read_text().rpartition(")")[2].split()
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if int(stat[1]) == parent:
            role = "engine" if b"loraplex.platform.engines.worker" in words else "api"
            count = sum(name.startswith(role) for name in found)
            found[f"{role}{count}"] = int(process.name)
    return dict(sorted(found.items()))


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def push_adapters(
    target: Target, model: Path, count: int, rank: int, *, attention_only: bool
) -> tuple[str, ...]:
    """Make `count` adapters of random numbers and push them; their names by number."""
    # Not above: load processes import this module, and torch would take each of them seconds.
    import torch
    from safetensors.torch import save_file

    def random(rows: int, columns: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(rows * columns)
        return torch.randn(rows, columns, generator=generator).mul_(0.01).to(torch.bfloat16)

    config = ModelConfig.from_directory(model)
    modules = [m for m in config.modules() if m.index < config.embedding_module]
    if attention_only:
        modules = [m for m in modules if m.name.endswith(_ATTENTION_ONLY)]
    with tempfile.TemporaryDirectory() as folder:
        names = tuple(f"lora{number}" for number in range(count))
        tensors: dict[str, torch.Tensor] = {}
        for module in modules:
            name = f"base_model.model.{module.name}"
            tensors[f"{name}.lora_A.weight"] = random(rank, module.in_features)
            tensors[f"{name}.lora_B.weight"] = random(module.out_features, rank)
        description = {
            "peft_type": "LORA",
            "r": rank,
            "lora_alpha": rank,
            "target_modules": sorted({m.name.rpartition(".")[2] for m in modules}),
            "task_type": "CAUSAL_LM",
        }
        first = next(iter(tensors.values()))

        def push(path: Path) -> None:
            with ApiClient(target.url, target.key) as api:
                push_adapter(api, Push(path, path.name, {}))
            shutil.rmtree(path)

        with ThreadPoolExecutor(4) as pool:
            pending = []
            for number, name in enumerate(names):
                # One number tells them apart; the time of a step does not depend on the others.
                first[0, 0] = 0.001 * (number + 1)
                path = Path(folder) / name
                path.mkdir()
                save_file(tensors, path / "adapter_model.safetensors")
                (path / "adapter_config.json").write_text(json.dumps(description))
                pending.append(pool.submit(push, path))
            for job in pending:
                job.result()
    return names
