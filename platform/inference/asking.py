"""Owns how a completion or a chat is asked for over HTTP, by whichever route: read, begun, delivered in chunks."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from litestar import Request
from litestar.datastructures import State
from litestar.types import ASGIApp

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.inference.answer import Answer
from loraplex.platform.inference.costs import Costs, begin_costs
from loraplex.platform.inference.delivery import ChunkDelivery, deliver
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.inference.service import InferenceService

Asked = TypeVar("Asked", CompletionRequest, ChatRequest)


async def ask(
    request: Request[Any, Any, State],
    inference: InferenceService,
    principal: Principal,
    kind: type[Asked],
    begin: Callable[[Principal, Asked, Costs], Awaitable[Answer]],
) -> ASGIApp:
    """Answer a request on behalf of `principal`.

    Args:
        kind: what the body is.
        begin: starts its jobs.

    Raises:
        PlatformError: it cannot be served.
    """
    costs = begin_costs(request.scope)
    body = decode_body(await request.body(), kind)

    async def start() -> ChunkDelivery:
        return ChunkDelivery(await begin(principal, body, costs))

    return await deliver(
        request,
        start(),
        lambda: inference.model(principal, body.model),
        stream=bool(body.stream),
    )
