"""Owns the name under which engines know a version."""

from uuid import UUID


def identity(tenant_id: UUID, digest: str) -> str:
    """One opaque string per tenant and digest, the key of every cache: equal files of two tenants have two."""
    return f"{tenant_id}/{digest}"
