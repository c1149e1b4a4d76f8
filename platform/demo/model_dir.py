"""Owns where the shipped demo model lies; tests and benchmarks ask here too."""

from importlib.resources import files
from pathlib import Path


def demo_model_dir() -> Path:
    """Directory of the demo base model: a Hugging Face checkpoint of about a million parameters."""
    return Path(str(files("loraplex") / "platform" / "demo" / "model"))
