"""Owns the routes of golden prompts; what they are and how they fared is part of the version."""

from typing import Any
from uuid import UUID

from litestar import Controller, Request, post, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.golden import read_golden
from loraplex.platform.catalog.golden_checks import GoldenChecks
from loraplex.platform.catalog.operations import SetGoldenOperation
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.catalog.schemas import GoldenList, GoldenSet
from loraplex.platform.nul import refuse_nul


class GoldenController(Controller):
    """Golden prompts of a tenant's versions. Operators add `?tenant=NAME`."""

    path = "/api/v1/adapters/{name:str}/versions/{n:int}/golden"
    tags = ("adapters",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @put(operation_id="SetGolden", operation_class=SetGoldenOperation)
    async def set_golden(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        golden: NamedDependency[GoldenChecks],
    ) -> GoldenList:
        """Replace the golden prompts of a version; none of them has been asked then."""
        data = decode_body(await request.body(), GoldenSet)
        prompts = read_golden(bytes(data.golden))
        return GoldenList.of(await golden.replace(principal, owner, name, n, prompts))

    @post("/check", operation_id="CheckGolden", status_code=200)
    async def check_golden(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        golden: NamedDependency[GoldenChecks],
    ) -> GoldenList:
        """Ask a version its golden prompts now, and wait for the answers."""
        return GoldenList.of(await golden.check(principal, owner, name, n))
