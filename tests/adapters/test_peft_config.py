"""`adapter_config.json` is read by allow-list: every field that would change the numbers is supported or refused."""

import json
from typing import Any

import pytest
from peft import LoraConfig

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.peft_fields import READ, UNSUPPORTED, WITHOUT_EFFECT
from support.adapter_files import config_json


def rejected(data: bytes) -> AdapterRejected:
    with pytest.raises(AdapterRejected) as caught:
        PeftConfig.parse(data)
    return caught.value


def test_everything_peft_writes_is_known(tmp_path: Any) -> None:
    """A new PEFT release that adds a field fails here first."""
    LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]).save_pretrained(str(tmp_path))
    data = (tmp_path / "adapter_config.json").read_bytes()
    known = READ | WITHOUT_EFFECT | UNSUPPORTED.keys() | {"auto_mapping"}
    assert json.loads(data).keys() <= known
    assert PeftConfig.parse(data) == PeftConfig(rank=8, alpha=8.0, targets=("q_proj",))


def test_every_value_is_read() -> None:
    config = PeftConfig.parse(
        config_json(
            r=6,
            lora_alpha=2.5,
            use_rslora=True,
            rank_pattern={"q_proj": 2, "a|b": 3},
            alpha_pattern={"v_proj": 1},
            target_modules="all-linear",
            exclude_modules=["k_proj"],
            layers_to_transform=3,
            layers_pattern="layers",
            ensure_weight_tying=True,
            base_model_name_or_path="org/model",
        )
    )
    assert config == PeftConfig(
        rank=6,
        alpha=2.5,
        rslora=True,
        rank_pattern=(("q_proj", 2), ("a|b", 3)),
        alpha_pattern=(("v_proj", 1.0),),
        targets="all-linear",
        exclude=("k_proj",),
        layers=(3,),
        layers_pattern=("layers",),
        weight_tying=True,
        base_model="org/model",
    )
    assert config.scale(4, 6) == 3.0
    assert PeftConfig.parse(config_json()).scale(4, 6) == 1.5


