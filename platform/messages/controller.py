"""Owns the routes of the Messages API, each at `/v1/...` and at `/t/{tenant}/v1/...`. Keys, scopes and the tenant of
the path were checked before a handler runs."""

from typing import Any

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.types import ASGIApp

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.inference.controller import MAX_BODY_BYTES
from loraplex.platform.inference.costs import begin_costs
from loraplex.platform.inference.delivery import deliver
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.messages.bodies import TokenCount
from loraplex.platform.messages.operations import (
    CountMessageTokensOperation,
    CreateMessageOperation,
)
from loraplex.platform.messages.schemas import CountRequest, MessagesRequest
from loraplex.platform.messages.service import Messages
from loraplex.platform.observability import request_id


class MessageController(Controller):
    """Messages, as Anthropic's clients ask for them."""

    tags = ("messages",)
    request_max_body_size = MAX_BODY_BYTES

    @post(
        ["/v1/messages", "/t/{tenant:str}/v1/messages"],
        status_code=200,
        operation_class=CreateMessageOperation,
    )
    async def create(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> ASGIApp:
        """Answer a conversation."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), MessagesRequest)
        start = Messages(inference).create(principal, body, costs, request_id(request.scope))
        return await deliver(
            request,
            start,
            lambda: inference.model(principal, body.model),
            stream=bool(body.stream),
        )

    @post(
        ["/v1/messages/count_tokens", "/t/{tenant:str}/v1/messages/count_tokens"],
        status_code=200,
        operation_class=CountMessageTokensOperation,
    )
    async def count_tokens(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> TokenCount:
        """How many tokens the prompt of a request would have."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), CountRequest)
        return TokenCount(await Messages(inference).count(principal, body, costs))
