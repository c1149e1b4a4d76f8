"""Owns whose files and batches a request is about: its key's tenant's. Operators have none, and are kept out before. A
key that is confined to some adapters has only those it made: the others tell of adapters that it may not see."""

from uuid import UUID

from loraplex.platform.auth.principal import Principal


def owner_of(principal: Principal) -> UUID:
    """The tenant of a key of the data plane."""
    assert principal.tenant_id is not None
    return principal.tenant_id


def maker_of(principal: Principal) -> str | None:
    """The key that must have made what is asked for; None if it may be any of its tenant."""
    return None if principal.adapters is None else principal.actor_id
