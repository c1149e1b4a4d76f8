"""Owns the routes of aliases."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, delete, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.aliases import Aliases, Wish
from loraplex.platform.catalog.names import check_alias
from loraplex.platform.catalog.operations import RollBackAliasOperation, SetAliasOperation
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.catalog.schemas import AliasOut, AliasRollback, AliasSet
from loraplex.platform.nul import refuse_nul


class AliasController(Controller):
    """Aliases of a tenant's adapters. Operators add `?tenant=NAME`."""

    path = "/api/v1/adapters/{name:str}/aliases/{alias:str}"
    tags = ("adapters",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @put(operation_id="SetAlias", operation_class=SetAliasOperation)
    async def set_alias(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        name: FromPath[str],
        alias: FromPath[str],
        principal: NamedDependency[Principal],
        aliases: NamedDependency[Aliases],
    ) -> AliasOut:
        """Let an alias name a version, or several by weight, from the next request on."""
        check_alias(alias)
        data = decode_body(await request.body(), AliasSet)
        wish = Wish.of(data.version, data.split)
        return AliasOut.of(await aliases.set(principal, owner, name, alias, wish, data.expected))

    @post(
        "/rollback",
        operation_id="RollBackAlias",
        operation_class=RollBackAliasOperation,
        status_code=200,
    )
    async def roll_back(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        name: FromPath[str],
        alias: FromPath[str],
        principal: NamedDependency[Principal],
        aliases: NamedDependency[Aliases],
    ) -> AliasOut:
        """Let an alias name what it named before, from the next request on."""
        data = decode_body(await request.body() or b"{}", AliasRollback)
        return AliasOut.of(await aliases.roll_back(principal, owner, name, alias, data.expected))

    @delete(operation_id="DeleteAlias")
    async def delete_alias(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        alias: FromPath[str],
        principal: NamedDependency[Principal],
        aliases: NamedDependency[Aliases],
    ) -> None:
        """Remove an alias; its versions stay."""
        await aliases.delete(principal, owner, name, alias)
