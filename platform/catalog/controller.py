"""Owns the routes of adapters and their versions."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar
from uuid import UUID

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_adapters
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.defaults import read_defaults
from loraplex.platform.catalog.golden import read_golden
from loraplex.platform.catalog.intake import Intake
from loraplex.platform.catalog.multipart import read_adapter_form
from loraplex.platform.catalog.operations import (
    ChangeAdapterOperation,
    PushOperation,
)
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.catalog.removal import Removals
from loraplex.platform.catalog.rows import no_adapter
from loraplex.platform.catalog.schemas import (
    AdapterChange,
    AdapterList,
    AdapterOut,
    VersionList,
    VersionOut,
)
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.catalog.table import AdapterTable, Include, Wanted
from loraplex.platform.engines.messages import Tier
from loraplex.platform.errors import BadRequestError
from loraplex.platform.nul import refuse_nul
from loraplex.platform.settings import Settings

# One request; larger adapters go through /api/v1/uploads.
MULTIPART_LIMIT = 2 * 1024**3
Read = TypeVar("Read")
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
BaseQuery = Annotated[
    str, QueryParameter(name="base", description="part of a base model's name, in whatever case")
]
AliasQuery = Annotated[
    str, QueryParameter(name="alias", description="part of an alias, in whatever case")
]
TierQuery = Annotated[
    Tier | None,
    QueryParameter(name="tier", description="the fastest place any of its versions is in"),
]
IncludeQuery = Annotated[
    list[Include] | None,
    QueryParameter(name="include", description="what else is told of each; repeat it"),
]


class AdapterController(Controller):
    """A tenant's adapters. Operators add `?tenant=NAME`."""

    path = "/api/v1/adapters"
    tags = ("adapters",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @post(
        operation_id="PushAdapter",
        operation_class=PushOperation,
        request_max_body_size=MULTIPART_LIMIT,
    )
    async def push(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        principal: NamedDependency[Principal],
        settings: NamedDependency[Settings],
        intake: NamedDependency[Intake],
        catalog: NamedDependency[CatalogService],
    ) -> VersionOut:
        """Push an adapter in one request; the answer is its new version, ready to be used."""
        content_type = request.headers.get("content-type", "")
        spool = settings.data_dir / "spool"
        form = await read_adapter_form(content_type, request.stream(), spool, MULTIPART_LIMIT)
        with form.file:
            name = form.required("name")
            if not principal.may_see(name):
                raise no_adapter(name)
            intent = intake.intent(
                owner,
                name=name,
                config=form.required("config").encode(),
                base=form.text("base"),
                alias=form.text("alias"),
                chat_template=form.text("chat_template"),
                source={"kind": "push"},
                parent=_parent(form.text("parent")),
                defaults=_read(form.text("defaults"), read_defaults),
                golden=_read(form.text("golden"), read_golden) or (),
            )
            n = await intake.push(principal, intent, form.file, form.size)
        found = await catalog.get_version(principal, owner, intent.name, n)
        return VersionOut.of(intent.name, *found)

    @get(operation_id="ListAdapters")
    async def list_adapters(
        self,
        owner: NamedDependency[UUID],
        principal: NamedDependency[Principal],
        adapter_table: NamedDependency[AdapterTable],
        after: FromQuery[str] = "",
        search: FromQuery[str] = "",
        base: BaseQuery = "",
        alias: AliasQuery = "",
        tier: TierQuery = None,
        include: IncludeQuery = None,
        limit: Limit = 100,
    ) -> AdapterList:
        """Adapters by name; with `search` those whose names contain it, in whatever case."""
        wanted = Wanted(search=search, base=base, alias=alias, tier=tier)
        rows = await adapter_table.page(principal, owner, wanted, after, limit, include or ())
        following = rows[-1].adapter.name if len(rows) == limit else None
        return AdapterList([AdapterOut.in_table(row, include or ()) for row in rows], following)

    @get("/{name:str}", operation_id="GetAdapter")
    async def get_adapter(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        catalog: NamedDependency[CatalogService],
    ) -> AdapterOut:
        """One adapter with its versions and aliases."""
        adapter, versions, aliases = await catalog.get_adapter(principal, owner, name)
        return AdapterOut.of(adapter, aliases, versions)

    @patch("/{name:str}", operation_id="ChangeAdapter", operation_class=ChangeAdapterOperation)
    async def change_adapter(
        self,
        request: Request[Any, Any, State],
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        catalog: NamedDependency[CatalogService],
    ) -> AdapterOut:
        """Pin an adapter (operators only), or limit how many of its requests run at once."""
        data = decode_body(await request.body(), AdapterChange)
        await catalog.change_adapter(principal, owner, name, data.pinned, data.max_running)
        adapter, versions, aliases = await catalog.get_adapter(principal, owner, name)
        return AdapterOut.of(adapter, aliases, versions)

    @delete("/{name:str}", operation_id="DeleteAdapter")
    async def delete_adapter(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        removals: NamedDependency[Removals],
    ) -> None:
        """Remove an adapter with every version, from the database and from every engine."""
        await removals.delete_adapter(principal, owner, name)

    @get("/{name:str}/versions", operation_id="ListVersions")
    async def list_versions(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        catalog: NamedDependency[CatalogService],
    ) -> VersionList:
        """Versions, newest first."""
        adapter, versions, aliases = await catalog.get_adapter(principal, owner, name)
        return VersionList([VersionOut.of(adapter.name, v, aliases) for v in versions])

    @get("/{name:str}/versions/{n:int}", operation_id="GetVersion")
    async def get_version(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        catalog: NamedDependency[CatalogService],
    ) -> VersionOut:
        """One version: where it comes from, its admission report, its golden prompts."""
        return VersionOut.of(name, *await catalog.get_version(principal, owner, name, n))

    @delete("/{name:str}/versions/{n:int}", operation_id="DeleteVersion")
    async def delete_version(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        n: FromPath[int],
        principal: NamedDependency[Principal],
        removals: NamedDependency[Removals],
    ) -> None:
        """Remove a version no alias names, from the database and from every engine."""
        await removals.delete_version(principal, owner, name, n)


def _parent(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise BadRequestError(
            "parent: give the number of a version.", param="parent", code="invalid_value"
        )
    return int(text)


def _read(text: str | None, read: Callable[[bytes], Read]) -> Read | None:
    return None if text is None else read(text.encode())
