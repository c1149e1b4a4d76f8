"""Owns `Principal`, who a request comes from, and what keys and users may do. Imports nothing of the web framework, so
that services and the command line can use it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a tenant's key, or a user in a tenant, may do. `admin` manages keys, members, limits and webhooks and
    includes none of the others."""

    INFERENCE = "inference"
    ADAPTERS_READ = "adapters:read"
    ADAPTERS_WRITE = "adapters:write"
    USAGE = "usage"
    ADMIN = "admin"


# Short for reading and writing; what keys of earlier releases have, which could see what they had used as well.
ADAPTERS = "adapters"
DEFAULT_SCOPES = frozenset(Scope) - {Scope.ADMIN}


def read_scopes(names: Iterable[str]) -> frozenset[Scope]:
    """Scopes by name, `adapters` being short for three.

    Raises:
        ValueError: an unknown name.
    """
    scopes: set[Scope] = set()
    for name in names:
        if name == ADAPTERS:
            scopes |= {Scope.ADAPTERS_READ, Scope.ADAPTERS_WRITE, Scope.USAGE}
        else:
            scopes.add(Scope(name))
    return frozenset(scopes)


class Role(StrEnum):
    """What a user is in a tenant. Each may do what the one before may; owners alone make and unmake owners."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def scopes(self) -> frozenset[Scope]:
        """What it allows."""
        if self is Role.VIEWER:
            return frozenset({Scope.ADAPTERS_READ, Scope.USAGE})
        return frozenset(Scope) if self in (Role.ADMIN, Role.OWNER) else DEFAULT_SCOPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """A verified key, or a signed-in user.

    Operators stand above tenants: they have no tenant and no scopes, they manage. A user without a tenant has none
    either and may do nothing but see to the own account.

    Attributes:
        actor_id: the id of the key or the user; what audit entries and ledger rows keep.
        actor_name: the name of the key, or the user's e-mail address.
        role: of a user in the tenant, None for keys and operators.
        adapters: the names of adapters a key is confined to, None for all.
        address: where the request comes from, as text; empty if unknown.
        batch: on behalf of which batch, None: the client's own request.
    """

    actor_id: str
    actor_name: str = ""
    is_operator: bool = False
    is_user: bool = False
    tenant_id: UUID | None = None
    tenant_name: str | None = None
    scopes: frozenset[Scope] = frozenset()
    role: Role | None = None
    adapters: frozenset[str] | None = None
    address: str = ""
    batch: UUID | None = None

    @property
    def viewer(self) -> UUID | None:
        """Whose things it may see: those of a tenant, or None for an operator, who may see everybody's. Guards keep out
        who has no tenant and is no operator."""
        assert self.is_operator or self.tenant_id is not None
        return self.tenant_id

    def may_see(self, adapter: str) -> bool:
        """Whether the allow-list lets this key see an adapter of its tenant."""
        return self.adapters is None or adapter in self.adapters
