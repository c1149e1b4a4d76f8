"""Owns whose files a request is about: its key's tenant. Operators have none, and are kept out before."""

from uuid import UUID

from loraplex.platform.auth.principal import Principal


def owner_of(principal: Principal) -> UUID:
    """The tenant of a key of the data plane."""
    assert principal.tenant_id is not None
    return principal.tenant_id