@pytest.mark.parametrize(
    "fields",
    [
        # PEFT itself, when no task_type was given, and Unsloth.
        {
            "task_type": None,
            "auto_mapping": {
                "base_model_class": "Qwen3ForCausalLM",
                "parent_library": "transformers.models.qwen3.modeling_qwen3",
                "unsloth_fixed": True,
            },
        },
        {"base_model_name_or_path": "unsloth/llama-3.2-1b-bnb-4bit", "lora_dropout": 0},
        {"modules_to_save": [], "trainable_token_indices": None, "layer_replication": []},
        {"lora_dtype": "bfloat16", "lorap_lr_ratio": None, "lorap_emb_lr": 1e-6},
        {"loftq_config": {}, "megatron_core": "megatron.core", "megatron_config": None},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": False},
        {"init_lora_weights": "Gaussian"},
        {"runtime_config": {"ephemeral_gpu_offload": False}},
        {"some_future_field": None, "another": False, "third": {}},
        {"qalora_group_size": 32, "inference_mode": True, "peft_version": "0.21.2"},
        {"fan_in_fan_out": False, "bias": "none", "use_dora": False, "lora_bias": False},
    ],
)
def test_harmless_values_are_accepted_silently(fields: dict[str, object]) -> None:
    assert PeftConfig.parse(config_json(**fields)).warnings == ()


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"fan_in_fan_out": True}, "fan_in_fan_out is ignored"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
        ({"revision": "abc"}, "'abc'"),
    ],
)
def test_doubtful_values_warn(fields: dict[str, object], says: str) -> None:
    (warning,) = PeftConfig.parse(config_json(**fields)).warnings
    assert says in warning


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("use_dora", True, "DoRA"),
        ("bias", "all", 'bias="none"'),
        ("bias", "lora_only", 'bias="none"'),
        ("lora_bias", True, "lora_bias=False"),
        ("modules_to_save", ["lm_head"], "target_modules"),
        ("init_lora_weights", "pissa", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "pissa_niter_16", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "olora", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "corda", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "loftq", "path_initial_model_for_weight_conversion"),
        ("init_lora_weights", "surprise", "unknown initialisation"),
        ("init_lora_weights", 3, "boolean"),
        ("alora_invocation_tokens", [1, 2], "aLoRA"),
        ("layer_replication", [[0, 4]], "layer replication"),
        ("trainable_token_indices", [0], "embed_tokens"),
        ("trainable_token_indices", {"embed_tokens": [0]}, "embed_tokens"),
        ("target_parameters", ["experts.gate_up_proj"], "target_modules"),
        ("megatron_config", {"a": 1}, "PEFT"),
        ("megatron_core", "os", "PEFT"),
        ("use_qalora", True, "QALoRA"),
        ("use_bdlora", {"nblocks": 2}, "block-diagonal"),
        ("arrow_config", {"top_k": 2}, "Arrow"),
        ("kasa_config", {"beta": 1}, "KaSA"),
        ("velora_config", {"num_groups": 1}, "VeLoRA"),
        ("monteclora_config", {"x": 1}, "Monte Carlo"),
        ("corda_config", {"corda_method": "kpm"}, "CorDA"),
        ("loftq_config", {"loftq_bits": 4}, "LoftQ"),
        ("peft_type", "LOHA", 'only "LORA"'),
        ("peft_type", ..., "missing"),
        ("task_type", "SEQ_CLS", "CAUSAL_LM"),
        ("auto_mapping", {"base_model_class": "X", "import": "os"}, "remove it"),
        ("auto_mapping", "os", "remove it"),
        ("runtime_config", {"x": 1}, "remove it"),
        ("unheard_of", 1, "not a known field"),
        ("unheard_of", 0, "not a known field"),
        ("unheard_of", "x", "not a known field"),
        ("r", ..., "missing"),
        ("r", 0, "from 1 to 512"),
        ("r", -1, "from 1 to 512"),
        ("r", 513, "from 1 to 512"),
        ("r", 8.0, "whole number"),
        ("r", "8", "whole number"),
        ("r", True, "whole number"),
        ("r", 10**4000, "from 1 to 512"),
        ("lora_alpha", ..., "missing"),
        ("lora_alpha", 0, "other than 0"),
        ("lora_alpha", "16", "number"),
        ("lora_alpha", None, "number"),
        ("lora_alpha", 1e30, "out of range"),
        ("lora_alpha", -(10**4000), "out of range"),
        ("use_rslora", 1, "true or false"),
        ("use_rslora", "yes", "true or false"),
        ("fan_in_fan_out", "no", "true or false"),
        ("rank_pattern", ["q_proj"], "object"),
        ("rank_pattern", {"q_proj": 0}, "from 1 to 512"),
        ("rank_pattern", {"q_proj": 1.5}, "whole number"),
        ("rank_pattern", {str(i): 1 for i in range(2049)}, "2048"),
        ("alpha_pattern", {"q_proj": "x"}, "number"),
        ("alpha_pattern", "q_proj", "object"),
        ("target_modules", 3, "list of names"),
        ("target_modules", ["q_proj", 3], "list of names"),
        ("target_modules", ["q"] * 2049, "2048"),
        ("exclude_modules", {"a": 1}, "list of names"),
        ("layers_to_transform", "all", "layer number"),
        ("layers_to_transform", [1, True], "layer number"),
        ("layers_pattern", 5, "list of names"),
        ("base_model_name_or_path", ["x"], "string"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(field: str, value: object, says: str) -> None:
    error = rejected(config_json(**{field: value}))
    assert error.field == field
    assert field in error.message
    assert says in error.message
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[" * 60_000, "nested too deeply"),
        (b'{"a":' * 10_000, "nested too deeply"),
        (b'{"r": 8, "r": 16}', "'r' twice"),
        (b'{"rank_pattern": {"q": 1, "q": 2}}', "'q' twice"),
        (b'{"lora_alpha": NaN}', "NaN"),
        (b'{"lora_alpha": -Infinity}', "Infinity"),
        (b'{"r": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b" " * (64 * 1024 + 1), "at most 65536"),
    ],
)
def test_malformed_files_are_refused(data: bytes, says: str) -> None:
    error = rejected(data)
    assert error.field == "config"
    assert says in error.message


def test_messages_carry_no_control_characters() -> None:
    error = rejected(config_json(**{"evil\n\x1b[31m" + "x" * 500: 1}))
    assert error.message.isprintable()
    assert error.field.isprintable()
    assert len(error.message) < 400
