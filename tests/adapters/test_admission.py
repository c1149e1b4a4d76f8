"""An adapter is served exactly as trained, or refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loraplex.adapters.admission import AdmissionReport, Verdict
from loraplex.adapters.canonical import version_digest
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.peft_directory import admit_directory
from loraplex.engine.model_config import ModelConfig, Module
from support.adapter_files import (
    PREFIX,
    config_json,
    file_bytes,
    header_of,
    lora_tensors,
    weights_bytes,
    write_directory,
)
from support.checkpoints import peft_adapter, tiny_model

Tensors = dict[str, np.ndarray[Any, Any]]
Q0 = f"{PREFIX}model.layers.0.self_attn.q_proj"
A, B = f"{Q0}.lora_A.weight", f"{Q0}.lora_B.weight"


class Admit:
    """Admits hand-made adapters for the base model of the tests."""

    def __init__(self, modules: tuple[Module, ...], path: Path) -> None:
        self.modules = modules
        self.path = path

    def __call__(self, tensors: Tensors, **options: Any) -> AdmissionReport:
        config = options.pop("config", {})
        write_directory(self.path, config_json(**config), weights_bytes(tensors))
        return admit_directory(self.path, self.modules, **options)

    def rejection(self, tensors: Tensors, **options: Any) -> AdapterRejected:
        with pytest.raises(AdapterRejected) as caught:
            self(tensors, **options)
        return caught.value


@pytest.fixture
def admit(modules: tuple[Module, ...], tmp_path: Path) -> Admit:
    return Admit(modules, tmp_path / "adapter")


@pytest.fixture
def tensors(modules: tuple[Module, ...]) -> Tensors:
    """All linears of the first layer, rank 4."""
    return lora_tensors(modules[:7])


def test_a_plain_adapter_is_accepted(admit: Admit, tensors: Tensors) -> None:
    report = admit(tensors)
    assert report.verdict is Verdict.ACCEPTED
    assert report.warnings == report.conversions == ()
    assert [m.name for m in report.modules] == [m.name for m in admit.modules[:7]]
    assert {(m.rank, m.alpha, m.scale) for m in report.modules} == {(4, 8.0, 2.0)}
    assert report.max_rank == 4
    assert report.dtypes == ("F32",)
    assert report.size == (admit.path / "adapter_model.safetensors").stat().st_size
    assert report.parameters == sum(t.size for t in tensors.values())
    stored = json.loads(json.dumps(report.as_dict()))
    assert stored["verdict"] == "accepted"
    assert stored["modules"][0]["scale"] == 2.0


def test_the_digest_names_config_and_weights(admit: Admit, tensors: Tensors) -> None:
    first = admit(tensors)
    assert first.version_digest == version_digest(first.canonical_config, first.weights_sha256)
    noise = {"lora_dropout": 0.3, "inference_mode": True, "base_model_name_or_path": "x/y"}
    same = admit(tensors, config={**noise, "target_modules": "all-linear"})
    assert same.version_digest == first.version_digest
    assert admit(tensors, config={"lora_alpha": 9}).version_digest != first.version_digest
    tensors[A][0, 0] += 1
    assert admit(tensors).version_digest != first.version_digest


def test_names_with_the_adapter_name_are_read(admit: Admit, tensors: Tensors) -> None:
    named = {name.replace(".weight", ".default.weight"): t for name, t in tensors.items()}
    assert admit(named).canonical_config == admit(tensors).canonical_config


def rename(old: str, new: str) -> Callable[[Tensors], object]:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        (lambda t: t.pop(B), "weights", "lora_A but no lora_B"),
        (lambda t: t.pop(A), "weights", "lora_B but no lora_A"),
        (lambda t: t.update({A: t[A][:, :-1].copy()}), "weights", "needs [rank, 64]"),
        (lambda t: t.update({B: t[B][:-1].copy()}), "weights", "needs [64, rank]"),
        (lambda t: t.update({A: t[A].T.copy()}), "weights", "needs [rank, 64]"),
        (lambda t: t.update({A: t[A].reshape(-1)}), "weights", "needs [rank, 64]"),
        (lambda t: t.update({A: t[A][None]}), "weights", "needs [rank, 64]"),
        (lambda t: t.update({A: t[A][:2].copy()}), "weights", "different ranks, 2 and 4"),
        (
            lambda t: t.update({A: t[A][:2].copy(), B: t[B][:, :2].copy()}),
            "r",
            "have rank 2, and r says 4",
        ),
        (lambda t: t.update({A: t[A].astype(np.float64)}), "weights", "'F64'"),
        (rename(A, A.removeprefix(PREFIX)), "weights", "as PEFT names them"),
        (rename(A, A.replace("lora_A", "lora_C")), "weights", "as PEFT names them"),
        (rename(A, A.removesuffix(".weight")), "weights", "must end in .weight"),
        (rename(A, A.replace(".0.", ".7.")), "weights", "'model.layers.7.self_attn.q_proj'"),
        (rename(A, A.replace("lora_A", "lora_embedding_A")), "weights", "not that kind of module"),
        (
            lambda t: t.update({A.replace(".weight", ".default.weight"): t[A]}),
            "weights",
            "same matrix",
        ),
        (
            lambda t: t.update({f"{Q0}.lora_magnitude_vector": t[A]}),
            "use_dora",
            "belongs to DoRA",
        ),
        (lambda t: t.update({f"{Q0}.lora_B.bias": t[A]}), "lora_bias", "bias on lora_B"),
        (lambda t: t.update({f"{Q0}.bias": t[A]}), "bias", "trained bias"),
        (
            lambda t: t.update({f"{PREFIX}model.embed_tokens.weight": t[A]}),
            "modules_to_save",
            "save_embedding_layers=False",
        ),
        (
            lambda t: t.update({f"{PREFIX}lm_head.weight": t[A]}),
            "modules_to_save",
            "whole base weight",
        ),
        (lambda t: t.update({f"{PREFIX}score.weight": t[A]}), "weights", "as PEFT names them"),
        (
            lambda t: (
                t.update({f"{Q0}.base_layer.weight": np.ones((64, 64), np.float32)})
                or [t.pop(A), t.pop(B)]
            ),
            "weights",
            "replaces a base weight",
        ),
        (
            lambda t: t.update(
                {f"{PREFIX}lm_head.base_layer.weight": np.ones((261, 64), np.float32)}
            ),
            "weights",
            "resize the vocabulary",
        ),
        (lambda t: t[A].__setitem__((1, 2), np.nan), "weights", "holds a NaN"),
        (lambda t: t[B].__setitem__((1, 2), np.inf), "weights", "infinite"),
        (lambda t: t[B].__setitem__((1, 2), 1e9), "weights", "diverged"),
        (lambda t: t.clear(), "weights", "holds no tensors"),
    ],
)
def test_wrong_tensors_are_refused(
    change: Callable[[Tensors], object], field: str, says: str, admit: Admit, tensors: Tensors
) -> None:
    change(tensors)
    error = admit.rejection(tensors)
    assert error.field == field
    assert says in error.message


@pytest.mark.parametrize(
    ("config", "field", "says"),
    [
        ({"r": 8}, "r", "have rank 4, and r says 8"),
        ({"rank_pattern": {"q_proj": 3}}, "rank_pattern", "rank 4, and rank_pattern says 3"),
        ({"rank_pattern": {"query": 4}}, "rank_pattern", "'query' matches no module"),
        ({"alpha_pattern": {r".*\.9\..*": 4}}, "alpha_pattern", "matches no module"),
        ({"alpha_pattern": {"(": 4}}, "alpha_pattern", "not a usable regular expression"),
        ({"rank_pattern": {"(?=q)q_proj": 4}}, "rank_pattern", "list the modules by name"),
        ({"rank_pattern": {f"q_proj|{i}": 4 for i in range(65)}}, "rank_pattern", "64 regular"),
        (
            {"alpha_pattern": {"." * i: 4 for i in range(1, 18)}},
            "alpha_pattern",
            "one per module (16)",
        ),
        ({"lora_alpha": 50_000}, "lora_alpha", "lower alpha"),
        ({"alpha_pattern": {"q_proj": -50_000}}, "alpha_pattern", "lower alpha"),
        ({"target_modules": "c_attn"}, "target_modules", "matches no module"),
        ({"target_modules": ["c_attn", "c_proj"]}, "target_modules", "matches no module"),
        ({"target_modules": "["}, "target_modules", "not a usable regular expression"),
    ],
)
def test_configs_that_do_not_fit_are_refused(
    config: dict[str, object], field: str, says: str, admit: Admit, tensors: Tensors
) -> None:
    error = admit.rejection(tensors, config=config)
    assert error.field == field
    assert says in error.message


def test_a_rank_beyond_the_limit_is_refused(admit: Admit, tensors: Tensors) -> None:
    assert "at most 3" in admit.rejection(tensors, max_rank=3).message
    assert admit(tensors, max_rank=4).verdict is Verdict.ACCEPTED


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"target_modules": ["layers.0.self_attn.q_proj"]}, "does not select"),
        ({"target_modules": "all-linear"}, "without tensors: model.layers.1.mlp.down_proj"),
        ({"target_modules": r"(?!x).*proj"}, "could not be checked"),
        ({"target_modules": ["q_proj"], "exclude_modules": r"(?!x)"}, "could not be checked"),
    ],
)
def test_disagreement_of_config_and_tensors_warns(
    config: dict[str, object], says: str, admit: Admit, tensors: Tensors
) -> None:
    (warning,) = admit(tensors, config=config).warnings
    assert says in warning


def test_the_pattern_unsloth_writes_is_understood(admit: Admit) -> None:
    blocks = "(?:self_attn|attention|attn|mlp|feed_forward|ffn|dense)"
    names = "(?:q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    pattern = (
        rf"(?:.*?(?:language|text).*?{blocks}.*?{names}.*?)"
        rf"|(?:\bmodel\.layers\.[\d]{{1,}}\.{blocks}\.(?:{names}))"
    )
    tensors = lora_tensors(admit.modules[:-2])
    assert admit(tensors, config={"target_modules": pattern}).warnings == ()


def test_another_base_name_only_warns(admit: Admit, tensors: Tensors) -> None:
    config = {"base_model_name_or_path": "unsloth/tiny-llama-bnb-4bit"}
    (warning,) = admit(tensors, config=config, base_model="org/tiny-llama").warnings
    assert "'unsloth/tiny-llama-bnb-4bit'" in warning
    config = {"base_model_name_or_path": "other/Tiny-Llama/"}
    assert admit(tensors, config=config, base_model="org/tiny-llama").warnings == ()


def test_zeros_warn(admit: Admit, tensors: Tensors) -> None:
    tensors[B][:] = 0
    (warning,) = admit(tensors).warnings
    assert "model.layers.0.self_attn.q_proj" in warning
    for name, tensor in tensors.items():
        if "lora_B" in name:
            tensor[:] = 0
    (warning,) = admit(tensors).warnings
    assert "changes nothing" in warning


def test_untied_adapters_of_a_tied_base_are_refused(admit: Admit) -> None:
    tensors = lora_tensors([m for m in admit.modules if m.name == "model.embed_tokens"])
    error = admit.rejection(tensors, config={"ensure_weight_tying": True})
    assert error.field == "ensure_weight_tying"
    assert admit(tensors).verdict is Verdict.ACCEPTED


def test_an_adapter_of_another_base_is_refused(tmp_path: Path, admit: Admit) -> None:
    others = (
        tiny_model(tmp_path / "narrow", hidden=32),
        tiny_model(tmp_path / "deep", layers=3),
        tiny_model(tmp_path / "heads", kv_heads=4),
    )
    for other in others:
        adapter = peft_adapter(other, other / "adapter")
        with pytest.raises(AdapterRejected, match="the base model it was trained on"):
            admit_directory(adapter, admit.modules)


def test_the_right_modules_come_from_peft_for_every_family(tmp_path: Path) -> None:
    for family in ("mistral", "qwen2", "qwen3"):
        base = tiny_model(tmp_path / family, family)
        modules = ModelConfig.from_directory(base).modules()
        adapter = peft_adapter(base, tmp_path / f"{family}-adapter")
        report = admit_directory(adapter, modules, base_model=family)
        assert [m.name for m in report.modules] == [m.name for m in modules[:-2]]
        assert report.warnings == ()


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("adapter_config.json", "adapter_config.json cannot be read"),
        ("adapter_model.safetensors", "adapter_model.safetensors cannot be read"),
    ],
)
def test_missing_files_are_named(missing: str, says: str, admit: Admit, tensors: Tensors) -> None:
    admit(tensors)
    (admit.path / missing).unlink()
    with pytest.raises(AdapterRejected, match=says):
        admit_directory(admit.path, admit.modules)


def test_pickles_are_never_opened(admit: Admit, tensors: Tensors) -> None:
    admit(tensors)
    (admit.path / "adapter_model.safetensors").rename(admit.path / "adapter_model.bin")
    with pytest.raises(AdapterRejected, match="a pickle, which is never loaded"):
        admit_directory(admit.path, admit.modules)


def test_truncated_and_longer_files_are_refused(admit: Admit, tensors: Tensors) -> None:
    data = weights_bytes(tensors)
    for spoilt, says in (
        (data[:-5], "truncated"),
        (data[:300], "truncated"),
        (data + b"x", "longer"),
    ):
        write_directory(admit.path, config_json(), spoilt)
        with pytest.raises(AdapterRejected, match=says):
            admit_directory(admit.path, admit.modules)


def test_duplicate_tensor_names_are_refused(admit: Admit, tensors: Tensors) -> None:
    header = file_bytes(header_of(tensors), {})[8:]
    twice = header[:-1] + b"," + header[1:]
    write_directory(admit.path, config_json(), file_bytes(twice, tensors))
    with pytest.raises(AdapterRejected, match="twice"):
        admit_directory(admit.path, admit.modules)
