"""Owns what an API worker knows about a base model: its shapes, its tokenizer and its chat template, but no weights."""

import json
from dataclasses import dataclass
from pathlib import Path

from loraplex.engine.model_config import ModelConfig
from loraplex.engine.pooling import Method
from loraplex.engine.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A served base model.

    Attributes:
        tokenizer: None when its directory has none, and then only token ids are taken.
        pooling: how it was trained to make vectors, if it was.
    """

    name: str
    config: ModelConfig
    tokenizer: Tokenizer | None
    pooling: Method = "last"

    @classmethod
    def load(cls, name: str, path: Path) -> "BaseModel":
        """Read the small files of a model directory.

        Raises:
            UnsupportedModelError: it holds no model that can be served.
        """
        has_tokenizer = (path / "tokenizer.json").exists()
        tokenizer = Tokenizer.from_directory(path) if has_tokenizer else None
        return cls(name, ModelConfig.from_directory(path), tokenizer, pooling_of(path))


def pooling_of(path: Path) -> Method:
    """What a model directory says of vectors in the way of sentence-transformers; "last" if it does not, as suits
    models whose tokens see only what stands before them."""
    try:
        config = json.loads((path / "1_Pooling" / "config.json").read_text())
    except (OSError, ValueError):
        return "last"
    mean = isinstance(config, dict) and config.get("pooling_mode_mean_tokens") is True
    return "mean" if mean else "last"
