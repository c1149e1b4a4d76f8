"""Owns reading PEFT's `adapter_config.json`: strictly, by allow-list, into a `PeftConfig`. Nothing it names is ever
imported, resolved or downloaded."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Never

from loraplex.adapters import peft_fields
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.strict_json import parse_object, quote
from loraplex.engine.config import MAX_RANK

MAX_CONFIG_BYTES = 64 * 1024
MAX_PATTERNS = 2048
# A larger scale is a mistake in lora_alpha, and overflows half precision.
MAX_SCALE = 10_000.0
Targets = str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What decides the numbers of a LoRA, as its author wrote it.

    Attributes:
        rank, alpha: of modules without a pattern.
        rslora: scale is alpha / sqrt(rank) instead of alpha / rank.
        rank_pattern, alpha_pattern: (regular expression, value) in file order; the first match counts.
        targets, exclude: a regular expression, names, or None; `targets` may be "all-linear".
        layers: layer numbers `targets` is limited to, None for all.
        layers_pattern: names of the layer list, empty for any.
        weight_tying: the author asked PEFT to tie embedding and head adapters.
        base_model: what the author trained on; informative only.
        warnings: sentences for the admission report.
    """

    rank: int
    alpha: float
    rslora: bool = False
    rank_pattern: tuple[tuple[str, int], ...] = ()
    alpha_pattern: tuple[tuple[str, float], ...] = ()
    targets: Targets = None
    exclude: Targets = None
    layers: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    weight_tying: bool = False
    base_model: str | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, data: bytes, max_bytes: int = MAX_CONFIG_BYTES) -> "PeftConfig":
        """Read the bytes of an `adapter_config.json`.

        Raises:
            AdapterRejected: malformed, or a field has a value that cannot be served; `field` names it.
        """
        if len(data) > max_bytes:
            raise AdapterRejected(
                "config",
                f"adapter_config.json has {len(data)} bytes; at most {max_bytes} are read.",
            )
        raw = parse_object(data, "config", "adapter_config.json")
        _check_type(raw)
        _refuse_unsupported(raw)
        warnings = [*_check_init(raw.get("init_lora_weights")), *_notes(raw)]
        return cls(
            rank=_rank("r", raw["r"]) if "r" in raw else _missing("r"),
            alpha=_alpha("lora_alpha", raw["lora_alpha"])
            if "lora_alpha" in raw
            else _missing("lora_alpha"),
            rslora=_bool(raw, "use_rslora"),
            rank_pattern=tuple(
                (key, _rank("rank_pattern", value)) for key, value in _pattern(raw, "rank_pattern")
            ),
            alpha_pattern=tuple(
                (key, _alpha("alpha_pattern", value))
                for key, value in _pattern(raw, "alpha_pattern")
            ),
            targets=_targets(raw, "target_modules"),
            exclude=_targets(raw, "exclude_modules"),
            layers=_layers(raw.get("layers_to_transform")),
            layers_pattern=_names(raw, "layers_pattern"),
            weight_tying=_bool(raw, "ensure_weight_tying"),
            base_model=_optional_str(raw, "base_model_name_or_path"),
            warnings=tuple(warnings),
        )

    def scale(self, rank: int, alpha: float) -> float:
        """The factor PEFT multiplies B·A·x with."""
        return alpha / math.sqrt(rank) if self.rslora else alpha / rank


def _check_type(raw: Mapping[str, object]) -> None:
    kind = raw.get("peft_type")
    if kind != "LORA":
        what = "is missing" if kind is None else f"is {_show(kind)}"
        raise AdapterRejected("peft_type", f'peft_type {what}; only "LORA" adapters are served.')
    task = raw.get("task_type")
    if task not in (None, "CAUSAL_LM"):
        raise AdapterRejected(
            "task_type",
            f'task_type is {_show(task)}; only "CAUSAL_LM" adapters are served.',
        )


def _refuse_unsupported(raw: Mapping[str, object]) -> None:
    for field, value in raw.items():
        if field in peft_fields.READ or field in peft_fields.WITHOUT_EFFECT:
            continue
        if peft_fields.is_empty(value):
            continue
        if field == "auto_mapping":
            _only_keys(field, value, peft_fields.AUTO_MAPPING_KEYS)
        elif field == "runtime_config":
            _only_keys(field, value, peft_fields.RUNTIME_CONFIG_KEYS)
        elif field not in peft_fields.UNSUPPORTED:
            raise AdapterRejected(
                quote(field)[1:-1],
                f"{quote(field)} is not a known field of a LoRA config, so its effect is unknown; "
                "remove it if it does not change what the adapter computes.",
            )
        else:
            unsupported = peft_fields.UNSUPPORTED[field]
            if value not in unsupported.values:
                raise AdapterRejected(
                    field,
                    f"{field} asks for {unsupported.name}, which is not supported. "
                    f"{unsupported.way_out}",
                )


