"""Fixtures: a real server with a small model per file, and one browser, for the tests of the dashboard."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import peft_adapter, tiny_model
from support.pages import WHY_NOT, Visitor, can_run
from support.people import PASSWORD, Site, join, visit
from support.serve import Serve


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Room for an answer that is still being written when somebody stops it.
    return tiny_model(tmp_path_factory.mktemp("model"), max_position=16384)


@pytest.fixture(scope="session")
def adapter_dir(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "poems"
    peft_adapter(tiny, folder, rank=8, seed=1, strength=1.0)
    return folder


@pytest.fixture(scope="module")
def served(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """A server that nobody has set up yet, for the tests of one file."""
    if not can_run():
        pytest.skip(WHY_NOT)
    with Serve(tiny, tmp_path_factory.mktemp("data")) as serve:
        yield serve


@pytest.fixture(scope="module")
def code(served: Serve) -> str:
    """The set-up code, as `serve` prints it."""
    found = re.search(r"set.?up code\D*?:?\s+(\S{16,})", served.output(), re.IGNORECASE)
    assert found is not None, served.output()
    return found[1].rstrip(".")


@pytest.fixture(scope="module")
def site(served: Serve, code: str) -> Site:
    """The server of one file with its first people, without adapters."""
    people = Site(served, served.tenant("acme"), "op@example.com", "viewer@example.com")
    first = {"code": code, "email": people.operator, "password": PASSWORD, "name": "Olga"}
    visit(served, "/api/v1/setup", first)
    owner = {"email": people.operator, "role": "owner"}
    served.operator.post("/api/v1/tenants/acme/members", json=owner).raise_for_status()
    join(served, people.viewer, "viewer", "Vera")
    return people


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
