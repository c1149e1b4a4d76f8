"""Owns what an API worker knows about a base model: its shapes, its tokenizer and its chat template, but no weights."""

from dataclasses import dataclass
from pathlib import Path

from loraplex.engine.model_config import ModelConfig
from loraplex.engine.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A served base model; `tokenizer` is None when its directory has none, and then only token ids are taken."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer | None

    @classmethod
    def load(cls, name: str, path: Path) -> "BaseModel":
        """Read the small files of a model directory.

        Raises:
            UnsupportedModelError: it holds no model that can be served.
        """
        has_tokenizer = (path / "tokenizer.json").exists()
        tokenizer = Tokenizer.from_directory(path) if has_tokenizer else None
        return cls(name, ModelConfig.from_directory(path), tokenizer)
