"""Packed adapters hold exactly what PEFT would add, in the order and within the pages the kernels expect."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from loraplex.adapters.admission import AdmissionReport
from loraplex.adapters.blobs import file_pieces
from loraplex.adapters.errors import BlobUnavailableError, DigestMismatchError
from loraplex.adapters.layout import plan
from loraplex.adapters.packing import pack
from loraplex.adapters.peft_directory import admit_directory
from loraplex.adapters.recipes import Recipes
from loraplex.adapters.upload import UploadInspector
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import ModelConfig, Module
from loraplex.engine.pages import page_elements
from support.adapter_files import (
    PREFIX,
    config_json,
    file_bytes,
    header_of,
    lora_tensors,
    unpack,
    weights_bytes,
)
from support.checkpoints import load_peft, peft_adapter, tiny_model

PEFT_OPTIONS: dict[str, dict[str, Any]] = {
    "list": {"targets": ["q_proj", "v_proj"]},
    "one module": {"targets": ["layers.1.mlp.up_proj"]},
    "regex": {"targets": r".*\.layers\.1\.(self_attn\.[qv]_proj|mlp\.down_proj)"},
    "all-linear": {"targets": "all-linear", "rank": 3, "alpha": 5},
    "exclude list": {
        "targets": "all-linear",
        "options": {"exclude_modules": ["k_proj", "down_proj"]},
    },
    "exclude regex": {"targets": "all-linear", "options": {"exclude_modules": r".*layers\.0\..*"}},
    "layers": {"targets": ["q_proj", "up_proj"], "options": {"layers_to_transform": [1]}},
    "layers pattern": {
        "targets": ["o_proj"],
        "options": {"layers_to_transform": 0, "layers_pattern": "layers"},
    },
    "rslora": {"targets": "all-linear", "rank": 7, "options": {"use_rslora": True}},
    "rank pattern": {
        "targets": "all-linear",
        "options": {"rank_pattern": {"q_proj": 2, r"^model\.layers\.0\.mlp\.(up|gate)_proj": 16}},
    },
    "alpha pattern": {
        "targets": "all-linear",
        "options": {"alpha_pattern": {"layers.1.self_attn.k_proj": 3, "k_proj": 64}},
    },
    "both patterns with rslora": {
        "targets": "all-linear",
        "options": {
            "use_rslora": True,
            "rank_pattern": {r"layers\.\d+\.self_attn\.(q|k)_proj": 5},
            "alpha_pattern": {r".*mlp.*": 24},
        },
    },
    "fan_in_fan_out": {"targets": ["q_proj", "down_proj"], "options": {"fan_in_fan_out": True}},
    "float16": {"targets": "all-linear", "dtype": "float16"},
    "bfloat16": {"targets": "all-linear", "dtype": "bfloat16"},
    "embedding and head": {"targets": ["q_proj", "embed_tokens", "lm_head"], "rank": 6},
    "dropout, gaussian": {
        "targets": ["v_proj"],
        "options": {"lora_dropout": 0.1, "init_lora_weights": "gaussian"},
    },
}


def pack_directory(
    path: Path, report: AdmissionReport, modules: tuple[Module, ...], dtype: torch.dtype
) -> LoRAWeights:
    with (path / "adapter_model.safetensors").open("rb") as file:
        pieces = file_pieces(file)
        return pack(pieces, report.canonical_config, report.weights_sha256, Recipes(modules, dtype))


def pieces_of(data: bytes, size: int = 1000) -> Iterator[bytes]:
    """A file in pieces that end anywhere, one of them empty."""
    yield b""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def delta_weights(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    """What PEFT adds to each weight, as [out, in] ([vocabulary, hidden] for the embedding)."""
    model = load_peft(base, adapter)
    return {
        name.removeprefix(PREFIX): layer.get_delta_weight("0").detach()
        for name, layer in model.named_modules()
        if hasattr(layer, "get_delta_weight")
    }


@pytest.mark.parametrize("options", PEFT_OPTIONS.values(), ids=PEFT_OPTIONS.keys())
def test_rows_equal_what_peft_adds(
    options: Mapping[str, Any], base: Path, modules: tuple[Module, ...], tmp_path: Path
) -> None:
    adapter = peft_adapter(base, tmp_path / "adapter", **options)
    report = admit_directory(adapter, modules)
    rows = unpack(pack_directory(adapter, report, modules, torch.float32), modules)
    expected = delta_weights(base, adapter)
    assert rows.keys() == expected.keys()
    assert not [w for w in report.warnings if "target_modules" in w], "config and tensors agree"
    for name, (a, b) in rows.items():
        delta = a.T @ b if name == "model.embed_tokens" else b.T @ a
        torch.testing.assert_close(delta, expected[name], rtol=1e-5, atol=1e-6)
        assert delta.abs().max() > 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("stored", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("alpha", [7, 3, 2])
def test_the_scale_is_folded_before_the_cast(
    dtype: torch.dtype,
    stored: str,
    alpha: int,
    base: Path,
    modules: tuple[Module, ...],
    tmp_path: Path,
) -> None:
    adapter = peft_adapter(
        base, tmp_path / "a", rank=3, alpha=alpha, targets=["q_proj"], dtype=stored
    )
    report = admit_directory(adapter, modules)
    rows = unpack(pack_directory(adapter, report, modules, dtype), modules)
    file = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    a, b = rows["model.layers.0.self_attn.q_proj"]
    name = f"{PREFIX}model.layers.0.self_attn.q_proj"
    assert torch.equal(a, file[f"{name}.lora_A.weight"].to(dtype))
    assert torch.equal(b.T, (file[f"{name}.lora_B.weight"].float() * (alpha / 3)).to(dtype))


def test_tied_embedding_adapters_are_both_packed(tmp_path: Path) -> None:
    base = tiny_model(tmp_path / "tied", "qwen2", tie=True)
    modules = ModelConfig.from_directory(base).modules()
    adapter = peft_adapter(
        base, tmp_path / "a", targets=["embed_tokens"], options={"ensure_weight_tying": True}
    )
    report = admit_directory(adapter, modules)
    rows = unpack(pack_directory(adapter, report, modules, torch.float32), modules)
    embedding, head = rows["model.embed_tokens"], rows["lm_head"]
    assert report.verdict == "accepted_with_conversion"
    torch.testing.assert_close(embedding[0].T @ embedding[1], head[1].T @ head[0])


def test_the_canonical_config_loads_into_peft_as_the_same_adapter(
    base: Path, modules: tuple[Module, ...], tmp_path: Path
) -> None:
    adapter = peft_adapter(base, tmp_path / "a", **PEFT_OPTIONS["both patterns with rslora"])
    before = delta_weights(base, adapter)
    report = admit_directory(adapter, modules)
    (adapter / "adapter_config.json").write_bytes(report.canonical_config)
    after = delta_weights(base, adapter)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = admit_directory(adapter, modules)
    assert again.canonical_config == report.canonical_config
    assert again.version_digest == report.version_digest


def test_rows_of_a_site_lie_together_and_never_cross_a_page(modules: tuple[Module, ...]) -> None:
    ranks = {module.index: 1 + module.index % 5 for module in modules}
    page = 300  # holds one row of the vocabulary, or a few short ones
    layout = plan(ranks, modules, page)
    taken = np.zeros(layout.elements, dtype=int)
    for gap in layout.gaps:
        taken[slice(*gap)] += 1
    firsts = []
    for module in sorted(modules, key=lambda m: m.index):
        for place, length in (
            (layout.a[module.index], module.in_features),
            (layout.b[module.index], module.out_features),
        ):
            offsets = place.offsets()
            assert len(offsets) == ranks[module.index]
            assert list(offsets) == sorted(offsets)
            firsts.append(offsets[0])
            for start in offsets:
                assert start // page == (start + length - 1) // page, "a row crosses a page"
                taken[start : start + length] += 1
    assert (taken == 1).all(), "rows and gaps tile the buffer"
    assert layout.elements % page == 0
    a = {m.name.rpartition(".")[2]: layout.a[m.index].offsets()[0] for m in modules[:7]}
    b = {m.name.rpartition(".")[2]: layout.b[m.index].offsets()[0] for m in modules[:7]}
    order = [a["q_proj"], a["k_proj"], a["v_proj"], b["q_proj"], b["k_proj"], b["v_proj"]]
    order += [a["o_proj"], b["o_proj"], a["gate_proj"], a["up_proj"], b["gate_proj"], b["up_proj"]]
    order += [a["down_proj"], b["down_proj"]]
    assert order == sorted(order)
    weights = layout.weights(torch.empty(0))
    assert weights.modules.tolist() == sorted(ranks)
    assert weights.ranks.tolist() == [ranks[index] for index in sorted(ranks)]
    assert weights.a_rows.tolist() == [o for i in sorted(ranks) for o in layout.a[i].offsets()]
    assert weights.b_rows.tolist() == [o for i in sorted(ranks) for o in layout.b[i].offsets()]


def wide_modules() -> tuple[Module, ...]:
    """Rows so long that a page holds few of them and a slab holds part of a matrix."""
    config = ModelConfig.from_dict(
        {
            "model_type": "llama",
            "hidden_size": 3072,
            "intermediate_size": 8200,
            "num_hidden_layers": 1,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "vocab_size": 150_001,
        },
        {},
    )
    return config.modules()


@pytest.mark.parametrize("stored", ["F32", "F16"])
def test_matrices_larger_than_a_page_and_a_slab(stored: str) -> None:
    modules = wide_modules()
    chosen = [m for m in modules if m.name.endswith(("q_proj", "down_proj", "lm_head"))]
    tensors = lora_tensors(chosen, rank=24, dtype=stored)
    data, digest = weights_bytes(tensors), hashlib.sha256(weights_bytes(tensors)).hexdigest()
    weights = pack(
        pieces_of(data), config_json(r=24, lora_alpha=12), digest, Recipes(modules, torch.float32)
    )
    page = page_elements(torch.float32, modules)
    assert weights.buffer.numel() % page == 0
    for name, (a, b) in unpack(weights, modules).items():
        assert np.array_equal(
            a.numpy(), tensors[f"{PREFIX}{name}.lora_A.weight"].astype(np.float32)
        )
        expected = tensors[f"{PREFIX}{name}.lora_B.weight"].T.astype(np.float32) * 0.5
        assert np.array_equal(b.numpy(), expected)
    wide = [modules[i].in_features for i in weights.modules.repeat(weights.ranks)]
    for offset, width in zip(weights.a_rows, wide, strict=True):
        assert offset // page == (offset + width - 1) // page


def test_unused_elements_are_zero(modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:1]))
    digest = hashlib.sha256(data).hexdigest()
    weights = pack(pieces_of(data), config_json(), digest, Recipes(modules, torch.float32))
    used = sum(4 * (m.in_features + m.out_features) for m in modules[:1])
    assert weights.buffer[:used].abs().min() > 0
    assert not weights.buffer[used:].any()


def test_the_buffer_is_what_the_caller_gives(modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:7]))
    digest = hashlib.sha256(data).hexdigest()
    memory = torch.full(
        (64 * 1024 * 1024,), 255, dtype=torch.uint8
    )  # nothing may be taken for zero
    args = (config_json(), digest, Recipes(modules, torch.float32))
    given = pack(pieces_of(data), *args, lambda size: memory[:size])
    own = pack(pieces_of(data, 10**9), *args)
    assert given.buffer.data_ptr() == memory.data_ptr()
    assert torch.equal(given.buffer, own.buffer)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"\0",
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data[:4],
        lambda data: b"",
    ],
    ids=["cut", "half", "longer", "one bit", "no header", "empty"],
)
def test_other_bytes_are_never_served(spoil: Any, modules: tuple[Module, ...]) -> None:
    data = weights_bytes(lora_tensors(modules[:7]))
    digest = hashlib.sha256(data).hexdigest()
    with pytest.raises(DigestMismatchError):
        pack(pieces_of(spoil(data)), config_json(), digest, Recipes(modules, torch.float32))


def test_values_beyond_float16_are_refused(modules: tuple[Module, ...]) -> None:
    tensors = lora_tensors(modules[:1])
    name = next(name for name in tensors if "lora_B" in name)
    tensors[name][5, 2] = 32_768.0
    data = weights_bytes(tensors)
    inspector = UploadInspector(config_json(), modules)
    inspector.feed(data)
    report = inspector.finish()
    with pytest.raises(BlobUnavailableError, match="overflow float16"):
        pack(
            pieces_of(data),
            report.canonical_config,
            report.weights_sha256,
            Recipes(modules, torch.float16),
        )
    recipes = Recipes(modules, torch.bfloat16)
    packed = pack(pieces_of(data), report.canonical_config, report.weights_sha256, recipes)
    assert packed.buffer.isfinite().all()


MEMORY_PROGRAM = """
import hashlib, json, resource, sys, torch
from pathlib import Path
from loraplex.adapters.blobs import file_pieces
from loraplex.adapters.packing import pack
from loraplex.adapters.recipes import Recipes
from loraplex.engine.model_config import ModelConfig
torch.set_num_threads(1)
path, config = Path(sys.argv[1]), sys.argv[2].encode()
shape = json.loads(sys.argv[3])
modules = ModelConfig.from_dict(shape, {}).modules()
torch.ones(1000).to(torch.bfloat16).mul(2)
digest = hashlib.sha256()
with path.open("rb") as file:
    while piece := file.read(1 << 20):
        digest.update(piece)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with path.open("rb") as file:
    weights = pack(file_pieces(file), config, digest.hexdigest(), Recipes(modules, torch.bfloat16))
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024, weights.buffer.nbytes, path.stat().st_size)
"""


def test_packing_holds_one_copy(tmp_path: Path) -> None:
    """A 200 MB float16 adapter: the process grows by the packed buffer and a few slabs."""
    shape = {
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 1000,
    }
    modules = ModelConfig.from_dict(shape, {}).modules()[: 16 * 7]
    shapes = {}
    for module in modules:
        for side, size in (("A", (144, module.in_features)), ("B", (module.out_features, 144))):
            shapes[f"{PREFIX}{module.name}.lora_{side}.weight"] = np.empty(size, np.float16)
    header = header_of(shapes)
    noise = (
        np.random.default_rng(0).normal(scale=0.02, size=512 * 1024).astype(np.float16).tobytes()
    )
    missing = max(
        tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"
    )
    path = tmp_path / "adapter_model.safetensors"
    with path.open("wb") as file:
        file.write(file_bytes(header, {}))
        while missing:
            missing -= file.write(noise[:missing])
    program = [sys.executable, "-c", MEMORY_PROGRAM, str(path), config_json(r=144).decode()]
    output = subprocess.run(
        [*program, json.dumps(shape)], capture_output=True, text=True, check=True
    ).stdout
    grown, packed, stored = map(int, output.split())
    assert stored > 190e6
    assert grown < packed + 24e6


def test_a_recipe_serves_every_file_with_its_header_and_config(
    modules: tuple[Module, ...],
) -> None:
    recipes = Recipes(modules, torch.float32)
    files = [weights_bytes(lora_tensors(modules[:7], seed=seed)) for seed in range(2)]
    for config in (config_json(), config_json(lora_alpha=1)):
        for data in files:
            args = (config, hashlib.sha256(data).hexdigest())
            known = pack(pieces_of(data), *args, recipes)
            fresh = pack(pieces_of(data), *args, Recipes(modules, torch.float32))
            assert torch.equal(known.buffer, fresh.buffer)
            assert np.array_equal(known.b_rows, fresh.b_rows)
    header = files[0][8 : 8 + int.from_bytes(files[0][:8], "little")]
    assert recipes.recipe(header, config_json()) is recipes.recipe(header, config_json())
    assert recipes.recipe(header, config_json()) is not recipes.recipe(header, config)
