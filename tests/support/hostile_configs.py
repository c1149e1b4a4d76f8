"""Owns attacks through adapter_config.json; the weights beside it are good."""

import json
from collections.abc import Iterator

from support.hostile import Attack, good_config, good_file

_DEEP = 20_000


def config_attacks() -> Iterator[Attack]:
    """Every one of them."""
    for name, config, field, says in (*_documents(), *_fields(), *_patterns()):
        yield Attack(f"config: {name}", config, lambda: iter([good_file()]), None, field, says)


def _documents() -> Iterator[tuple[str, bytes, str, str]]:
    good = good_config()
    for name, config, says in (
        ("empty", b"", "not valid JSON"),
        ("null", b"null", "must be a JSON object"),
        ("array", b"[]", "must be a JSON object"),
        ("text", b'"LORA"', "must be a JSON object"),
        ("number", b"1", "must be a JSON object"),
        ("two documents", good + good, "not valid JSON"),
        ("trailing bytes", good + b"\0", "not valid JSON"),
        ("YAML", b"peft_type: LORA", "not valid JSON"),
        ("a pickle", b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x8c\x07os.exec\x94.", "not valid JSON"),
        ("UTF-16", good.decode().encode("utf-16"), "not valid JSON"),
        ("a byte order mark", b"\xef\xbb\xbf" + good, "not valid JSON"),
        ("broken UTF-8", good.replace(b"q_proj", b"q\xff\xc0proj"), "not valid JSON"),
        ("overlong UTF-8", good.replace(b"q_proj", b"\xc0\xafq_proj"), "not valid JSON"),
        ("a raw NUL", good.replace(b"q_proj", b"q\0proj"), "not valid JSON"),
        ("one byte too long", good + b" " * (64 * 1024 + 1 - len(good)), "at most 65536"),
        ("99 MB of spaces", good + b" " * 99_000_000, "at most 65536"),
        ("deep arrays", b"[" * _DEEP, "nested too deeply"),
        ("deep objects", b'{"a":' * 13_000, "nested too deeply"),
        ("a deep value", b'{"r":' + b"[" * _DEEP + b"]" * _DEEP + b"}", "nested too deeply"),
        ("a key twice", good[:-1] + b', "r": 64}', "'r' twice"),
        ("a key twice in disguise", good[:-1] + b', "\\u0072": 64}', "'r' twice"),
        ("an inner key twice", good[:-1] + b', "eva_config": {"a": 1, "a": 2}}', "'a' twice"),
        ("60,000 digits", b'{"r": ' + b"9" * 60_000 + b"}", "not valid JSON"),
        ("a million as keys", b"{" + b'"":0,' * 13_000 + b'"":0}', "twice"),
    ):
        yield name, config, "config", says
    for constant in ("NaN", "Infinity", "-Infinity"):
        broken = good_config(lora_alpha="?").replace(b'"?"', constant.encode())
        yield f"alpha {constant}", broken, "config", constant


def _fields() -> Iterator[tuple[str, bytes, str, str]]:
    table: tuple[tuple[str, object, str], ...] = (
        ("r", 0, "from 1 to 512"),
        ("r", -8, "from 1 to 512"),
        ("r", 513, "from 1 to 512"),
        ("r", 2**63, "from 1 to 512"),
        ("r", 10**4000, "from 1 to 512"),
        ("r", 2.0, "whole number"),
        ("r", True, "whole number"),
        ("r", "2", "whole number"),
        ("r", [2], "whole number"),
        ("r", None, "whole number"),
        ("r", ..., "missing"),
        ("r", 4, "have rank 2"),
        ("lora_alpha", 0, "other than 0"),
        ("lora_alpha", 1e308, "out of range"),
        ("lora_alpha", -1e308, "out of range"),
        ("lora_alpha", 10**4000, "out of range"),
        ("lora_alpha", 5_000_000, "beyond 10000"),
        ("lora_alpha", "16", "number"),
        ("lora_alpha", True, "number"),
        ("lora_alpha", {"x": 1}, "number"),
        ("lora_alpha", ..., "missing"),
        ("peft_type", "PROMPT_TUNING", "only"),
        ("peft_type", "LORA\0", "only"),
        ("peft_type", ["LORA"], "only"),
        ("peft_type", "lora\n2026-01-01 [error] forged line", "only"),
        ("peft_type", ..., "missing"),
        ("task_type", "SEQ_CLS", "CAUSAL_LM"),
        ("task_type", {"__reduce__": "os.system"}, "CAUSAL_LM"),
        ("auto_mapping", {"parent_library": "os", "base_model_class": "system", "x": 1}, "remove"),
        ("auto_mapping", ["os"], "remove"),
        ("auto_map", {"AutoModel": "evil--modeling.Evil"}, "not a known field"),
        ("trust_remote_code", True, "not a known field"),
        ("__class__", "x", "not a known field"),
        ("\u202egnp.exe", 1, "not a known field"),
        ("x\n2026-01-01 [error] forged", 1, "not a known field"),
        ("runtime_config", {"exec": "id"}, "remove"),
        ("megatron_config", {"tensor_model_parallel_size": 2}, "Megatron"),
        ("megatron_core", "evil.core", "Megatron"),
        ("layer_replication", [[0, 4], [2, 5]], "layer replication"),
        ("layer_replication", [[0, 10**9]], "layer replication"),
        ("modules_to_save", ["lm_head"], "fully trained"),
        ("use_dora", True, "DoRA"),
        ("use_dora", 1, "DoRA"),
        ("alora_invocation_tokens", [1, 2], "aLoRA"),
        ("trainable_token_indices", [0], "token rows"),
        ("target_parameters", ["mlp.experts.gate_up_proj"], "bare parameters"),
        ("loftq_config", {"loftq_bits": 4}, "LoftQ"),
        ("corda_config", {"cache_file": "/etc/passwd"}, "CorDA"),
        ("arrow_config", {"top_k": 3}, "Arrow"),
        ("bias", "all", "trained bias"),
        ("lora_bias", True, "lora_B"),
        ("use_qalora", True, "QALoRA"),
        ("init_lora_weights", "pissa_niter_4", "path_initial_model"),
        ("init_lora_weights", "../../weights", "unknown initialisation"),
        ("init_lora_weights", {"x": 1}, "boolean"),
        ("use_rslora", "yes", "true or false"),
        ("fan_in_fan_out", [], "true or false"),
        ("ensure_weight_tying", 1, "true or false"),
        ("base_model_name_or_path", ["/etc/passwd"], "string"),
        ("base_model_name_or_path", {"url": "http://169.254.169.254/"}, "string"),
        ("layers_to_transform", "0", "layer number"),
        ("layers_to_transform", [0, 1.5], "layer number"),
        ("layers_pattern", 7, "list of names"),
        ("target_modules", {"q_proj": 1}, "list of names"),
        ("target_modules", ["q_proj", None], "list of names"),
        ("target_modules", [f"q{i}" for i in range(2049)], "2048"),
        ("target_modules", ["no_such_module"], "matches no module"),
        ("exclude_modules", 1, "list of names"),
    )
    for number, (field, value, says) in enumerate(table):
        yield f"{field!a} {number}", good_config(**{field: value}), ascii(field)[1:-1], says


def _patterns() -> Iterator[tuple[str, bytes, str, str]]:
    many = {f"layers.{i}.self_attn.q_proj": 2 for i in range(80)}
    for name, field, value, says in (
        ("endless repetition", "rank_pattern", {"(a+)+$": 2}, "matches no module"),
        ("nested stars", "alpha_pattern", {"(.*)*(.*)*(.*)*x{1}z": 2}, "matches no module"),
        ("alternatives", "rank_pattern", {"(.|.|.|.|.|.)*zz": 2}, "matches no module"),
        ("a bomb of counts", "rank_pattern", {"((q{999}){999}){999}": 2}, "not a usable"),
        ("memory in counts", "alpha_pattern", {"(.{500}){2}|" * 40 + "x": 2}, "rank_pattern"),
        ("back reference", "rank_pattern", {r"(q)\1": 2}, "not supported"),
        ("look-around", "alpha_pattern", {"(?=q)q_proj": 2}, "not supported"),
        ("an open group", "rank_pattern", {"(q_proj": 2}, "not a usable"),
        ("a closed group", "alpha_pattern", {"q_proj)|(.*": 2}, "not a usable"),
        ("nothing", "rank_pattern", {"": 2}, "1 to 8192"),
        ("too long", "rank_pattern", {"q" * 8193: 2}, "1 to 8192"),
        ("a NUL", "rank_pattern", {"q\0proj": 2}, "matches no module"),
        ("a bomb of rank", "rank_pattern", {"q_proj": 10**9}, "from 1 to 512"),
        ("another rank", "rank_pattern", {"q_proj": 512}, "have rank 2"),
        ("rank true", "rank_pattern", {"q_proj": True}, "whole number"),
        ("nested objects", "rank_pattern", {"q_proj": {"x": 1}}, "whole number"),
        ("a list", "rank_pattern", [["q_proj", 2]], "object"),
        ("alpha out of range", "alpha_pattern", {"q_proj": 1e300}, "out of range"),
        ("scale out of range", "alpha_pattern", {"q_proj": 100_000}, "beyond 10000"),
        ("2049 entries", "rank_pattern", {f"m{i}": 2 for i in range(2049)}, "2048"),
        ("563 names", "rank_pattern", {f"m{i}": 2 for i in range(563)}, "at most one per module"),
        ("65 expressions", "alpha_pattern", {f"q_pro(j|{i})": 2 for i in range(65)}, "64 regular"),
        ("64 slow ones", "rank_pattern", _slow(64), "take too long"),
        ("a thousand maybes", "rank_pattern", {"(.?){1000}": 2}, "take too long"),
        ("a thousand stars", "alpha_pattern", {"(.*){500}x|.*": 2}, "take too long"),
        ("60 times 200 letters", "rank_pattern", _letters(60), "take too long"),
        ("100,000 instructions", "alpha_pattern", {"\\pL{500}": 2}, "not a usable"),
        ("names of no layer", "rank_pattern", {**many, "layers.80.x": 2}, "matches no module"),
    ):
        if name == "memory in counts":
            field, says = "alpha_pattern", "alpha_pattern"
        yield f"{field} with {name}", good_config(**{field: value}), field, says
    for name, pattern, says in (
        ("a thousand maybes", "(.?){1000}", "take too long"),
        ("endless repetition", "(([a-z_.0-9]+)+)+!", "matches no module"),
        ("a bomb of counts", "((q{999}){999}){999}", "not a usable"),
        ("an open class", "[q", "not a usable"),
        ("8193 characters", "q" * 8193, "1 to 8192"),
        ("a way out of the group", "q)|(.*", "not a usable"),
    ):
        config = good_config(target_modules=pattern)
        yield f"target_modules with {name}", config, "target_modules", says
    bomb = good_config(exclude_modules="((q{999}){999}){999}")
    yield "exclude_modules with a bomb of counts", bomb, "exclude_modules", "not a usable"
    assert len(json.dumps(many)) < 64 * 1024


def _letters(count: int) -> dict[str, int]:
    """Letters of every script, which take many instructions; all of them match."""
    return {f"(x{i})?.*q_proj|(\\pL{{30}})": 2 for i in range(count)}


def _slow(count: int) -> dict[str, int]:
    """Expressions as dear as RE2 lets them be; together they fill most of a config."""
    return {f"(?:.*a.{{0,200}}b){{4}}{i}" + "(x|y)*" * 60: 2 for i in range(count)}
