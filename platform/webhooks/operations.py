"""Owns the OpenAPI of the routes of webhooks that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema
from loraplex.platform.webhooks.events import Event
from loraplex.platform.webhooks.schemas import DESCRIPTION_LENGTH, URL_LENGTH


def _fields() -> dict[str, Schema]:
    event = Schema(type=OpenAPIType.STRING, enum=[event.value for event in Event])
    return {
        "url": Schema(
            type=OpenAPIType.STRING,
            min_length=1,
            max_length=URL_LENGTH,
            description="https://HOST/PATH on the public internet",
        ),
        "events": Schema(
            type=OpenAPIType.ARRAY, items=event, description="what to tell of; none: everything"
        ),
        "description": Schema(type=OpenAPIType.STRING, max_length=DESCRIPTION_LENGTH),
    }


@dataclass
class CreateWebhookOperation(Operation):
    """What a new webhook needs."""

    def __post_init__(self) -> None:
        self.request_body = body_of("application/json", object_schema(_fields(), ["url"]))


@dataclass
class ChangeWebhookOperation(Operation):
    """What can be changed about a webhook."""

    def __post_init__(self) -> None:
        fields = {**_fields(), "enabled": Schema(type=OpenAPIType.BOOLEAN)}
        self.request_body = body_of("application/json", object_schema(fields, required=[]))
