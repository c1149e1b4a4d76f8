"""Owns the routes by which a signed-in user tries models: the same service as under `/v1`, without a key in the
browser. Requests are the tenant's own in every respect: limits, ledger, prices."""

from dataclasses import dataclass
from typing import Annotated, Any

from litestar import Controller, Request, get, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType
from litestar.params import FromQuery, QueryParameter
from litestar.types import ASGIApp

from loraplex.platform.accounts.answers import provide_signed_in
from loraplex.platform.accounts.signed_in import SignedIn
from loraplex.platform.auth.guards import principal_of, requires_user
from loraplex.platform.auth.principal import Principal, Scope
from loraplex.platform.body_schema import body_of
from loraplex.platform.catalog.owner import TenantQuery
from loraplex.platform.errors import BadRequestError, NotFoundError, PermissionDeniedError
from loraplex.platform.inference.asking import ask
from loraplex.platform.inference.bodies import ModelList
from loraplex.platform.inference.controller import MAX_BODY_BYTES
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.inference.service import InferenceService

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


@dataclass
class AskOperation(Operation):
    """The body is that of the route of the same name under `/v1`."""

    def __post_init__(self) -> None:
        self.request_body = body_of("application/json", Schema(type=OpenAPIType.OBJECT))


def provide_tester(
    request: Request[Any, Any, State],
    signed_in: NamedDependency[SignedIn],
    of_tenant: TenantQuery = None,
) -> Principal:
    """Dependency `tester`: the user as a member of the tenant. Operators run models only where they are members, as
    everybody else: what is run is on the tenant's bill.

    Raises:
        BadRequestError: several tenants, and none is named.
        NotFoundError: the user is no member of the tenant.
        PermissionDeniedError: the role is too small.
    """
    roles = [role for role in signed_in.roles if of_tenant in (None, role.tenant_name)]
    if of_tenant is not None and not roles:
        raise NotFoundError(f"You are no member of a tenant {of_tenant[:63]!r}.")
    if len(roles) != 1:
        raise BadRequestError("Say for which tenant: add ?tenant=NAME.", param="tenant")
    (role,) = roles
    if Scope.INFERENCE not in role.role.scopes:
        raise PermissionDeniedError("Your role does not allow this; ask an admin of the tenant.")
    return Principal(
        actor_id=signed_in.user_id,
        actor_name=signed_in.email,
        is_user=True,
        tenant_id=role.tenant_id,
        tenant_name=role.tenant_name,
        scopes=role.role.scopes,
        role=role.role,
        address=principal_of(request).address,
    )


class PlaygroundController(Controller):
    """For the browser of somebody who is signed in."""

    path = "/api/v1/playground"
    tags = ("playground",)
    guards = (requires_user,)
    request_max_body_size = MAX_BODY_BYTES
    dependencies = {  # noqa: RUF012 - Litestar's own form
        "signed_in": Provide(provide_signed_in, sync_to_thread=False),
        "tester": Provide(provide_tester, sync_to_thread=False),
    }

    @get("/models", operation_id="ListPlaygroundModels")
    async def models(
        self,
        inference: NamedDependency[InferenceService],
        tester: NamedDependency[Principal],
        search: FromQuery[str] = "",
        limit: Limit = 1000,
    ) -> ModelList:
        """What can be tried; with `search` those whose names contain it, in whatever case."""
        wanted = search.casefold()
        models = await inference.models(tester)
        return ModelList([each for each in models if wanted in each.id.casefold()][:limit])

    @post(
        "/completions",
        operation_id="TryCompletion",
        operation_class=AskOperation,
        status_code=200,
    )
    async def complete(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        tester: NamedDependency[Principal],
    ) -> ASGIApp:
        """Continue one or more prompts."""
        return await ask(request, inference, tester, CompletionRequest, inference.complete)

    @post(
        "/chat/completions",
        operation_id="TryChat",
        operation_class=AskOperation,
        status_code=200,
    )
    async def chat(
        self,
        request: Request[Any, Any, State],
        inference: NamedDependency[InferenceService],
        tester: NamedDependency[Principal],
    ) -> ASGIApp:
        """Answer a conversation."""
        return await ask(request, inference, tester, ChatRequest, inference.chat)
