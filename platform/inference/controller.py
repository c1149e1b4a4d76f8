"""Owns the OpenAI routes, each at `/v1/...` and at `/t/{tenant}/v1/...`. Keys, scopes and the tenant of the path were
checked before a handler runs. Those called most take one dependency only: of several the framework makes a task
each."""

from typing import Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.types import ASGIApp

from loraplex.platform.auth.guards import principal_of
from loraplex.platform.auth.principal import Principal
from loraplex.platform.inference.asking import ask
from loraplex.platform.inference.bodies import Model, ModelList
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.inference.service import InferenceService

MAX_BODY_BYTES = 8 * 1024 * 1024


class InferenceController(Controller):
    """Models, completions and chat."""

    tags = ["inference"]  # noqa: RUF012 - the name and the type are Litestar's
    request_max_body_size = MAX_BODY_BYTES

    @get(["/v1/models", "/t/{tenant:str}/v1/models"])
    async def list_models(
        self, inference: NamedDependency[InferenceService], principal: NamedDependency[Principal]
    ) -> ModelList:
        """Base models, and the tenant's adapters and aliases."""
        return ModelList(await inference.models(principal))

    @get(["/v1/models/{model:path}", "/t/{tenant:str}/v1/models/{model:path}"])
    async def get_model(
        self,
        model: FromPath[str],
        inference: NamedDependency[InferenceService],
        principal: NamedDependency[Principal],
    ) -> Model:
        """One model; its id may contain `/`, `:` and `@`."""
        return await inference.model(principal, model.removeprefix("/"))

    @post(["/v1/completions", "/t/{tenant:str}/v1/completions"], status_code=200)
    async def complete(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
    ) -> ASGIApp:
        """Continue one or more prompts."""
        who = principal_of(request)
        return await ask(request, inference, who, CompletionRequest, inference.complete)

    @post(["/v1/chat/completions", "/t/{tenant:str}/v1/chat/completions"], status_code=200)
    async def chat(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
    ) -> ASGIApp:
        """Answer a conversation."""
        who = principal_of(request)
        return await ask(request, inference, who, ChatRequest, inference.chat)
