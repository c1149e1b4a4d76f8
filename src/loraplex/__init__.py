"""loraplex serves thousands of LoRA fine-tunes from one base model."""

from importlib import metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loraplex.adapters.offline import LLM, Completion
    from loraplex.engine.sampling_params import SamplingParams

try:
    __version__ = metadata.version("loraplex")
except metadata.PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"

__all__ = ["LLM", "Completion", "SamplingParams", "__version__"]


def __getattr__(name: str) -> object:
    """Import the offline API on first use, so that `import loraplex` stays free of torch."""
    if name in ("LLM", "Completion"):
        from loraplex.adapters import offline

        return getattr(offline, name)
    if name == "SamplingParams":
        from loraplex.engine.sampling_params import SamplingParams

        return SamplingParams
    raise AttributeError(f"module 'loraplex' has no attribute {name!r}")
