"""Fixtures of the adapter tests: one tiny base model and its module table."""

from pathlib import Path

import pytest

from loraplex.engine.model_config import ModelConfig, Module
from support.checkpoints import tiny_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory of a two-layer Llama."""
    return tiny_model(tmp_path_factory.mktemp("base") / "tiny-llama")


@pytest.fixture(scope="session")
def modules(base: Path) -> tuple[Module, ...]:
    return ModelConfig.from_directory(base).modules()
