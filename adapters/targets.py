"""Owns which modules a PEFT config selects. Tensor names decide what is served; this finds configs whose patterns fit
nothing, and says where names and config disagree."""

import re
from collections.abc import Callable, Iterable

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.patterns import Budget, Matcher, UnsupportedPatternError, full_matcher
from loraplex.adapters.peft_config import PeftConfig, Targets
from loraplex.adapters.strict_json import quote
from loraplex.engine.model_config import Module, ModuleKind

_LAYER_NUMBER = re.compile(r"(?:^|\.)(?P<list>[^.]+)\.(?P<number>\d+)\.")
_HEAD = "lm_head"
_Select = Callable[[Module], bool]


def check_targets(
    config: PeftConfig, modules: tuple[Module, ...], adapted: Iterable[str], budget: Budget
) -> list[str]:
    """Compare the modules that have tensors with those the config selects; returns warnings.

    Raises:
        AdapterRejected: `target_modules` is a pattern that matches no module, or no pattern at all.
    """
    adapted = set(adapted)
    if config.targets is None:
        return []
    try:
        selects = _selector(config, budget)
        excludes = _matcher("exclude_modules", config.exclude, budget)
    except UnsupportedPatternError as error:
        return [f"target_modules could not be checked ({error}); the tensor names were used."]
    targeted = {module.name for module in modules if selects(module)}
    if not targeted:
        raise AdapterRejected(
            "target_modules",
            f"target_modules {_show(config.targets)} matches no module of this base model; push the "
            "adapter to the base model it was trained on.",
        )
    targeted = {name for name in targeted if not excludes(name)}
    targeted = {name for name in targeted if _in_layers(config, name)}
    warnings = []
    if missing := sorted(targeted - adapted):
        warnings.append(f"target_modules selects modules without tensors: {_some(missing)}.")
    if extra := sorted(adapted - targeted):
        warnings.append(
            f"tensors exist for modules target_modules does not select, and are served: {_some(extra)}."
        )
    return warnings


def _selector(config: PeftConfig, budget: Budget) -> _Select:
    if isinstance(config.targets, str) and config.targets.lower() == "all-linear":
        return lambda module: module.kind is ModuleKind.LINEAR and module.name != _HEAD
    matches = _matcher("target_modules", config.targets, budget)
    return lambda module: matches(module.name)


def _matcher(field: str, targets: Targets, budget: Budget) -> Matcher:
    """PEFT's reading: a string is a full-match pattern, a list holds names or dotted suffixes of names."""
    if targets is None:
        return lambda name: False
    if isinstance(targets, str):
        return full_matcher(field, targets, budget)
    names = frozenset(targets)
    return lambda name: any(suffix in names for suffix in _suffixes(name))


def _suffixes(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def _in_layers(config: PeftConfig, name: str) -> bool:
    if config.layers is None:
        return True
    for match in _LAYER_NUMBER.finditer(name):
        if not config.layers_pattern or match["list"] in config.layers_pattern:
            return int(match["number"]) in config.layers
    return False


def _show(targets: Targets) -> str:
    return quote(targets if isinstance(targets, str) else ", ".join(targets or ()))


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
