"""Owns the routes of prices."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, put
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, QueryParameter

from loraplex.platform.auth.guards import requires_adapters, requires_operator
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.limits.operations import SetPriceOperation
from loraplex.platform.limits.prices import PriceService
from loraplex.platform.limits.schemas import PriceList, PriceOut, PriceSet
from loraplex.platform.nul import refuse_nul

AnyRequest = Request[Any, Any, State]  # Litestar's own generic
Base = Annotated[
    str | None,
    QueryParameter(description="base model, needed where the adapter has versions for several"),
]


class PriceController(Controller):
    """Prices of base models: operators set them, everybody may see them."""

    path = "/api/v1/prices"
    tags = ("prices",)
    guards = (refuse_nul,)

    @get(operation_id="ListPrices")
    async def list_prices(self, prices: NamedDependency[PriceService]) -> PriceList:
        """What base models cost."""
        rows = await prices.list_of_bases()
        return PriceList([PriceOut.of(base, None, row) for base, row in rows])

    @get("/{base:path}", operation_id="GetPrice")
    async def get_price(
        self, base: FromPath[str], prices: NamedDependency[PriceService]
    ) -> PriceOut:
        """What one base model costs; its id may contain `/` and `:`."""
        name = base.removeprefix("/")
        return PriceOut.of(name, None, await prices.of_base(name))

    @put(
        "/{base:path}",
        operation_id="SetPrice",
        operation_class=SetPriceOperation,
        guards=[requires_operator],
    )
    async def set_price(
        self,
        request: AnyRequest,
        base: FromPath[str],
        principal: NamedDependency[Principal],
        prices: NamedDependency[PriceService],
    ) -> PriceOut:
        """Set what a base model costs."""
        nanos = decode_body(await request.body(), PriceSet).nanos()
        name = base.removeprefix("/")
        await prices.set_base(principal, name, nanos)
        return PriceOut.of(name, None, await prices.of_base(name))

    @delete("/{base:path}", operation_id="ClearPrice", guards=[requires_operator])
    async def clear_price(
        self,
        base: FromPath[str],
        principal: NamedDependency[Principal],
        prices: NamedDependency[PriceService],
    ) -> None:
        """Let a base model cost nothing."""
        await prices.clear_base(principal, base.removeprefix("/"))


class AdapterPriceController(Controller):
    """Prices of adapters that have their own: operators set them, their tenant may see them."""

    path = "/api/v1/adapters/{name:str}/price"
    tags = ("prices",)
    guards = (requires_adapters, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's declaration

    @get(operation_id="GetAdapterPrice")
    async def get_price(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        prices: NamedDependency[PriceService],
        base: Base = None,
    ) -> PriceOut:
        """What requests of an adapter cost: its own price, or its base model's."""
        found, row, own = await prices.of_adapter(principal, owner, name, base)
        return PriceOut.of(found, name, row, own=own)

    @put(
        operation_id="SetAdapterPrice",
        operation_class=SetPriceOperation,
        guards=[requires_operator],
    )
    async def set_price(
        self,
        request: AnyRequest,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        prices: NamedDependency[PriceService],
        base: Base = None,
    ) -> PriceOut:
        """Give an adapter a price of its own."""
        nanos = decode_body(await request.body(), PriceSet).nanos()
        await prices.set_adapter(principal, owner, name, base, nanos)
        found, row, own = await prices.of_adapter(principal, owner, name, base)
        return PriceOut.of(found, name, row, own=own)

    @delete(operation_id="ClearAdapterPrice", guards=[requires_operator])
    async def clear_price(
        self,
        owner: NamedDependency[UUID],
        name: FromPath[str],
        principal: NamedDependency[Principal],
        prices: NamedDependency[PriceService],
        base: Base = None,
    ) -> None:
        """Let an adapter cost what its base model does."""
        await prices.clear_adapter(principal, owner, name, base)
