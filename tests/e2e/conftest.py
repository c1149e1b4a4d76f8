"""Fixtures: one server for all tests that leave it as they found it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import peft_adapter, tiny_model
from support.serve import Serve, Tenant

# Long enough that a generation does not end before a test has interrupted it.
LONG_CONTEXT = 16384


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"), max_position=LONG_CONTEXT)


@pytest.fixture(scope="session")
def adapters(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four adapters of different ranks and targets."""
    folder = tmp_path_factory.mktemp("adapters")
    options = [
        (4, ["q_proj", "v_proj"]),
        (8, "all-linear"),
        (16, ["down_proj"]),
        (3, ["o_proj", "gate_proj"]),
    ]
    return [
        peft_adapter(model, folder / str(i), rank=rank, targets=targets, seed=i, strength=1.0)
        for i, (rank, targets) in enumerate(options)
    ]


@pytest.fixture(scope="session")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    with Serve(
        model, tmp_path_factory.mktemp("data"), "--max-num-seqs", "32", "--user-grammars"
    ) as serve:
        yield serve


@pytest.fixture(scope="session")
def acme(server: Serve, adapters: list[Path]) -> Tenant:
    """A tenant with two adapters, `zero` and `one`; `one` has the alias `canary`."""
    tenant = server.tenant("acme")
    assert tenant.push("zero", adapters[0]).status_code == 201
    assert tenant.push("one", adapters[1], alias="canary").status_code == 201
    return tenant


@pytest.fixture(scope="session")
def globex(server: Serve, adapters: list[Path]) -> Tenant:
    """Another tenant, with two other adapters."""
    tenant = server.tenant("globex")
    assert tenant.push("two", adapters[2]).status_code == 201
    assert tenant.push("three", adapters[3]).status_code == 201
    return tenant
