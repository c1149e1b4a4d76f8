"""Owns how the tensors of a file go into kernel layout, worked out once for all files with the same header and config:
adapters of one training recipe share them, and for a small one this takes longer than reading it."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import torch

from loraplex.adapters.canonical import resolve
from loraplex.adapters.layout import MatrixPlace, plan
from loraplex.adapters.lora_tensors import match_tensors
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.safetensors_header import TensorInfo, parse_header
from loraplex.engine.lora import LoRAWeights
from loraplex.engine.model_config import Module
from loraplex.engine.pages import page_elements

_MAX_CANONICAL_BYTES = 1024 * 1024
# A few hundred kilobytes each.
_MOST = 64


class Step(NamedTuple):
    """What becomes of one tensor.

    Attributes:
        place: where its rank rows go; None for one that is passed over.
        scale: of B, whose columns are its rank rows; None for A, whose rows are.
    """

    tensor: TensorInfo
    place: MatrixPlace | None
    scale: float | None


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a file is packed.

    Attributes:
        steps: in the order of the file.
        gaps: ranges of the buffer that hold nothing.
        elements: length of the buffer.
        weights: what comes of it, with an empty buffer.
    """

    steps: tuple[Step, ...]
    gaps: tuple[tuple[int, int], ...]
    elements: int
    weights: LoRAWeights


class Recipes:
    """Recipes for one base model, the last used ones remembered. Safe to call from any thread."""

    def __init__(self, modules: tuple[Module, ...], dtype: torch.dtype) -> None:
        self.modules = modules
        self.dtype = dtype
        self._page = page_elements(dtype, modules)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[bytes, bytes], Recipe] = OrderedDict()

    def recipe(self, header: bytes, config: bytes) -> Recipe:
        """The recipe for a file with this header (without the length in front) and canonical config.

        Raises:
            AdapterRejected: they do not fit each other or the model.
        """
        key = header, config
        with self._lock:
            known = self._known.get(key)
            if known is not None:
                self._known.move_to_end(key)
                return known
        made = self._make(header, config)
        with self._lock:
            self._known[key] = made
            while len(self._known) > _MOST:
                self._known.popitem(last=False)
        return made

    def _make(self, header: bytes, config: bytes) -> Recipe:
        parsed = parse_header(header)
        pairs = match_tensors(parsed, self.modules).pairs
        resolved = resolve(PeftConfig.parse(config, _MAX_CANONICAL_BYTES), pairs, self.modules)
        layout = plan({p.module.index: p.rank for p in pairs}, self.modules, self._page)
        steps = {t.name: Step(t, None, None) for t in parsed.tensors}
        for pair, lora in zip(pairs, resolved, strict=True):
            index = pair.module.index
            steps[pair.a.name] = Step(pair.a, layout.a[index], None)
            steps[pair.b.name] = Step(pair.b, layout.b[index], lora.scale)
        weights = layout.weights(torch.empty(0, dtype=self.dtype))
        return Recipe(tuple(steps.values()), layout.gaps, layout.elements, weights)