def _only_keys(field: str, value: object, allowed: frozenset[str]) -> None:
    if not isinstance(value, dict) or not value.keys() <= allowed:
        raise AdapterRejected(
            field, f"{field} may hold only {', '.join(sorted(allowed))}; remove it, it is not used."
        )


def _check_init(init: object) -> list[str]:
    if init is None or isinstance(init, bool):
        return []
    if not isinstance(init, str):
        raise AdapterRejected("init_lora_weights", "init_lora_weights must be a name or a boolean.")
    name = init.lower()
    if name in peft_fields.PLAIN_INITS:
        return []
    if name in peft_fields.DOUBTFUL_INITS:
        return [
            f"init_lora_weights is {init!r}: it is served as the plain LoRA that PEFT reloads; "
            "compare its answers with those seen in training."
        ]
    if name.startswith(peft_fields.BASE_CHANGING_INITS):
        raise AdapterRejected(
            "init_lora_weights",
            f"init_lora_weights is {quote(init)}, which changes the base model's weights. Convert "
            "with save_pretrained(..., path_initial_model_for_weight_conversion=...) to get a "
            "plain LoRA.",
        )
    raise AdapterRejected(
        "init_lora_weights",
        f"init_lora_weights is {quote(init)}, an unknown initialisation that may have changed the "
        "base model's weights; set it to true if it did not.",
    )


def _notes(raw: Mapping[str, object]) -> list[str]:
    notes = []
    if _bool(raw, "fan_in_fan_out"):
        # PEFT resets it for torch.nn.Linear and stores A as [r, in], B as [out, r] either way.
        notes.append("fan_in_fan_out is ignored: all modules of this base model are plain linears.")
    revision = raw.get("revision")
    if revision not in (None, "", "main"):
        notes.append(f"revision {_show(revision)} of the base model is not checked.")
    return notes


def _missing(field: str) -> Never:
    raise AdapterRejected(field, f"{field} is missing; PEFT always writes it.")


def _rank(field: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_RANK:
        raise AdapterRejected(
            field,
            f"{field}: a rank must be a whole number from 1 to {MAX_RANK}, not {_show(value)}.",
        )
    return value


def _alpha(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value == 0:
        raise AdapterRejected(
            field, f"{field}: alpha must be a number other than 0, not {_show(value)}."
        )
    if not -MAX_SCALE * MAX_RANK <= value <= MAX_SCALE * MAX_RANK:
        raise AdapterRejected(field, f"{field}: {_show(value)} is far out of range for an alpha.")
    return float(value)


def _bool(raw: Mapping[str, object], field: str) -> bool:
    value = raw.get(field)
    if value is not None and not isinstance(value, bool):
        raise AdapterRejected(field, f"{field} must be true or false, not {_show(value)}.")
    return bool(value)


def _optional_str(raw: Mapping[str, object], field: str) -> str | None:
    value = raw.get(field)
    if value is not None and not isinstance(value, str):
        raise AdapterRejected(field, f"{field} must be a string, not {_show(value)}.")
    return value or None


def _names(raw: Mapping[str, object], field: str) -> tuple[str, ...]:
    value = raw.get(field)
    if value is None:
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise AdapterRejected(field, f"{field} must be a name or a list of names.")
    if len(names) > MAX_PATTERNS:
        raise AdapterRejected(field, f"{field} has more than {MAX_PATTERNS} entries.")
    return tuple(names)


def _targets(raw: Mapping[str, object], field: str) -> Targets:
    value = raw.get(field)
    if isinstance(value, str) and value:
        return value
    return _names(raw, field) or None


def _pattern(raw: Mapping[str, object], field: str) -> list[tuple[str, object]]:
    value = raw.get(field)
    if value is None:
        return []
    if not isinstance(value, dict) or len(value) > MAX_PATTERNS:
        raise AdapterRejected(
            field, f"{field} must be an object of at most {MAX_PATTERNS} entries, pattern to value."
        )
    return list(value.items())


def _layers(value: object) -> tuple[int, ...] | None:
    numbers = [value] if isinstance(value, int) else value
    if numbers is None or numbers == []:
        return None
    if not isinstance(numbers, list) or not all(
        isinstance(number, int) and not isinstance(number, bool) for number in numbers
    ):
        raise AdapterRejected(
            "layers_to_transform", "layers_to_transform must be a layer number or a list of them."
        )
    return tuple(numbers)


def _show(value: object) -> str:
    return quote(value if isinstance(value, str) else str(value))
