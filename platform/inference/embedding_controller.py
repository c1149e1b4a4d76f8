"""Owns the route of embeddings, at `/v1/embeddings` and at `/t/{tenant}/v1/embeddings`. Keys, scopes and the tenant of
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
from loraplex.platform.inference.embedding_schemas import EmbeddingRequest
from loraplex.platform.inference.embeddings import embed
from loraplex.platform.inference.operations import EmbedOperation
from loraplex.platform.inference.service import InferenceService


class EmbeddingController(Controller):
    """Vectors of texts."""

    tags = ("inference",)
    request_max_body_size = MAX_BODY_BYTES

    @post(
        ["/v1/embeddings", "/t/{tenant:str}/v1/embeddings"],
        status_code=200,
        operation_class=EmbedOperation,
    )
    async def embed(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> ASGIApp:
        """Turn one or more texts into vectors."""
        costs = begin_costs(request.scope)
        body = decode_body(await request.body(), EmbeddingRequest)
        return await deliver(
            request,
            embed(inference, principal, body, costs),
            lambda: inference.model(principal, body.model),
            stream=False,
        )
