"""Owns the OpenAPI of the routes of responses that read their body themselves."""

from dataclasses import dataclass

from litestar.openapi.spec import Operation, Schema
from litestar.openapi.spec.enums import OpenAPIType

from loraplex.platform.body_schema import body_of, object_schema


def _prompt() -> dict[str, Schema]:
    return {
        "model": Schema(type=OpenAPIType.STRING, description="a base model, or an adapter"),
        "input": Schema(description="text, or a list of items"),
        "instructions": Schema(type=OpenAPIType.STRING),
        "previous_response_id": Schema(type=OpenAPIType.STRING),
        "tools": Schema(type=OpenAPIType.ARRAY, items=Schema(type=OpenAPIType.OBJECT)),
    }


@dataclass
class CreateResponseOperation(Operation):
    """What a response needs."""

    def __post_init__(self) -> None:
        fields = {
            **_prompt(),
            "max_output_tokens": Schema(type=OpenAPIType.INTEGER, minimum=16),
            "stream": Schema(type=OpenAPIType.BOOLEAN),
            "store": Schema(type=OpenAPIType.BOOLEAN),
        }
        self.request_body = body_of("application/json", object_schema(fields, ["model", "input"]))


@dataclass
class CountTokensOperation(Operation):
    """What is needed to count a prompt."""

    def __post_init__(self) -> None:
        self.request_body = body_of(
            "application/json", object_schema(_prompt(), ["model", "input"])
        )
