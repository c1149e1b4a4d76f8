"""Fixtures of import tests: a hub, and an app that may ask it."""

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path

import pytest

from loraplex.platform.settings import Settings
from support.hub import Hub, hub_server
from support.services import adapter_files


@pytest.fixture
def hub(adapter_dir: Path) -> Generator[Hub]:
    """A hub with the repository `org/lora`."""
    files = adapter_files(adapter_dir)
    with hub_server() as hub:
        hub.files["org/lora"] = {
            "adapter_config.json": files["config"],
            "adapter_model.safetensors": files["weights"],
        }
        yield hub


@pytest.fixture
def settings(settings: Settings, hub: Hub, tmp_path: Path) -> Settings:
    """Imports come from the hub, and from a directory."""
    folder = tmp_path / "offered"
    folder.mkdir()
    return replace(settings, hf_endpoint=hub.url, import_dir=folder)
