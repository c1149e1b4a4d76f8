"""Fixtures: one real server with a small model, and one browser, for all tests of the dashboard."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from support.checkpoints import peft_adapter, tiny_model
from support.pages import WHY_NOT, Visitor, can_run
from support.serve import Serve, Tenant

PASSWORD = "a plain long sentence"


class Site(NamedTuple):
    """A server that was set up: an operator who owns the tenant `acme`, and a viewer there."""

    serve: Serve
    acme: Tenant
    adapter: Path
    operator: str
    viewer: str

    @property
    def url(self) -> str:
        return self.serve.url


@pytest.fixture(scope="session")
def adapter_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("adapter") / "poems"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, adapter_dir: Path) -> Iterator[Serve]:
    if not can_run():
        pytest.skip(WHY_NOT)
    # Room for an answer that is still being written when somebody stops it.
    model = tiny_model(tmp_path_factory.mktemp("model"), max_position=16384)
    peft_adapter(model, adapter_dir, rank=8, seed=1, strength=1.0)
    with Serve(model, tmp_path_factory.mktemp("data")) as serve:
        yield serve


@pytest.fixture(scope="session")
def code(served: Serve) -> str:
    """The set-up code, as `serve` prints it."""
    found = re.search(r"set.?up code\D*?:?\s+(\S{16,})", served.output(), re.IGNORECASE)
    assert found is not None, served.output()
    return found[1].rstrip(".")


@pytest.fixture(scope="session")
def browser() -> Iterator[object]:
    from support.pages import chromium

    with chromium() as found:
        yield found


@pytest.fixture
def visitor(browser: object, served: Serve) -> Iterator[Visitor]:
    from playwright.sync_api import Browser

    assert isinstance(browser, Browser)
    found = Visitor(browser, served.url)
    yield found
    found.context.close()
