"""Owns the canonical form of an adapter's config: a plain PEFT config whose targets and patterns are full module
names. It is what a version is identified by, what the loader reads, and what PEFT itself can load again."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.lora_tensors import LoRAPair
from loraplex.adapters.patterns import Budget, UnsupportedPatternError, is_plain, suffix_matcher
from loraplex.adapters.peft_config import MAX_SCALE, PeftConfig
from loraplex.adapters.strict_json import quote
from loraplex.engine.model_config import Module

# Each is run over every module name while an API worker waits.
MAX_EXPRESSIONS = 64
Value = TypeVar("Value", int, float)


@dataclass(frozen=True, slots=True)
class ModuleLoRA:
    """Rank, alpha and resulting scale of one adapted module."""

    name: str
    rank: int
    alpha: float
    scale: float


def resolve(
    config: PeftConfig,
    pairs: Sequence[LoRAPair],
    modules: Sequence[Module],
    budget: Budget | None = None,
) -> tuple[ModuleLoRA, ...]:
    """Rank, alpha and scale per pair, by PEFT's rules; the rank must be that of the tensors.

    Args:
        budget: what expressions may cost; None for a config that has none, being canonical.

    Raises:
        AdapterRejected: ranks disagree, a scale is out of range, or a pattern is bad or matches no module.
    """
    names = [module.name for module in modules]
    ranks = _by_pattern("rank_pattern", config.rank_pattern, names, budget)
    alphas = _by_pattern("alpha_pattern", config.alpha_pattern, names, budget)
    return tuple(
        _resolve_one(config, pair, ranks.get(pair.module.name), alphas.get(pair.module.name))
        for pair in pairs
    )


def canonical_config(config: PeftConfig, resolved: Sequence[ModuleLoRA]) -> bytes:
    """The canonical JSON: sorted keys, no white space, UTF-8. Equal effects give equal bytes."""
    # The commonest values become the defaults, so that the form does not depend on unused ones.
    rank, alpha = _commonest([m.rank for m in resolved]), _commonest([m.alpha for m in resolved])
    document = {
        "alpha_pattern": {m.name: _number(m.alpha) for m in resolved if m.alpha != alpha},
        "bias": "none",
        "lora_alpha": _number(alpha),
        "peft_type": "LORA",
        "r": rank,
        "rank_pattern": {m.name: m.rank for m in resolved if m.rank != rank},
        "target_modules": sorted(m.name for m in resolved),
        "task_type": "CAUSAL_LM",
        "use_rslora": config.rslora,
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def version_digest(canonical: bytes, weights_sha256: str) -> str:
    """Hex sha256 that identifies a version: its canonical config and its weights file."""
    # The length keeps (config, weights) pairs apart whatever bytes they hold.
    head = f"loraplex-version-1\n{len(canonical)}\n".encode()
    return hashlib.sha256(head + canonical + bytes.fromhex(weights_sha256)).hexdigest()


def _by_pattern(
    field: str,
    patterns: Sequence[tuple[str, Value]],
    names: Sequence[str],
    budget: Budget | None,
) -> Mapping[str, Value]:
    """First matching pattern's value per name, as PEFT decides."""
    expressions = sum(not is_plain(pattern) for pattern, _ in patterns)
    if len(patterns) > len(names) or expressions > MAX_EXPRESSIONS:
        raise AdapterRejected(
            field,
            f"{field} has {len(patterns)} entries; at most one per module ({len(names)}) and "
            f"{MAX_EXPRESSIONS} regular expressions are read. List the modules by name.",
        )
    found: dict[str, Value] = {}
    for pattern, value in patterns:
        try:
            matches = suffix_matcher(field, pattern, budget)
        except UnsupportedPatternError as error:
            raise AdapterRejected(
                field,
                f"{field}: {quote(pattern)} uses what is not supported ({error}); list the modules by "
                "name instead.",
            ) from None
        matched = [name for name in names if matches(name)]
        if not matched:
            raise AdapterRejected(
                field, f"{field}: {quote(pattern)} matches no module of this base model; remove it."
            )
        for name in matched:
            found.setdefault(name, value)
    return found


def _resolve_one(
    config: PeftConfig, pair: LoRAPair, pattern_rank: int | None, pattern_alpha: float | None
) -> ModuleLoRA:
    name, rank = pair.module.name, pair.rank
    field, wanted = ("r", config.rank) if pattern_rank is None else ("rank_pattern", pattern_rank)
    if rank != wanted:
        raise AdapterRejected(
            field,
            f"the tensors of {name} have rank {rank}, and {field} says {wanted}; push the config "
            "that was saved with these weights.",
        )
    alpha = config.alpha if pattern_alpha is None else pattern_alpha
    scale = config.scale(rank, alpha)
    if abs(scale) > MAX_SCALE:
        field = "lora_alpha" if pattern_alpha is None else "alpha_pattern"
        raise AdapterRejected(
            field, f"{field}: the scale of {name} is {scale:g}, beyond {MAX_SCALE:g}; lower alpha."
        )
    return ModuleLoRA(name, rank, alpha, scale)


def _commonest(values: Sequence[Value]) -> Value:
    return max(sorted(set(values)), key=values.count)


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value
