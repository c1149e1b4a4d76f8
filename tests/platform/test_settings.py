"""Settings travel between processes unchanged, and say what is wrong with them."""

from pathlib import Path

import pytest

from loraplex.platform.db.database import database_url
from loraplex.platform.settings import ServedModel, Settings, SettingsError, parse_size


def test_settings_survive_json() -> None:
    settings = Settings(
        data_dir=Path("/d"),
        models=(ServedModel(Path("/m/a"), "a"), ServedModel(Path("/m/b"), "org/b:1")),
        database_url="postgresql://u:p@h/d",
        max_model_len=4096,
        bootstrap_key="k" * 16,
    )
    assert Settings.from_json(settings.to_json()) == settings
    assert "k" * 16 not in repr(settings)
    assert "u:p@h" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GiB", 4 * 1024**3),
        ("1.5g", 3 * 2**29),
        ("512MB", 512_000_000),
        ("64m", 64 * 2**20),
        (" 10 kib ", 10240),
        ("123", 123),
        ("7B", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "4 XB", "1e9", "4GiBs"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a size"):
        parse_size(text)


def test_two_models_need_two_names() -> None:
    with pytest.raises(SettingsError, match="--served-model-name"):
        Settings(data_dir=Path(), models=(ServedModel(Path("a"), "x"), ServedModel(Path("b"), "x")))


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("", "sqlite+aiosqlite"),
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite"),
        ("postgres://u@h/d", "postgresql+asyncpg"),
        ("postgresql://u@h/d", "postgresql+asyncpg"),
    ],
)
def test_database_urls(url: str, driver: str) -> None:
    assert database_url(Settings(data_dir=Path("d"), database_url=url)).drivername == driver


@pytest.mark.parametrize("url", ["mysql://u@h/d", "sqlite://", "sqlite:///:memory:", "nonsense"])
def test_databases_that_are_not_supported(url: str) -> None:
    with pytest.raises(SettingsError, match="--database-url"):
        database_url(Settings(data_dir=Path("d"), database_url=url))
