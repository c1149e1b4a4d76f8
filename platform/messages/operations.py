"""Owns the OpenAPI of the routes of messages, which read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema


def _prompt() -> dict[str, Schema]:
    objects = Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT))
    return {
        "model": Schema(type=OpenAPIType.STRING, description="a base model, or an adapter"),
        "messages": objects,
        "system": Schema(description="text, or a list of blocks"),
        "tools": objects,
    }


@dataclass
class CreateMessageOperation(Operation):
    """What a message needs."""

    def __post_init__(self) -> None:
        fields = {
            **_prompt(),
            "max_tokens": Schema(type=OpenAPIType.INTEGER, minimum=1),
            "stream": Schema(type=OpenAPIType.BOOLEAN),
        }
        required = ["model", "messages", "max_tokens"]
        self.request_body = body_of("application/json", object_schema(fields, required))


@dataclass
class CountMessageTokensOperation(Operation):
    """What is needed to count a prompt."""

    def __post_init__(self) -> None:
        self.request_body = body_of(
            "application/json", object_schema(_prompt(), ["model", "messages"])
        )
