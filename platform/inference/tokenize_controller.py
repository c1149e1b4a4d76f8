"""Owns the routes of tokenize and detokenize: where vLLM has them, at the root, and under both base URLs. Keys, scopes
and the tenant of the path were checked before a handler runs."""

from typing import Any

from litestar import Controller, Request, post
from litestar.datastructures import State
from litestar.di import NamedDependency

from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.inference.controller import MAX_BODY_BYTES
from loraplex.platform.inference.costs import begin_costs
from loraplex.platform.inference.operations import DetokenizeOperation, TokenizeOperation
from loraplex.platform.inference.service import InferenceService
from loraplex.platform.inference.tokenizing import (
    Detokenized,
    DetokenizeRequest,
    Tokenized,
    TokenizeRequest,
    detokenize,
    tokenize,
)


class TokenizeController(Controller):
    """Texts to token ids and back, as the model reads them."""

    tags = ("inference",)
    request_max_body_size = MAX_BODY_BYTES

    @post(
        ["/tokenize", "/v1/tokenize", "/t/{tenant:str}/v1/tokenize"],
        status_code=200,
        operation_class=TokenizeOperation,
    )
    async def tokenize(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> Tokenized:
        """The token ids a prompt or a conversation begins with."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), TokenizeRequest)
        return await tokenize(inference, principal, body, costs)

    @post(
        ["/detokenize", "/v1/detokenize", "/t/{tenant:str}/v1/detokenize"],
        status_code=200,
        operation_class=DetokenizeOperation,
    )
    async def detokenize(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> Detokenized:
        """The text of token ids."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), DetokenizeRequest)
        return await detokenize(inference, principal, body, costs)
