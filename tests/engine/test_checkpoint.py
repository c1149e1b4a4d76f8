"""Reading checkpoints: bytes land where they belong whatever the piece size, and damaged files are named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from loraplex.engine.model_config import ModelConfig, UnsupportedModelError
from loraplex.engine.models import checkpoint, weights
from loraplex.engine.models.checkpoint import read_headers, read_into

SHAPES = {"long": (37, 11), "wide": (3, 129), "flat": (7,), "one": (1,)}


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def write_shards(folder: Path, dtype: torch.dtype) -> tuple[list[Path], dict[str, torch.Tensor]]:
    tensors = {name: torch.randn(shape).to(dtype) for name, shape in SHAPES.items()}
    paths = []
    for number, names in enumerate((("long", "one"), ("wide", "flat"))):
        paths.append(folder / f"{number}.safetensors")
        save_file({name: tensors[name] for name in names}, paths[-1])
    return paths, tensors


@pytest.mark.parametrize("piece_bytes", [8, 64, 2**20])
@pytest.mark.parametrize("stored", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("wanted", [torch.bfloat16, torch.float32])
def test_every_tensor_arrives(
    tmp_path: Path,
    device: torch.device,
    monkeypatch: pytest.MonkeyPatch,
    piece_bytes: int,
    stored: torch.dtype,
    wanted: torch.dtype,
) -> None:
    monkeypatch.setattr(checkpoint, "_PIECE_BYTES", piece_bytes)
    paths, tensors = write_shards(tmp_path, stored)
    targets = {
        name: torch.full(shape, float("nan"), dtype=wanted, device=device)
        for name, shape in SHAPES.items()
    }
    headers = read_headers(paths)
    assert set(headers) == set(SHAPES)
    read_into([(headers[name], target) for name, target in targets.items()])
    for name, target in targets.items():
        assert torch.equal(target.cpu(), tensors[name].to(wanted)), name


def test_parts_of_one_fused_tensor(tmp_path: Path, device: torch.device) -> None:
    """What lies beside a part stays as it was."""
    paths, tensors = write_shards(tmp_path, torch.float32)
    fused = torch.zeros(50, 11, device=device)
    read_into([(read_headers(paths)["long"], fused[5:42])])
    assert torch.equal(fused[5:42].cpu(), tensors["long"])
    assert not fused[:5].any()
    assert not fused[42:].any()


def test_damaged_files_are_named(tmp_path: Path) -> None:
    (good, _), _ = write_shards(tmp_path, torch.float32)
    whole = good.read_bytes()
    bad = tmp_path / "bad.safetensors"
    length = int.from_bytes(whole[:8], "little")
    damages = {
        "empty": b"",
        "cut within the header": whole[: length // 2],
        "cut within the data": whole[:-1],
        "no JSON": whole[:8] + b"{" * length + whole[8 + length :],
        "absurd header length": (2**60).to_bytes(8, "little") + whole[8:],
    }
    for what, content in damages.items():
        bad.write_bytes(content)
        with pytest.raises(UnsupportedModelError, match=r"bad\.safetensors is damaged"):
            pytest.fail(f"{what}: {read_headers([bad])}")
    with pytest.raises(UnsupportedModelError, match=r"gone\.safetensors cannot be read"):
        read_headers([tmp_path / "gone.safetensors"])


def test_file_that_shrinks_while_it_is_read(tmp_path: Path, device: torch.device) -> None:
    paths, _ = write_shards(tmp_path, torch.float32)
    headers = read_headers(paths)
    paths[0].write_bytes(paths[0].read_bytes()[:-8])
    with pytest.raises(UnsupportedModelError, match="ended while it was read"):
        read_into([(headers["long"], torch.empty(37, 11, device=device)) for _ in range(4)])


def test_quantised_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"weight": torch.zeros(4, 4, dtype=torch.int8)}, path)
    with pytest.raises(UnsupportedModelError, match=r"weight in .* is stored as I8"):
        read_headers([path])


def small_model(folder: Path) -> ModelConfig:
    (folder / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 16,
                "intermediate_size": 24,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "num_key_value_heads": 1,
                "vocab_size": 20,
                "max_position_embeddings": 32,
                "rms_norm_eps": 1e-5,
                "rope_theta": 1e4,
                "torch_dtype": "float32",
            }
        )
    )
    return ModelConfig.from_directory(folder)


def test_missing_and_misshapen_tensors_are_named(tmp_path: Path, device: torch.device) -> None:
    config = small_model(tmp_path)
    target = weights.allocate(config, torch.float32, device)
    tensors = {
        name: torch.randn(tensor.shape) for name, tensor in weights.checkpoint_names(target, config)
    }
    file = tmp_path / "model.safetensors"
    lacking = {name: t for name, t in tensors.items() if not name.endswith("q_proj.weight")}
    save_file(lacking, file)
    with pytest.raises(UnsupportedModelError, match=r"lacks 1 tensors.*q_proj\.weight"):
        weights.load(target, config, tmp_path)
    wrong = {**tensors, "model.norm.weight": torch.zeros(17)}
    save_file(wrong, file)
    with pytest.raises(UnsupportedModelError, match=r"model\.norm\.weight has shape \[17\]"):
        weights.load(target, config, tmp_path)
    save_file(tensors, file)
    weights.load(target, config, tmp_path)
    for name, tensor in weights.checkpoint_names(target, config):
        assert torch.equal(tensor.cpu(), tensors[name]), name
