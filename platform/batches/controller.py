"""Owns the routes of batches, each at `/v1/...` and at `/t/{tenant}/v1/...`."""

from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.principal import Principal
from loraplex.platform.batches.operations import CreateBatchOperation
from loraplex.platform.batches.schemas import BatchOut, BatchPage, NewBatch
from loraplex.platform.batches.service import Batches
from loraplex.platform.body import decode_body
from loraplex.platform.files.ids import BATCH, read, read_cursor
from loraplex.platform.files.owner import maker_of, owner_of
from loraplex.platform.nul import refuse_nul

Limit = Annotated[int, QueryParameter(ge=1, le=100)]
_ONE = "/v1/batches/{batch_id:str}"


class BatchController(Controller):
    """A tenant's batches."""

    tags = ("batches",)
    guards = (refuse_nul,)

    @post(
        ["/v1/batches", "/t/{tenant:str}/v1/batches"],
        operation_class=CreateBatchOperation,
        status_code=200,
    )
    async def create_batch(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        batches: NamedDependency[Batches],
    ) -> BatchOut:
        """Run the requests of a file when there is room."""
        new = decode_body(await request.body(), NewBatch)
        return BatchOut.of(await batches.create(principal, owner_of(principal), new))

    @get(["/v1/batches", "/t/{tenant:str}/v1/batches"])
    async def list_batches(
        self,
        principal: NamedDependency[Principal],
        batches: NamedDependency[Batches],
        after: FromQuery[str | None] = None,
        limit: Limit = 20,
    ) -> BatchPage:
        """Batches, newest first."""
        owner, maker = owner_of(principal), maker_of(principal)
        rows = await batches.list(owner, read_cursor(BATCH, after), limit + 1, maker)
        data = [BatchOut.of(row) for row in rows[:limit]]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return BatchPage(data, first, last, len(rows) > limit)

    @get([_ONE, f"/t/{{tenant:str}}{_ONE}"])
    async def get_batch(
        self,
        batch_id: FromPath[str],
        principal: NamedDependency[Principal],
        batches: NamedDependency[Batches],
    ) -> BatchOut:
        """How far a batch is, or what came of it."""
        owner, maker = owner_of(principal), maker_of(principal)
        return BatchOut.of(await batches.get(owner, read(BATCH, batch_id), maker))

    @post([f"{_ONE}/cancel", f"/t/{{tenant:str}}{_ONE}/cancel"], status_code=200)
    async def cancel_batch(
        self,
        batch_id: FromPath[str],
        principal: NamedDependency[Principal],
        batches: NamedDependency[Batches],
    ) -> BatchOut:
        """Run no more of a batch."""
        owner, maker = owner_of(principal), maker_of(principal)
        return BatchOut.of(await batches.cancel(owner, read(BATCH, batch_id), maker))
