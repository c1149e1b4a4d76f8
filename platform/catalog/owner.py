"""Owns whose catalog a request is about: the key's own tenant, or the one an operator names with
`?tenant=`."""

from typing import Annotated
from uuid import UUID

from litestar.di import NamedDependency
from litestar.params import QueryParameter

from loraplex.platform.auth.principal import Principal
from loraplex.platform.errors import BadRequestError, NotFoundError
from loraplex.platform.tenants.service import TenantService

TenantQuery = Annotated[
    str | None,
    QueryParameter(name="tenant", description="operators only: whose adapters are meant"),
]


async def provide_owner(
    principal: NamedDependency[Principal],
    tenants: NamedDependency[TenantService],
    of_tenant: TenantQuery = None,
) -> UUID:
    """Dependency `owner`: the tenant's id.

    Raises:
        BadRequestError: an operator who named no tenant.
        NotFoundError: no such tenant, or another than the key's own.
    """
    if not principal.is_operator:
        if principal.tenant_id is None and of_tenant is None:
            raise BadRequestError("Name the tenant: add ?tenant=NAME.", param="tenant")
        if principal.tenant_id is None or of_tenant not in (None, principal.tenant_name):
            raise NotFoundError(f"There is no tenant {str(of_tenant)[:63]!r}.")
        return principal.tenant_id
    if of_tenant is None:
        raise BadRequestError(
            "An operator's key must name the tenant: add ?tenant=NAME.", param="tenant"
        )
    return (await tenants.get(of_tenant)).id


async def owner_if_any(
    principal: Principal, tenants: TenantService, of_tenant: str | None
) -> UUID | None:
    """As `provide_owner`, but for lists of which an operator who names no tenant sees all: then None."""
    if principal.is_operator and of_tenant is None:
        return None
    return await provide_owner(principal, tenants, of_tenant)
