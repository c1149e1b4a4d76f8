"""Owns the verdict on an adapter: everything its config and header promise, proved against the base model's module
table. Imports no torch, because it runs in API workers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from loraplex.adapters.canonical import ModuleLoRA, canonical_config, resolve, version_digest
from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.lora_tensors import LoRAPair, match_tensors
from loraplex.adapters.patterns import Budget
from loraplex.adapters.peft_config import PeftConfig
from loraplex.adapters.safetensors_header import Header
from loraplex.adapters.strict_json import quote
from loraplex.adapters.targets import check_targets
from loraplex.engine.config import MAX_RANK
from loraplex.engine.model_config import Module, ModuleKind


class Verdict(StrEnum):
    ACCEPTED = "accepted"
    ACCEPTED_WITH_CONVERSION = "accepted_with_conversion"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class AdmissionReport:
    """What was found out about an adapter; JSON-ready through `as_dict`.

    Attributes:
        field, message: of a rejection, else None.
        conversions: what is served differently from how it was stored.
        warnings: sentences its owner should read.
        modules: rank, alpha and scale of each adapted module, by module index.
        dtypes: of the LoRA tensors, sorted: F32, F16, BF16.
        parameters: number of LoRA values.
        size: bytes of the weights file.
        weights_sha256: hex; empty until the whole file was seen.
        canonical_config: see `canonical.canonical_config`; empty when rejected.
    """

    verdict: Verdict
    field: str | None = None
    message: str | None = None
    conversions: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    modules: tuple[ModuleLoRA, ...] = ()
    dtypes: tuple[str, ...] = ()
    parameters: int = 0
    size: int = 0
    weights_sha256: str = ""
    canonical_config: bytes = b""

    @classmethod
    def rejection(cls, error: AdapterRejected) -> "AdmissionReport":
        return cls(Verdict.REJECTED, field=error.field, message=error.message)

    @property
    def max_rank(self) -> int:
        return max((module.rank for module in self.modules), default=0)

    @property
    def version_digest(self) -> str:
        """Identity of the version; only of a finished, accepted report."""
        return version_digest(self.canonical_config, self.weights_sha256)

    def as_dict(self) -> dict[str, object]:
        """Everything as JSON values."""
        return {
            **asdict(self),
            "verdict": self.verdict.value,
            "canonical_config": self.canonical_config.decode(),
            "max_rank": self.max_rank,
        }


def admit(
    config: PeftConfig,
    header: Header,
    modules: tuple[Module, ...],
    *,
    base_model: str | None = None,
    max_rank: int = MAX_RANK,
) -> AdmissionReport:
    """Judge an adapter by its config and header; values are `ValueScan`'s business.

    Args:
        base_model: name of the served base model, to warn when the adapter names another.
        max_rank: largest rank of any module.

    Raises:
        AdapterRejected: it cannot be served; `field` names the fault.
    """
    tensors = match_tensors(header, modules)
    budget = Budget(module.name for module in modules)
    resolved = resolve(config, tensors.pairs, modules, budget)
    for module in resolved:
        if module.rank > max_rank:
            raise AdapterRejected(
                "r",
                f"module {module.name} has rank {module.rank}, and at most {max_rank} is allowed; "
                "train with a lower rank.",
            )
    _check_tying(config, tensors.pairs)
    conversions = [
        f"the copy of the base model's {quote(copy.name)} is not used; the served base's own is."
        for copy in tensors.base_copies
    ]
    lora = [tensor for pair in tensors.pairs for tensor in (pair.a, pair.b)]
    return AdmissionReport(
        verdict=Verdict.ACCEPTED_WITH_CONVERSION if conversions else Verdict.ACCEPTED,
        conversions=tuple(conversions),
        warnings=(
            *config.warnings,
            *_base_warning(config.base_model, base_model),
            *check_targets(config, modules, (module.name for module in resolved), budget),
        ),
        modules=resolved,
        dtypes=tuple(sorted({tensor.dtype for tensor in lora})),
        parameters=sum(tensor.shape[0] * tensor.shape[1] for tensor in lora),
        size=header.file_size,
        canonical_config=canonical_config(config, resolved),
    )


def zero_warnings(pairs: Sequence[LoRAPair], zeros: Sequence[str]) -> list[str]:
    """Warnings about tensors of zeros, which make their module's LoRA do nothing."""
    zero = set(zeros)
    idle = [p.module.name for p in pairs if p.a.name in zero or p.b.name in zero]
    if not idle:
        return []
    if len(idle) == len(pairs):
        return ["every module has an all-zero lora_A or lora_B: the adapter changes nothing."]
    return [f"{len(idle)} modules have an all-zero lora_A or lora_B, the first is {idle[0]}."]


def _check_tying(config: PeftConfig, pairs: Sequence[LoRAPair]) -> None:
    if not config.weight_tying:
        return
    adapted = {pair.module.name for pair in pairs}
    embedding = any(pair.module.kind is ModuleKind.EMBEDDING for pair in pairs)
    if embedding != ("lm_head" in adapted):
        raise AdapterRejected(
            "ensure_weight_tying",
            "ensure_weight_tying is set, but only one of embedding and lm_head has tensors; save the "
            "adapter with a current PEFT, which writes both.",
        )


def _base_warning(trained_on: str | None, served: str | None) -> list[str]:
    if not trained_on or not served:
        return []
    names = [name.rstrip("/").rpartition("/")[2].lower() for name in (trained_on, served)]
    if names[0] == names[1]:
        return []
    return [
        f"the adapter was trained on {quote(trained_on)} and is served on {quote(served)}; modules and "
        "shapes fit."
    ]
