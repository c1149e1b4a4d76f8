"""Owns telling every API worker of a machine that a tenant's catalog has changed, so that they can remember what names
mean: a few bytes of memory that all of them share, through a file in the data directory."""

import mmap
import secrets
from pathlib import Path
from uuid import UUID

FILE = "catalog.epochs"
# Tenants share slots; one more change seen by a neighbour costs it one query.
SLOTS = 4096
WIDTH = 8  # bytes of a slot: random, so that no two writers have to agree on the next number


class Epochs:
    """One token per tenant, another one after each change. The database stays the truth: a process that dies between
    its commit and `change`, and other machines, are why nobody may remember for long."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / FILE).open("ab") as file:
            file.truncate(SLOTS * WIDTH)
        with (folder / FILE).open("r+b") as file:
            self._slots = mmap.mmap(file.fileno(), SLOTS * WIDTH)

    def of(self, tenant_id: UUID) -> bytes:
        """The present token; read it before the database."""
        begin = _slot(tenant_id)
        return self._slots[begin : begin + WIDTH]

    def change(self, tenant_id: UUID) -> None:
        """Call after the commit, before anybody is told of it."""
        begin = _slot(tenant_id)
        self._slots[begin : begin + WIDTH] = secrets.token_bytes(WIDTH)


def _slot(tenant_id: UUID) -> int:
    return tenant_id.int % SLOTS * WIDTH  # the low bits of our ids are random
