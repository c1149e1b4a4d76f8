"""Owns `Principal`, who a request comes from, and the scopes a key can have. Imports nothing of the
web framework, so that services and the command line can use it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a tenant's key may do. `admin` manages the tenant's keys and includes neither of the others."""

    INFERENCE = "inference"
    ADAPTERS = "adapters"
    ADMIN = "admin"


DEFAULT_SCOPES = frozenset({Scope.INFERENCE, Scope.ADAPTERS})


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified key. An operator's key stands above tenants: it has no tenant and no scopes, it manages."""

    key_id: str
    tenant_id: UUID | None
    tenant_name: str | None
    scopes: frozenset[Scope]

    @property
    def is_operator(self) -> bool:
        return self.tenant_id is None
