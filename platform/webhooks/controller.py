"""Owns the routes of webhooks."""

from typing import Annotated, Any
from uuid import UUID

from litestar import Controller, Request, delete, get, patch, post
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath, FromQuery, QueryParameter

from loraplex.platform.auth.guards import requires_admin
from loraplex.platform.auth.principal import Principal
from loraplex.platform.body import decode_body
from loraplex.platform.catalog.owner import provide_owner
from loraplex.platform.nul import refuse_nul
from loraplex.platform.webhooks.operations import ChangeWebhookOperation, CreateWebhookOperation
from loraplex.platform.webhooks.schemas import (
    DeliveryList,
    DeliveryOut,
    WebhookChange,
    WebhookCreate,
    WebhookList,
    WebhookOut,
)
from loraplex.platform.webhooks.service import Webhooks

Limit = Annotated[int, QueryParameter(ge=1, le=1000)]
_ONE = "/{webhook_id:uuid}"


class WebhookController(Controller):
    """A tenant's admins, and operators with `?tenant=NAME`, say where events go."""

    path = "/api/v1/webhooks"
    tags = ("webhooks",)
    guards = (requires_admin, refuse_nul)
    dependencies = {"owner": Provide(provide_owner)}  # noqa: RUF012  # Litestar's own way

    @post(operation_id="CreateWebhook", operation_class=CreateWebhookOperation)
    async def create(
        self,
        request: Request[Any, Any, State],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> WebhookOut:
        """Make a webhook. Its secret is in this answer and nowhere else."""
        data = decode_body(await request.body(), WebhookCreate)
        hook, secret = await webhooks.create(principal, owner, data)
        return WebhookOut.of(hook, secret)

    @get(operation_id="ListWebhooks")
    async def list_webhooks(
        self, owner: NamedDependency[UUID], webhooks: NamedDependency[Webhooks]
    ) -> WebhookList:
        """Every webhook of the tenant, oldest first."""
        return WebhookList([WebhookOut.of(hook) for hook in await webhooks.list(owner)])

    @get(_ONE, operation_id="GetWebhook")
    async def get_webhook(
        self,
        webhook_id: FromPath[UUID],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> WebhookOut:
        """One webhook."""
        return WebhookOut.of(await webhooks.get(owner, webhook_id))

    @patch(_ONE, operation_id="ChangeWebhook", operation_class=ChangeWebhookOperation)
    async def change(
        self,
        request: Request[Any, Any, State],
        webhook_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> WebhookOut:
        """Change a webhook, or switch it off and on."""
        data = decode_body(await request.body(), WebhookChange)
        return WebhookOut.of(await webhooks.change(principal, owner, webhook_id, data))

    @delete(_ONE, operation_id="DeleteWebhook")
    async def delete(
        self,
        webhook_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> None:
        """Remove a webhook with its deliveries."""
        await webhooks.delete(principal, owner, webhook_id)

    @post(f"{_ONE}/secret", operation_id="RenewWebhookSecret")
    async def renew_secret(
        self,
        webhook_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> WebhookOut:
        """A new secret, in this answer and nowhere else. For a day messages are signed with both."""
        hook, secret = await webhooks.renew_secret(principal, owner, webhook_id)
        return WebhookOut.of(hook, secret)

    @post(f"{_ONE}/test", operation_id="TestWebhook", status_code=202)
    async def test(
        self,
        webhook_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> DeliveryOut:
        """Send a `webhook.test`."""
        return DeliveryOut.of(await webhooks.test(principal, owner, webhook_id))

    @get(f"{_ONE}/deliveries", operation_id="ListWebhookDeliveries")
    async def list_deliveries(
        self,
        webhook_id: FromPath[UUID],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
        before: FromQuery[UUID | None] = None,
        limit: Limit = 100,
    ) -> DeliveryList:
        """What was sent and what is to be, newest first."""
        rows = await webhooks.deliveries(owner, webhook_id, before, limit)
        following = str(rows[-1].id) if len(rows) == limit else None
        return DeliveryList([DeliveryOut.of(row) for row in rows], following)

    @post(
        f"{_ONE}/deliveries/{{delivery_id:uuid}}/redeliver",
        operation_id="RedeliverWebhook",
        status_code=202,
    )
    async def redeliver(
        self,
        webhook_id: FromPath[UUID],
        delivery_id: FromPath[UUID],
        principal: NamedDependency[Principal],
        owner: NamedDependency[UUID],
        webhooks: NamedDependency[Webhooks],
    ) -> DeliveryOut:
        """Send one event again, under its own id."""
        return DeliveryOut.of(await webhooks.redeliver(principal, owner, webhook_id, delivery_id))
