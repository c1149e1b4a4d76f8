"""Owns the routes of the Responses API, each at `/v1/...` and at `/t/{tenant}/v1/...`. Keys, scopes and the tenant of
the path were checked before a handler runs."""

from typing import Annotated, Any, Literal

from litestar import Controller, Request, delete, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, QueryParameter
from litestar.types import ASGIApp

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.controller import MAX_BODY_BYTES
from loraplex.platform.inference.costs import begin_costs
from loraplex.platform.inference.delivery import deliver
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.nul import refuse_nul
from loraplex.platform.responses.bodies import Deleted, InputTokens, ItemList, Response
from loraplex.platform.responses.items import Item
from loraplex.platform.responses.operations import CountTokensOperation, CreateResponseOperation
from loraplex.platform.responses.schemas import ResponseRequest, TokensRequest
from loraplex.platform.responses.service import Responses
from loraplex.platform.responses.store import ResponseStore

Limit = Annotated[int, QueryParameter(ge=1, le=100)]


def _at(path: str) -> list[str]:
    return [f"/v1/responses{path}", f"/t/{{tenant:str}}/v1/responses{path}"]


_ONE = "/{response_id:str}"


class ResponseController(Controller):
    """Responses: made, looked at, deleted, built on."""

    tags = ("responses",)
    guards = (refuse_nul,)
    request_max_body_size = MAX_BODY_BYTES

    @post(_at(""), status_code=200, operation_class=CreateResponseOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        responses: NamedDependency[Responses],
        principal: NamedDependency[Principal],
    ) -> ASGIApp:
        """Answer what is asked, and keep the answer unless told not to."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), ResponseRequest)
        return await deliver(
            request,
            responses.create(principal, body, costs),
            lambda: inference.model(principal, body.model),
            stream=bool(body.stream),
        )

    @post(_at("/input_tokens"), status_code=200, operation_class=CountTokensOperation)
    async def count_tokens(
        self,
        request: Request[Any, Any, State],
        responses: NamedDependency[Responses],
        principal: NamedDependency[Principal],
    ) -> InputTokens:
        """How many tokens the prompt of a request would have."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), TokensRequest)
        return InputTokens(await responses.count(principal, body, costs))

    @get(_at(_ONE))
    async def get_response(
        self,
        response_id: FromPath[str],
        principal: NamedDependency[Principal],
        response_store: NamedDependency[ResponseStore],
        stream: FromQuery[bool] = False,
    ) -> Response:
        """A response that was kept."""
        if stream:
            raise BadRequestError(
                "stream: a response can only be streamed as it is made; leave stream out.",
                param="stream",
                code="unsupported_value",
            )
        return await response_store.get(principal, response_id)

    @delete(_at(_ONE), status_code=200)
    async def delete_response(
        self,
        response_id: FromPath[str],
        principal: NamedDependency[Principal],
        response_store: NamedDependency[ResponseStore],
    ) -> Deleted:
        """Remove a response for good; nothing can build on it, or on what was built on it, any more."""
        await response_store.delete(principal, response_id)
        return Deleted(response_id)

    @post(_at(f"{_ONE}/cancel"), status_code=200)
    async def cancel(
        self,
        response_id: FromPath[str],
        principal: NamedDependency[Principal],
        response_store: NamedDependency[ResponseStore],
    ) -> Response:
        """Refused: what is cancelled here is cancelled by closing its connection."""
        await response_store.get(principal, response_id)
        raise BadRequestError(
            "Only responses that were made with background can be cancelled; to end another, close its connection.",
            param="response_id",
            code="unsupported_value",
        )

    @get(_at(f"{_ONE}/input_items"))
    async def list_input_items(
        self,
        response_id: FromPath[str],
        principal: NamedDependency[Principal],
        response_store: NamedDependency[ResponseStore],
        after: FromQuery[str | None] = None,
        limit: Limit = 20,
        order: FromQuery[Literal["asc", "desc"]] = "desc",
    ) -> ItemList:
        """The items a response was made from, with those of the responses it builds on."""
        items = await response_store.input_items(principal, response_id)
        return page(items if order == "asc" else items[::-1], after, limit)


def page(items: list[Item], after: str | None, limit: int) -> ItemList:
    """Items behind the one with the id `after`.

    Raises:
        BadRequestError: there is no such item.
    """
    begin = 0
    if after is not None:
        begin = next((i + 1 for i, item in enumerate(items) if item.id == after), 0)
        if not begin:
            raise BadRequestError("after: there is no such item.", param="after")
    data = items[begin : begin + limit]
    ids = [item.id for item in data]
    return ItemList(data, ids[0] if ids else "", ids[-1] if ids else "", begin + limit < len(items))
